"""What is done to a clip on its way to training, in words; it follows from the file's facts and the settings."""

from collections.abc import Iterator

from t2v.config import DataSettings
from t2v.data.check.looks import Look
from t2v.data.folder import ClipRecord


def scale(clip: ClipRecord, data: DataSettings) -> float:
    """How many times larger the picture is as it is seen; below 1 it is shrunk."""
    side = max(clip.width, clip.height) if data.fit == "pad" else min(clip.width, clip.height)
    return data.size / side


def hidden_share(clip: ClipRecord, data: DataSettings) -> float:
    """Share of the picture that is cut off."""
    return 1 - min(clip.width, clip.height) / max(clip.width, clip.height) if data.fit == "crop" else 0.0


def picture_ms(clip: ClipRecord, look: Look, fps: float | None) -> float:
    """Time from one picture seen to the next."""
    return 1000 / fps if fps else clip.duration_ms / look.num_pictures


def treatment(clip: ClipRecord, look: Look, data: DataSettings) -> tuple[str, ...]:
    """All that is done to a clip, each in a few words."""
    return tuple(_treatment(clip, look, data))


def _treatment(clip: ClipRecord, look: Look, data: DataSettings) -> Iterator[str]:
    times = scale(clip, data)
    if times < 1:
        yield f"shrunk to {times:.0%}"
    elif times > 1:
        yield f"enlarged {times:.3g} times"
    sides = "top and bottom" if clip.height > clip.width else "left and right"
    if hidden := hidden_share(clip, data):
        yield f"{hidden:.0%} cut off at {sides}"
    elif data.fit == "pad" and clip.width != clip.height:
        # Padding lies along the shorter side.
        sides = "left and right" if clip.height > clip.width else "top and bottom"
        yield f"padded with {'transparency' if data.channels == 4 else data.background} at {sides}"
    elif data.fit == "stretch" and clip.width != clip.height:
        yield "stretched to a square"
    if clip.num_frames == 1:
        yield "a still"
    elif data.fps:
        yield f"{look.num_pictures} pictures at {data.fps:g} a second"
    elif clip.num_frames < look.num_pictures:
        yield f"{clip.num_frames} frames shown as {look.num_pictures} pictures"
    elif clip.num_frames > look.num_pictures:
        yield f"{look.num_pictures} of {clip.num_frames} frames taken"
