"""JPEGs, cameras' notes of how they were held, and numbered frames."""

import io

import numpy as np
import pytest
from PIL import Image

from t2v.data.limits import USUAL
from t2v.data.reading import decode_clip, look_at_clip
from t2v.errors import ClipError


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG"])
def test_a_picture_stands_as_the_camera_was_held(kind, writers):
    wide = np.zeros((16, 32, 3), dtype=np.uint8)
    wide[:, :16] = 250  # the left half
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    clip = decode_clip((writers.still(wide, kind, exif=exif),))
    assert (clip.width, clip.height) == (16, 32)
    assert clip.frames[0, :12, :, 0].min() > 200 and clip.frames[0, 20:, :, 0].max() < 50


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
def test_a_jpeg_of_any_colours_is_read(mode):
    grey = np.full((8, 8), 100, dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(grey).convert("RGB").convert(mode).save(buffer, "JPEG")
    frames = decode_clip((buffer.getvalue(),)).frames
    assert frames.shape == (1, 8, 8, 4) and np.abs(frames[..., :3].astype(int) - 100).max() <= 4


def test_a_jpeg_that_claims_to_be_huge_is_refused_before_any_library_sees_it(writers):
    data = writers.still(np.zeros((16, 16, 3), dtype=np.uint8), "JPEG")
    place = data.index(b"\xff\xc0") + 5
    huge = data[:place] + b"\xff\xff\xff\xff" + data[place + 4 :]
    with pytest.raises(ClipError, match="claims frames of 4,294,836,225 pixels"):
        look_at_clip((huge,), limits=USUAL, sequence_fps=10)


@pytest.mark.parametrize("cut", [3, 40, -30])
def test_a_cut_jpeg_is_refused(cut, writers):
    with pytest.raises(ClipError, match="is a damaged JPEG"):
        decode_clip((writers.still(writers.moving(4)[3], "JPEG")[:cut],))


def test_numbered_frames_are_one_clip(writers):
    pictures = writers.moving(5)
    clip = decode_clip(tuple(writers.still(picture, "PNG") for picture in pictures))
    np.testing.assert_array_equal(clip.frames[..., :3], pictures)
    assert clip.frame_ms.tolist() == [100] * 5


def test_frames_that_make_no_clip_say_why(writers, good_files):
    whole = good_files["frames"]
    other = writers.still(np.zeros((9, 9, 3), dtype=np.uint8), "PNG")
    cases = {
        "holds frames of different sizes: 64 x 48 and, in frame 9, 9 x 9": (*whole, other),
        "holds frame 3, which breaks off": (*whole[:2], whole[2][:-5], *whole[3:]),
        "holds frame 2, which is empty": (whole[0], b""),
        "holds a moving picture as frame 1": (*good_files["png"], *whole),
    }
    for reason, contents in cases.items():
        with pytest.raises(ClipError, match=reason):
            decode_clip(contents)


def test_damage_within_the_pixels_of_a_frame_is_found_where_it_is(writers):
    jpegs = [writers.still(picture, "JPEG") for picture in writers.moving(4)]
    with pytest.raises(ClipError, match="holds frame 3, which is a damaged JPEG"):
        decode_clip((*jpegs[:2], jpegs[2][:-30], jpegs[3]))
