"""A clip in memory, and how its frames become what the network trains on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageColor

from t2v.config import FitName, ShortName
from t2v.errors import SettingsError

Resampling = Image.Resampling


@dataclass(frozen=True)
class Clip:
    """A moving picture as a browser shows it, one full canvas per frame.

    frames: uint8 `f h w 4`, RGBA with straight alpha; f >= 1
    frame_ms: float64 `f`, how long each frame stays on the screen; [0] for a still, which knows no time
    source_size: width and height in the file, where reading it shrank the frames
    """

    frames: np.ndarray
    frame_ms: np.ndarray
    source_size: tuple[int, int] | None = None

    @property
    def duration_ms(self) -> float:
        """Time from the first frame to the end of the last."""
        return float(self.frame_ms.sum())

    @property
    def width(self) -> int:
        """Width of the picture in the file, in pixels."""
        return self.source_size[0] if self.source_size else self.frames.shape[2]

    @property
    def height(self) -> int:
        """Height of the picture in the file, in pixels."""
        return self.source_size[1] if self.source_size else self.frames.shape[1]


def frame_times(frame_ms: np.ndarray | Sequence[float], num_frames: int) -> np.ndarray:
    """Which frames are on the screen at the midpoints of `num_frames` equal parts of the clip's time.

    frame_ms: `f`, each > 0. Returns int64 `num_frames`, never falling, in [0, f): a long frame comes up more often
    than a short one, and a clip with few frames repeats the one that is showing.
    """
    ends = np.cumsum(np.asarray(frame_ms, dtype=np.float64))
    midpoints = (np.arange(num_frames) + 0.5) * ends[-1] / num_frames
    return np.asarray(np.searchsorted(ends, midpoints, side="right"), dtype=np.int64)


def grid_times(frame_ms: np.ndarray | Sequence[float], fps: float) -> np.ndarray:
    """Which frames are on the screen at the midpoints of parts of 1 / fps seconds, from the first to the last part
    whose midpoint lies in the clip; at least one.

    frame_ms: as for `frame_times`. Returns int64 `n`, never falling, in [0, f).
    """
    ends = np.cumsum(np.asarray(frame_ms, dtype=np.float64))
    num_parts = max(1, math.ceil(ends[-1] * fps / 1000 - 0.5))
    midpoints = (np.arange(num_parts) + 0.5) * 1000 / fps
    found = np.searchsorted(ends, midpoints, side="right")
    return np.minimum(found, len(ends) - 1).astype(np.int64)


def lengthened(chosen: np.ndarray, num_frames: int, short: ShortName) -> np.ndarray:
    """Make at least num_frames of a clip with fewer: again from the start, back and forth, or with the last held.

    chosen: int64 `n`, n >= 1. Returns int64 `max(n, num_frames)`.
    """
    n = len(chosen)
    if n >= num_frames:
        return chosen
    place = np.arange(num_frames)
    match short:
        case "loop":
            return chosen[place % n]
        case "hold":
            return chosen[np.minimum(place, n - 1)]
        case "mirror":
            # Its ends are seen once in each turn: 0 1 2 1 0 1 2.
            turn = place % max(1, 2 * n - 2)
            return chosen[np.where(turn < n, turn, 2 * n - 2 - turn)]


def shrunk(height: int, width: int, max_side: int | None) -> tuple[int, int]:
    """Height and width of a picture whose shorter side is made no longer than max_side."""
    shorter = min(height, width)
    if max_side is None or shorter <= max_side:
        return height, width
    return max(1, round(height * max_side / shorter)), max(1, round(width * max_side / shorter))


def to_square(frame: np.ndarray, *, size: int, channels: int, colour: tuple[int, int, int], fit: FitName) -> np.ndarray:
    """Make one frame of a clip, uint8 `h w 4`, what the network sees: uint8 `size size channels`.

    channels: 1 grey or 3 colour, composited on `colour`; 4 keeps alpha, and pads with it.
    fit: `crop` keeps the middle square, `pad` keeps the whole picture, `stretch` too and fills the square with it.
    """
    if fit != "stretch":
        height, width = shrunk(frame.shape[0], frame.shape[1], size)
        frame = resize(frame, height=height, width=width)
    return _to_channels(_fit_square(frame, size=size, fit=fit), channels=channels, colour=colour)


def parse_colour(background: str) -> tuple[int, int, int]:
    """Red, green and blue in 0-255 of a colour's name or #rrggbb. Raises SettingsError for anything else."""
    try:
        red, green, blue, *_ = ImageColor.getrgb(background)
    except ValueError:
        raise SettingsError(f"background {background!r} is no colour: give a name like 'white', or '#rrggbb'") from None
    return red, green, blue


def resize(frame: np.ndarray, *, height: int, width: int) -> np.ndarray:
    """Resize one RGBA frame, `h w 4` to `height width 4`, weighting colours by their alpha.

    Going down is smooth, without the halos that Lanczos draws around flat colours. Going up repeats pixels, so that
    pixel art keeps its edges; what is left of a broken factor is averaged away.
    """
    h, w = frame.shape[:2]
    if (h, w) == (height, width):
        return frame
    up_y, up_x = max(1, -(-height // h)), max(1, -(-width // w))
    enlarged = up_y > 1 or up_x > 1
    if enlarged:
        frame = frame.repeat(up_y, axis=0).repeat(up_x, axis=1)
    # "RGBa" is RGBA multiplied by alpha. The gap makes Pillow average whole pixels first: four times as fast.
    image = Image.fromarray(frame).convert("RGBa")
    filter_ = Resampling.BOX if enlarged else Resampling.HAMMING
    return np.asarray(image.resize((width, height), filter_, reducing_gap=2.0).convert("RGBA"))


def composite(frames: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Lay RGBA on a flat colour, as a page would: uint8 `... 4` to uint8 `... 3`."""
    if (frames[..., 3] == 255).all():
        return frames[..., :3]
    alpha = frames[..., 3:].astype(np.uint32)
    mixed = frames[..., :3] * alpha + np.array(colour, dtype=np.uint32) * (255 - alpha)
    return ((mixed + 127) // 255).astype(np.uint8)


def _fit_square(frame: np.ndarray, *, size: int, fit: FitName) -> np.ndarray:
    h, w = frame.shape[:2]
    if fit == "stretch":
        return resize(frame, height=size, width=size)
    if fit == "crop":
        side = min(h, w)
        top, left = (h - side) // 2, (w - side) // 2
        return resize(frame[top : top + side, left : left + side], height=size, width=size)
    scale = size / max(h, w)
    height, width = max(1, round(h * scale)), max(1, round(w * scale))
    top, left = (size - height) // 2, (size - width) // 2
    square = np.zeros((size, size, 4), dtype=np.uint8)
    square[top : top + height, left : left + width] = resize(frame, height=height, width=width)
    return square


def _to_channels(frame: np.ndarray, *, channels: int, colour: tuple[int, int, int]) -> np.ndarray:
    """uint8 `h w 4` to uint8 `h w channels`."""
    if channels == 4:
        return frame
    rgb = composite(frame, colour)
    return rgb if channels == 3 else np.asarray(Image.fromarray(np.ascontiguousarray(rgb)).convert("L"))[..., None]
