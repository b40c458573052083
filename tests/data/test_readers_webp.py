"""WebPs: animations with their delays and places, and stills."""

import io

import numpy as np
import pytest
from PIL import Image

from t2v.data.reading import decode_clip
from t2v.errors import ClipError

RED, GREEN, NONE = (255, 0, 0, 255), (0, 255, 0, 255), (0, 0, 0, 0)
BLEND, NO_BLEND, CLEAR = 0, 2, 1


def chunk(kind: bytes, content: bytes) -> bytes:
    return kind + len(content).to_bytes(4, "little") + content + bytes(len(content) % 2)


def number(value: int) -> bytes:
    return value.to_bytes(3, "little")


def picture(rows: list[list[tuple[int, ...]]]) -> bytes:
    """The chunks of one lossless frame."""
    buffer = io.BytesIO()
    Image.fromarray(np.array(rows, dtype=np.uint8)).save(buffer, "WEBP", lossless=True, exact=True)
    content = buffer.getvalue()[12:]
    return content[18:] if content.startswith(b"VP8X") else content


def frame(rows: list[list[tuple[int, ...]]], *, left: int = 0, ms: int = 100, flags: int = BLEND) -> bytes:
    size = number(len(rows[0]) - 1) + number(len(rows) - 1)
    return chunk(b"ANMF", number(left // 2) + number(0) + size + number(ms) + bytes([flags]) + picture(rows))


def webp(width: int, height: int, *frames: bytes) -> bytes:
    head = chunk(b"VP8X", bytes([0x12, 0, 0, 0]) + number(width - 1) + number(height - 1))
    body = b"WEBP" + head + chunk(b"ANIM", bytes([9, 9, 200, 255, 0, 0])) + b"".join(frames)
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def row(data: bytes) -> list[list[tuple[int, ...]]]:
    return [[tuple(pixel) for pixel in canvas[0].tolist()] for canvas in decode_clip((data,)).frames]


def test_frames_are_laid_over_each_other_and_the_background_colour_is_ignored():
    data = webp(4, 1, frame([[RED] * 4]), frame([[GREEN, NONE]], left=2), frame([[NONE, GREEN]], flags=NO_BLEND))
    assert row(data) == [[RED] * 4, [RED, RED, GREEN, RED], [NONE, GREEN, GREEN, RED]]


def test_a_cleared_frame_leaves_nothing():
    data = webp(4, 1, frame([[RED] * 4]), frame([[GREEN, GREEN]], flags=CLEAR), frame([[RED, RED]], left=2))
    assert row(data)[2] == [NONE, NONE, RED, RED]


@pytest.mark.parametrize(("asked", "ms"), [(0, 100), (10, 100), (11, 11), (40, 40), (70_000, 70_000)])
def test_delays_are_those_of_a_browser(asked, ms):
    data = webp(2, 1, frame([[RED, RED]]), frame([[GREEN, RED]], ms=asked))
    assert decode_clip((data,)).frame_ms.tolist() == [100, ms]


WHOLE = webp(2, 1, frame([[RED, RED]]), frame([[GREEN, RED]]))
BROKEN = {
    "cut in a frame": (WHOLE[:-9], "breaks off after frame 1"),
    "cut before the frames": (WHOLE[:40], "breaks off before its first frame"),
    "no frames": (webp(2, 1), "holds no frames"),
    "huge": (webp(1 << 14, 1 << 14, frame([[RED, RED]])), "claims frames of 268,435,456 pixels; the most is"),
    "no picture in a frame": (webp(2, 1, chunk(b"ANMF", bytes(16))), "is damaged"),
    "no frame in a frame": (webp(2, 1, chunk(b"ANMF", bytes(3))), "is damaged in frame 1"),
    "a frame beside the canvas": (webp(2, 1, frame([[RED, RED]], left=2)), "is damaged"),
    "a still without pixels": (b"RIFF\x10\0\0\0WEBPVP8 \4\0\0\0abcd", "is a damaged WebP"),
    "only a name": (b"RIFF\4\0\0\0WEBP", "breaks off before its first frame"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_every_damage_has_a_readable_reason(name):
    data, reason = BROKEN[name]
    with pytest.raises(ClipError, match=reason):
        decode_clip((data,))


@pytest.mark.parametrize("lossless", [True, False])
def test_a_still_is_one_frame(lossless, writers):
    pixels = writers.moving(4)[3]
    clip = decode_clip((writers.still(pixels, "WEBP", lossless=lossless, quality=95),))
    assert clip.frame_ms.tolist() == [0] and clip.frames.shape == (1, 48, 64, 4)
    assert np.abs(clip.frames[0, ..., :3].astype(int) - pixels).mean() < (0.01 if lossless else 5)
