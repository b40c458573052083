"""WebP: animations and stills. libwebp, by way of Pillow, composes the frames as browsers show them."""

from collections.abc import Collection, Iterator
from typing import NamedTuple

import numpy as np

from t2v.data.limits import Limits
from t2v.data.readers.opened import Opened, shown_ms
from t2v.data.readers.pillow import open_still, opened_image, rgba
from t2v.errors import ClipError

ANIMATED = 0x02  # among the flags of a VP8X chunk
HEAD_BYTES = 32  # of a file: enough to tell whether it moves


class _Chunk(NamedTuple):
    kind: bytes
    content: bytes


def open_webp(data: bytes, limits: Limits) -> Opened:
    """Raises ClipError for damage between the frames, and for a clip beyond the limits."""
    return _open_animation(data, limits) if moves(data[:HEAD_BYTES]) else _open_still(data, limits)


def moves(head: bytes) -> bool:
    """Whether a WebP is an animation. head: its first HEAD_BYTES"""
    return head[12:16] == b"VP8X" and len(head) > 20 and bool(head[20] & ANIMATED)


def _open_animation(data: bytes, limits: Limits) -> Opened:
    extended, *chunks = _chunks(data)
    if len(extended.content) < 10:
        raise ClipError("is damaged before its first frame")
    width, height = 1 + _number(extended.content, 4), 1 + _number(extended.content, 7)
    limits.check_size(width, height)
    frames = [chunk.content for chunk in chunks if chunk.kind == b"ANMF"]
    if not frames:
        raise ClipError("holds no frames")
    limits.check_frames(len(frames))
    for number, frame in enumerate(frames, start=1):
        if len(frame) < 16:
            raise ClipError(f"is damaged in frame {number}")

    def canvases(wanted: Collection[int]) -> Iterator[np.ndarray]:
        with opened_image(data, "WEBP", "is damaged within its frames") as image:
            if image.size != (width, height) or getattr(image, "n_frames", 1) != len(frames):
                raise ClipError("is damaged: its headers contradict each other")
            for number in range(len(frames)):
                image.seek(number)
                canvas = rgba(image)
                if number in wanted:
                    yield canvas

    return Opened(
        format="webp",
        width=width,
        height=height,
        frame_ms=np.array([shown_ms(_number(frame, 12)) for frame in frames], dtype=np.float64),
        work=len(frames) * width * height,
        canvases=canvases,
    )


def _open_still(data: bytes, limits: Limits) -> Opened:
    limits.check_size(*_still_size(data))
    return open_still(data, "WEBP", "is a damaged WebP")


def _still_size(data: bytes) -> tuple[int, int]:
    """Width and height as the first chunk gives them, without asking a library that might act on them."""
    kind, content = next(_chunks(data))
    if kind == b"VP8X" and len(content) >= 10:
        return 1 + _number(content, 4), 1 + _number(content, 7)
    if kind == b"VP8L" and len(content) >= 5:
        bits = int.from_bytes(content[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 " and len(content) >= 10:
        return int.from_bytes(content[6:8], "little") & 0x3FFF, int.from_bytes(content[8:10], "little") & 0x3FFF
    raise ClipError("is a damaged WebP")


def _chunks(data: bytes) -> Iterator[_Chunk]:
    """The chunks of the file, at least one; what follows the length that its header gives is not of the picture."""
    end = 8 + int.from_bytes(data[4:8], "little")
    place = 12
    num_frames = 0
    while place < end or place == 12:
        where = f"after frame {num_frames}" if num_frames else "before its first frame"
        start = place + 8
        place = start + int.from_bytes(data[place + 4 : start], "little")
        if start > len(data) or place > len(data):
            raise ClipError(f"breaks off {where}")
        chunk = _Chunk(data[start - 8 : start - 4], data[start:place])
        num_frames += chunk.kind == b"ANMF"
        yield chunk
        place += place & 1


def _number(content: bytes, place: int) -> int:
    """The 24 bits at a place."""
    return int.from_bytes(content[place : place + 3], "little")
