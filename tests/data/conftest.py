"""Small files of every format, made anew: a square that moves over a colour that brightens."""

import io
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from t2v.data.video_files import encode_clip

Contents = tuple[bytes, ...]
# What each format is written with: container, codec, pixels, options of the codec.
VIDEOS: dict[str, tuple[str, str, str, dict[str, str]]] = {
    "mp4": ("mp4", "libx264", "yuv420p", {"bf": "3", "b_strategy": "0"}),
    "mov": ("mov", "prores", "yuv422p10le", {}),
    "webm": ("webm", "libvpx-vp9", "yuv420p", {}),
    "webm vp8": ("webm", "libvpx", "yuv420p", {}),
    "mkv": ("matroska", "libx264", "yuv420p", {}),
    "avi": ("avi", "mpeg4", "yuv420p", {"bf": "2"}),
    "avi mjpeg": ("avi", "mjpeg", "yuvj420p", {}),
}


def moving(num_frames: int = 8, *, height: int = 48, width: int = 64, channels: int = 3) -> np.ndarray:
    """uint8 `f h w c`: red rises by 20 a frame, a white square goes right by 4 pixels."""
    frames = np.zeros((num_frames, height, width, channels), dtype=np.uint8)
    frames[..., 3:] = 255
    for number, frame in enumerate(frames):
        frame[..., 0] = 20 * number
        frame[8:24, 4 * number : 4 * number + 16] = 255
    return frames


def write_video(
    frames: np.ndarray, name: str, *, starts: list[int] | None = None, rate: int = 10, tune: Callable[[Any], None] = id
) -> bytes:
    """A video of RGB or RGBA frames. starts: when each is shown, in ms; tune: called with the stream before it opens"""
    container, codec, pixels, options = VIDEOS[name]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as file:
        stream = file.add_stream(codec, rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixels if frames.shape[-1] == 3 else "yuva420p"
        stream.options = options
        tune(stream)
        for number, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24" if frames.shape[-1] == 3 else "rgba")
            if starts:
                frame.pts = starts[number] * rate // 1000
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return buffer.getvalue()


def write_apng(frames: np.ndarray, **options: Any) -> bytes:
    first, *others = map(Image.fromarray, frames)
    buffer = io.BytesIO()
    first.save(buffer, "PNG", save_all=True, append_images=others, **{"duration": 100, **options})
    return buffer.getvalue()


def write_still(frame: np.ndarray, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def good_files() -> dict[str, Contents]:
    """A clip of every format, under the name of what it is in."""
    frames = moving()
    still = frames[3]
    return {
        "gif": (encode_clip(frames, ".gif", frame_ms=100),),
        "webp": (encode_clip(frames, ".webp", frame_ms=100),),
        "png": (write_apng(frames),),
        **{name: (write_video(frames, name),) for name in VIDEOS},
        "frames": tuple(write_still(frame, "PNG") for frame in frames),
        "still png": (write_still(still, "PNG"),),
        "still webp": (write_still(still, "WEBP"),),
        "still jpeg": (write_still(still, "JPEG"),),
    }


@pytest.fixture(scope="session")
def writers() -> SimpleNamespace:
    """What makes such files, for tests that want them otherwise."""
    return SimpleNamespace(moving=moving, video=write_video, apng=write_apng, still=write_still)
