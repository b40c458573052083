"""GIFs are read as browsers show them. The files here are written byte by byte, with answers worked out by hand."""

import random
import struct
from contextlib import suppress

import numpy as np
import pytest

from t2v.data import gif
from t2v.data.reading import decode_clip
from t2v.errors import ClipError

BLACK, RED, GREEN, BLUE = range(4)
PALETTE = bytes([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
LETTERS = {(0, 0, 0, 0): ".", (0, 0, 0, 255): "k", (255, 0, 0, 255): "r", (0, 255, 0, 255): "g", (0, 0, 255, 255): "b"}


def header(width: int, height: int, *, palette: bytes = PALETTE, background: int = 0) -> bytes:
    flags = 0x80 | (len(palette) // 6 - 1) if palette else 0  # 2 or 4 colours
    return b"GIF89a" + struct.pack("<HHBBB", width, height, flags, background, 0) + palette


def lzw(indices: list[int]) -> bytes:
    """Two pixels and a clear code, over and over, so that every code has three bits."""
    codes = []
    for start in range(0, len(indices), 2):
        codes += [4, *indices[start : start + 2]]
    bits = "".join(format(code, "03b")[::-1] for code in [*codes, 5])
    packed = bytes(int(bits[start : start + 8][::-1], 2) for start in range(0, len(bits), 8))
    assert len(packed) < 256
    return b"\x02" + bytes([len(packed)]) + packed + b"\0"


def frame(
    rows: list[str],
    *,
    left: int = 0,
    top: int = 0,
    delay: int = 10,
    disposal: int = 0,
    hole: str = "",
    palette: bytes = b"",
) -> bytes:
    """A picture block from letters k r g b; those equal to `hole` are transparent."""
    width, height = len(rows[0]), len(rows)
    control = struct.pack("<BHB", disposal << 2 | bool(hole), delay, "krgb".index(hole) if hole else 0)
    place = struct.pack("<HHHHB", left, top, width, height, 0x81 if palette else 0)
    return (
        b"!\xf9\x04"
        + control
        + b"\0,"
        + place
        + palette
        + lzw(["krgb".index(letter) for row in rows for letter in row])
    )


def shown(data: bytes) -> list[list[str]]:
    """What each frame looks like, in letters, a dot where nothing is."""
    return [
        ["".join(LETTERS[tuple(pixel)] for pixel in row) for row in picture] for picture in decode_clip((data,)).frames
    ]


def delays(data: bytes) -> list[float]:
    return decode_clip((data,)).frame_ms.tolist()


def test_a_frame_without_disposal_stays_under_the_next():
    data = header(2, 1) + frame(["rr"]) + frame(["g"], left=1) + b";"
    assert shown(data) == [["rr"], ["rg"]]


def test_disposal_to_background_clears_only_the_frames_own_place_and_to_nothing():
    data = (
        header(3, 1, background=BLUE) + frame(["rrr"]) + frame(["g"], left=1, disposal=2) + frame(["b"], left=2) + b";"
    )
    assert shown(data) == [["rrr"], ["rgr"], ["r.b"]]


@pytest.mark.parametrize("disposal", [3, 4])
def test_disposal_to_previous_brings_back_what_was_there(disposal):
    data = header(2, 1) + frame(["rr"]) + frame(["gg"], disposal=disposal) + frame(["b"], left=1) + b";"
    assert shown(data) == [["rr"], ["gg"], ["rb"]]


def test_disposal_to_previous_of_the_first_frame_leaves_nothing():
    data = header(2, 1) + frame(["gg"], disposal=3) + frame(["b"], left=1) + b";"
    assert shown(data) == [["gg"], [".b"]]


def test_disposal_ends_with_its_frame():
    data = header(1, 1) + frame(["r"], disposal=2) + frame(["g"]) + frame(["k"], hole="k") + b";"
    assert shown(data) == [["r"], ["g"], ["g"]]


def test_transparent_pixels_let_the_earlier_frame_through():
    data = header(2, 1) + frame(["rg"]) + frame(["kb"], hole="k") + b";"
    assert shown(data) == [["rg"], ["rb"]]


def test_transparency_belongs_to_one_frame_only():
    data = header(1, 1) + frame(["r"], hole="k") + frame(["k"]) + b";"
    assert shown(data) == [["r"], ["k"]]


def test_what_no_frame_covers_is_transparent_whatever_the_background_colour():
    assert shown(header(3, 1, background=RED) + frame(["g"], left=1) + b";") == [[".g."]]


def test_a_local_palette_counts_for_its_frame_only():
    swapped = PALETTE[:3] + PALETTE[9:] + PALETTE[6:9] + PALETTE[3:6]
    data = header(2, 1) + frame(["rb"], palette=swapped) + frame(["r"]) + b";"
    assert shown(data) == [["br"], ["rr"]]


def test_a_colour_outside_the_palette_is_black():
    data = header(2, 1, palette=PALETTE[3:9]) + frame(["rb"]) + b";"
    assert shown(data) == [["gk"]]


def test_the_first_frame_may_enlarge_the_canvas_and_a_later_one_may_not():
    data = header(1, 1) + frame(["rr"]) + frame(["gg"], left=1, top=0) + frame(["b"], left=5) + b";"
    assert shown(data) == [["rr"], ["rg"], ["rg"]]


def test_an_empty_frame_is_a_pause():
    empty = b"!\xf9\x04\0\x32\0\0\0," + struct.pack("<HHHHB", 0, 0, 0, 1, 0) + b"\x02\0"
    data = header(1, 1) + frame(["r"]) + empty + frame(["g"]) + b";"
    assert shown(data) == [["r"], ["r"], ["g"]]
    assert delays(data) == [100, 500, 100]


@pytest.mark.parametrize(("hundredths", "ms"), [(0, 100), (1, 100), (2, 20), (7, 70), (6000, 60_000)])
def test_delays_are_those_of_a_browser(hundredths, ms):
    assert delays(header(1, 1) + frame(["r"], delay=hundredths) + b";") == [ms]


def test_a_frame_without_a_delay_has_that_of_a_browser():
    bare = frame(["g"])[8:]
    assert delays(header(1, 1) + frame(["r"], delay=50) + bare + b";") == [500, 100]


@pytest.mark.parametrize("ending", [b"", b"\0\0\0", b"\0;", b";", b";left over"])
def test_sloppy_endings_are_forgiven(ending):
    assert shown(header(1, 1) + frame(["r"]) + ending) == [["r"]]


GOOD = header(4, 2) + frame(["rgbk", "kbgr"]) + frame(["gg"], left=1, disposal=2) + frame(["bb"], top=1) + b";"

BROKEN = {
    "empty": (b"", "is empty"),
    "text": (b"this is not a picture", "is not a GIF"),
    "almost a GIF": (b"GIF88a", "is not a GIF"),
    "LFS": (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
    "magic only": (b"GIF89a", "breaks off before its first frame"),
    "header only": (header(4, 4), "holds no frames"),
    "no pixels": (header(0, 1) + frame(["r"])[:8] + b"," + bytes(9) + b"\x02\0;", "is 0 x 1 pixels large"),
    "cut in a picture": (GOOD[:-4], "breaks off in frame 3"),
    "too few pixels": (header(2, 2) + frame(["rr"]).replace(b"\2\0\1\0\0", b"\2\0\2\0\0") + b";", "damaged in frame 1"),
    "unknown block": (header(1, 1) + frame(["r"]) + b"?" + frame(["g"]), "is damaged after frame 1"),
    "no palette": (header(1, 1, palette=b"") + frame(["r"]) + b";", "has no colours for frame 1"),
    "nothing shown": (header(1, 1) + frame(["k"], hole="k") + b";", "shows nothing"),
    "huge canvas": (header(65535, 65535) + frame(["r"]) + b";", "the most is"),
    "huge frame": (header(1, 1) + b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x02\0;", "the most is"),
    "huge in all": (header(4000, 4000) + frame(["r"]) * 100 + b";", "is too large: 100 frames"),
    "many frames": (header(1, 1) + frame(["r"]) * 10_001, "more than 10000 frames"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_every_damage_has_a_readable_reason(name):
    data, reason = BROKEN[name]
    with pytest.raises(ClipError, match=reason):
        decode_clip((data,))


def test_a_file_cut_anywhere_is_whole_at_a_frame_or_refused():
    whole = shown(GOOD)
    read = []
    for length in range(len(GOOD)):
        with suppress(ClipError):
            read.append(shown(GOOD[:length]))
    assert read == [whole[:1], whole[:2], whole]


def test_random_damage_gives_a_clip_or_a_reason():
    dice = random.Random(0)
    outcomes = set()
    for _ in range(500):
        data = bytearray(GOOD)
        for _ in range(dice.randint(1, 4)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        try:
            outcomes.add(decode_clip((bytes(data),), max_side=8).frames.dtype)
        except ClipError as error:
            outcomes.add(type(error))
    assert outcomes == {np.dtype(np.uint8), ClipError}


@pytest.mark.parametrize("num_colours", [2, 255, 256])
def test_up_to_256_colours_are_written_without_loss(num_colours):
    codes = np.arange(num_colours) * 65_497 % (1 << 24)  # an odd factor keeps them apart
    table = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], -1).astype(np.uint8)
    frames = table[np.random.default_rng(1).integers(num_colours, size=(5, 17, 23))]
    clip = decode_clip((gif.encode(frames, frame_ms=100, comment=None),))
    np.testing.assert_array_equal(clip.frames[..., :3], frames)


def test_frames_with_holes_are_written_without_a_trace_of_the_frame_before():
    frames = np.random.default_rng(0).integers(256, size=(4, 6, 5, 4)).astype(np.uint8)
    frames[..., 3] = np.where(frames[..., 3] < 128, 0, 255)
    clip = decode_clip((gif.encode(frames, frame_ms=100, comment=None),))
    np.testing.assert_array_equal(clip.frames[..., 3], frames[..., 3])
    opaque = frames[..., 3] == 255
    np.testing.assert_array_equal(clip.frames[opaque], frames[opaque])


def test_many_colours_with_holes_keep_the_holes_where_they_were():
    frames = np.random.default_rng(0).integers(256, size=(3, 40, 40, 4)).astype(np.uint8)
    frames[0, :4, :, :3] = 0  # black must not become the hole
    clip = decode_clip((gif.encode(frames, frame_ms=100, comment=None),))
    np.testing.assert_array_equal(clip.frames[..., 3] == 0, frames[..., 3] < 128)


def test_still_parts_of_a_colourful_clip_stay_still():
    rng = np.random.default_rng(0)
    frames = rng.integers(256, size=(6, 32, 32, 3)).astype(np.uint8)
    frames[:, :16] = frames[0, :16]
    read = decode_clip((gif.encode(frames, frame_ms=100, comment=None),)).frames
    assert (read[:, :16] == read[0, :16]).all()


def test_a_smooth_clip_is_written_closely():
    ramp = np.linspace(0, 255, 64)
    picture = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None], 128.0), -1)
    frames = np.stack([np.roll(picture, shift, axis=0) for shift in range(6)]).astype(np.uint8)
    read = decode_clip((gif.encode(frames, frame_ms=100, comment=None),)).frames[..., :3]
    assert np.abs(read.astype(int) - frames).mean() < 6


def test_equal_frames_are_all_written():
    frames = np.zeros((7, 4, 4, 3), dtype=np.uint8)
    assert len(decode_clip((gif.encode(frames, frame_ms=40, comment=None),)).frames) == 7


@pytest.mark.parametrize("fps", [7, 12, 24, 30, 50])
def test_the_rate_is_right_on_average_and_never_falls_behind(fps):
    frames = np.zeros((60, 2, 2, 3), dtype=np.uint8)
    ends = decode_clip((gif.encode(frames, frame_ms=1000 / fps, comment=None),)).frame_ms.cumsum()
    assert np.abs(ends - 1000 / fps * np.arange(1, 61)).max() <= 5.001


def test_a_rate_that_the_format_cannot_say_is_refused():
    with pytest.raises(ClipError, match=r"at most 50 frames a second, not 60; write \.mp4"):
        gif.encode(np.zeros((2, 2, 2, 3), dtype=np.uint8), frame_ms=1000 / 60, comment=None)
