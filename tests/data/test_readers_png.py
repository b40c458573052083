"""PNGs: the frames of an animation lie over each other as in a browser, and stills look as they do there."""

import struct
import zlib

import numpy as np
import pytest

from t2v.data.reading import decode_clip
from t2v.errors import ClipError

RED, GREEN, BLUE, NONE = (255, 0, 0, 255), (0, 255, 0, 255), (0, 0, 255, 255), (0, 0, 0, 0)
LETTERS = {RED: "r", GREEN: "g", BLUE: "b", NONE: "."}
COLOURS = {letter: colour for colour, letter in LETTERS.items()}


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def packed(row: str) -> bytes:
    return zlib.compress(b"\0" + b"".join(bytes(COLOURS[letter]) for letter in row))


class Apng:
    """An animation of one row of letters r g b and . for nothing, written chunk by chunk."""

    def __init__(self, width: int) -> None:
        self.head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, 8, 6, 0, 0, 0))
        self.body = b""
        self.sequence = self.count = 0

    def number(self) -> bytes:
        self.sequence += 1
        return struct.pack(">I", self.sequence - 1)

    def frame(
        self, row: str, *, left: int = 0, delay: tuple[int, int] = (1, 10), disposal: int = 0, over: bool = False
    ) -> "Apng":
        place = struct.pack(">IIII", len(row), 1, left, 0)
        self.body += chunk(b"fcTL", self.number() + place + struct.pack(">HHBB", *delay, disposal, over))
        if self.count == 0 and b"IDAT" not in self.body:
            self.body += chunk(b"IDAT", packed(row))
        else:
            self.body += chunk(b"fdAT", self.number() + packed(row))
        self.count += 1
        return self

    def file(self, *, claimed: int | None = None) -> bytes:
        claim = struct.pack(">II", self.count if claimed is None else claimed, 0)
        return self.head + chunk(b"acTL", claim) + self.body + chunk(b"IEND", b"")


def shown(data: bytes) -> list[str]:
    return ["".join(LETTERS[tuple(pixel)] for pixel in frame[0].tolist()) for frame in decode_clip((data,)).frames]


def test_a_frame_lies_on_the_one_before_and_its_holes_only_count_when_laid_over():
    assert shown(Apng(3).frame("rrr").frame("g.", left=1).file()) == ["rrr", "rg."]
    assert shown(Apng(3).frame("rrr").frame("g.", left=1, over=True).file()) == ["rrr", "rgr"]


@pytest.mark.parametrize(("disposal", "expected"), [(0, "rgb"), (1, "r.b"), (2, "rrb")])
def test_disposal_leaves_clears_or_brings_back(disposal, expected):
    data = Apng(3).frame("rrr").frame("g", left=1, disposal=disposal).frame("b", left=2).file()
    assert shown(data) == ["rrr", "rgr", expected]


def test_disposal_to_previous_of_the_first_frame_leaves_nothing():
    assert shown(Apng(2).frame("gg", disposal=2).frame("b").file()) == ["gg", "b."]


def test_a_picture_for_who_cannot_show_animations_is_no_frame():
    plain = Apng(2)
    plain.body = chunk(b"IDAT", packed("bb"))
    assert shown(plain.frame("rr").frame("g").file()) == ["rr", "gr"]


@pytest.mark.parametrize(
    ("delay", "ms"), [((0, 10), 100), ((1, 100), 100), ((11, 1000), 11), ((3, 0), 30), ((7, 2), 3500)]
)
def test_delays_are_those_of_a_browser(delay, ms):
    assert decode_clip((Apng(1).frame("r").frame("g", delay=delay).file(),)).frame_ms.tolist() == [100, ms]


WHOLE = Apng(3).frame("rrr").frame("g", left=1).file()
GAP = Apng(3).frame("rrr")
GAP.sequence += 1
BROKEN = {
    "cut": (WHOLE[:-1], "breaks off"),
    "more claimed": (Apng(1).frame("r").file(claimed=9), "claims 9 frames and holds 1"),
    "beside the canvas": (Apng(2).frame("rr").frame("g", left=2).file(), "is damaged in frame 2"),
    "a flipped bit": (WHOLE.replace(packed("g"), packed("g")[:-1] + b"?"), "is damaged in its fdAT chunk"),
    "out of order": (GAP.frame("g").file(), "is damaged after frame 1"),
    "no frames": (Apng(1).file(claimed=0), "claims 0 frames and holds 0"),
    "huge": (Apng(1 << 30).frame("r").file(), "claims frames of 1,073,741,824 pixels; the most is"),
    "only a signature": (WHOLE[:8], "breaks off"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_every_damage_has_a_readable_reason(name):
    data, reason = BROKEN[name]
    with pytest.raises(ClipError, match=reason):
        decode_clip((data,))


@pytest.mark.parametrize("depth", [8, 16])
def test_a_still_of_any_depth_looks_as_in_a_browser(depth, writers):
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    data = writers.still(grey if depth == 8 else grey.astype(np.uint16) << 8, "PNG")
    clip = decode_clip((data,))
    assert clip.frame_ms.tolist() == [0]
    assert (clip.frames[0, ..., :3] == grey[..., None]).all() and (clip.frames[..., 3] == 255).all()


def test_texts_of_a_png_are_never_unpacked(writers):
    data = writers.still(np.zeros((4, 4, 3), dtype=np.uint8), "PNG")
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(1 << 27)))
    place = data.index(b"IDAT") - 4
    assert decode_clip((data[:place] + bomb + data[place:],)).frames.shape == (1, 4, 4, 4)
