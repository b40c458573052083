"""Videos are seen as players show them: by the times of their frames, turned and trimmed as the file says."""

import io
import struct
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest

from t2v.data.limits import USUAL
from t2v.data.readers import open_clip, recognise
from t2v.data.readers.video import _Video
from t2v.data.reading import decode_clip, look_at_clip
from t2v.errors import ClipError

VIDEOS = ["mp4", "mov", "webm", "webm vp8", "mkv", "avi", "avi mjpeg"]
NEAR = 8  # of 255: what the encoders of the tests lose


def reds(data: bytes) -> list[int]:
    """The brightness of the colour that rises by 20 from frame to frame, in steps of 20."""
    return [round(float(frame[40:, 40:, 0].mean()) / 20) for frame in decode_clip((data,)).frames]


@pytest.mark.parametrize("name", VIDEOS)
def test_every_frame_comes_once_in_order_and_looks_as_it_was_written(name, good_files, writers):
    clip = decode_clip(good_files[name])
    frames = writers.moving()
    assert recognise(good_files[name][0]) == name.split()[0]
    assert clip.frames.shape == (8, 48, 64, 4) and (clip.frames[..., 3] == 255).all()
    assert clip.frame_ms == pytest.approx([100] * 8)
    assert np.abs(clip.frames[..., :3].astype(int) - frames).mean(axis=(1, 2, 3)).max() < NEAR
    assert reds(good_files[name][0]) == list(range(8))


@pytest.mark.parametrize("name", VIDEOS)
def test_a_look_knows_what_unpacking_finds(name, good_files):
    clip = decode_clip(good_files[name])
    facts = look_at_clip(good_files[name], limits=USUAL, sequence_fps=10)
    assert facts == {"num_frames": 8, "duration_ms": 800, "width": 64, "height": 48, "format": name.split()[0]}
    assert clip.duration_ms == facts["duration_ms"]


@pytest.mark.parametrize("name", ["mp4", "webm", "mkv"])
def test_frames_last_until_the_next_one_starts(name, writers):
    starts = [0, 100, 400, 500, 1000, 1020, 1040, 2000]
    data = writers.video(writers.moving(), name, starts=starts, rate=50)
    assert decode_clip((data,)).frame_ms[:-1] == pytest.approx(np.diff(starts))
    assert reds(data) == list(range(8))


@pytest.mark.parametrize(
    ("turn", "where"), [(0, "top left"), (90, "top right"), (180, "bottom right"), (270, "bottom left")]
)
def test_a_video_stands_as_the_camera_was_held(turn, where, writers):
    frames = np.zeros((3, 48, 64, 3), dtype=np.uint8)
    frames[:, :24, :32] = 250
    data = bytearray(writers.video(frames, "mp4"))
    place = data.index(b"tkhd") + 44  # of its matrix
    cos, sin = round(np.cos(np.radians(turn))), round(np.sin(np.radians(turn)))
    matrix = (cos, sin, 0, -sin, cos, 0, 0, 0, 0x4000)  # clockwise
    data[place : place + 36] = struct.pack(">9i", *(value * 0x10000 for value in matrix))
    clip = decode_clip((bytes(data),))
    size = (48, 64) if turn % 180 else (64, 48)
    assert (clip.width, clip.height) == size
    h, w = clip.height // 2, clip.width // 2
    corners = {"top left": (0, 0), "top right": (0, w), "bottom right": (h, w), "bottom left": (h, 0)}
    bright = [name for name, (y, x) in corners.items() if clip.frames[0, y : y + h, x : x + w, 0].mean() > 125]
    assert bright == [where]


@pytest.mark.parametrize("name", ["mov", "mp4"])
def test_what_an_edit_list_cuts_away_is_not_seen(name, writers):
    data = bytearray(writers.video(writers.moving(), name))
    place = data.index(b"elst") + 16  # of the time in the medium at which the clip starts
    (start,) = struct.unpack_from(">i", data, place)
    (unit,) = struct.unpack_from(">I", data, data.index(b"mdhd") + 16)
    struct.pack_into(">i", data, place, start + 3 * unit // 10)
    assert reds(bytes(data)) == [3, 4, 5, 6, 7]
    assert decode_clip((bytes(data),)).duration_ms == pytest.approx(500)
    assert look_at_clip((bytes(data),), limits=USUAL, sequence_fps=10)["num_frames"] == 5


def test_pixels_that_are_not_square_are_made_so(writers):
    def wide(stream) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(2, 1)

    clip = decode_clip((writers.video(writers.moving(3), "mp4", tune=wide),))
    assert (clip.width, clip.height) == (128, 48) and clip.frames.shape[1:3] == (48, 128)


@pytest.mark.parametrize("name", ["webm", "webm vp8"])
def test_transparency_of_a_webm_is_seen(name, writers):
    frames = writers.moving(4, channels=4)
    frames[:, :, 32:, 3] = 0

    def seen(stream) -> None:
        stream.options = {"auto-alt-ref": "0"}  # with them, the encoders refuse

    alpha = decode_clip((writers.video(frames, name, tune=seen),)).frames[..., 3]
    assert alpha[:, :, :28].min() > 240 and alpha[:, :, 36:].max() < 15


def test_colours_are_those_of_the_matrix_that_the_file_names(writers):
    green = np.zeros((2, 48, 64, 3), dtype=np.uint8)
    green[..., 1] = 200
    unnamed = writers.video(green, "mp4")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as file:
        stream = file.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.codec_context.colorspace = 1
        for picture in green:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            file.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace="ITU709")))
        file.mux(stream.encode())
    for data in (unnamed, buffer.getvalue()):
        assert np.abs(decode_clip((data,)).frames[..., :3].astype(int) - green).max() <= 4


@pytest.mark.parametrize(
    ("name", "height", "expected"),
    [
        *(("mp4", 48, (200, 30, 90)), ("mp4", 720, (213, 50, 88))),
        *(("webm", 48, (200, 30, 90)), ("webm", 720, (200, 30, 90)), ("webm vp8", 720, (200, 30, 90))),
    ],
)
def test_colours_that_no_file_names_are_those_of_a_browser(name, height, expected, writers):
    """The numbers for 720 lines are Chromium's, of the same file: written by BT.601, which the file does not say."""
    frames = np.full((1, height, 64, 3), (200, 30, 90), dtype=np.uint8)
    seen = decode_clip((writers.video(frames, name),)).frames[..., :3].astype(int)
    assert np.abs(seen - expected).max() <= 3


@pytest.mark.parametrize("name", VIDEOS)
@pytest.mark.parametrize("left", [0.2, 0.5, 0.9])
def test_a_cut_video_is_refused(name, left, good_files):
    data = good_files[name][0]
    with pytest.raises(ClipError):
        decode_clip((data[: int(left * len(data))],))


@pytest.mark.parametrize("name", VIDEOS)
def test_a_file_that_lacks_its_last_byte_is_refused_for_that(name, good_files):
    with pytest.raises(ClipError, match="breaks off before its end"):
        decode_clip((good_files[name][0][:-1],))


def test_frames_that_are_dropped_in_unpacking_shift_no_time(good_files, monkeypatch):
    """A stand-in for files cut in the middle of a group of frames: the first packets give no frame."""
    decoded = _Video._decoded

    def late(self, container, stream):
        yield from (frame for number, frame in enumerate(decoded(self, container, stream)) if number >= 2)

    monkeypatch.setattr(_Video, "_decoded", late)
    assert reds(good_files["webm"][0]) == [2, 3, 4, 5, 6, 7]
    assert decode_clip(good_files["webm"]).frame_ms == pytest.approx([100] * 6)


def test_sound_alone_and_other_codecs_are_no_clips():
    sound = io.BytesIO()
    with av.open(sound, "w", format="mp4") as file:
        stream = file.add_stream("aac", rate=44100)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 4096), dtype=np.float32), format="fltp", layout="mono")
        silence.sample_rate = 44100
        file.mux([*stream.encode(silence), *stream.encode()])
    with pytest.raises(ClipError, match="holds no video"):
        decode_clip((sound.getvalue(),))
    other = io.BytesIO()
    with av.open(other, "w", format="avi") as file:
        stream = file.add_stream("zmbv", rate=10)
        stream.height = stream.width = 16
        stream.pix_fmt = "bgr0"
        frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), dtype=np.uint8), format="rgb24")
        file.mux([*stream.encode(frame.reformat(format="bgr0")), *stream.encode()])
    with pytest.raises(ClipError, match="is in the codec zmbv, which is not read here"):
        decode_clip((other.getvalue(),))


def test_limits_hold_before_a_frame_is_unpacked(good_files):
    cases = {
        "max_frames": (7, "has more than 7 frames"),
        "max_frame_pixels": (3000, "claims frames of 3,072 pixels; the most is 3,000"),
        "max_pixels": (20_000, "is too large: 24,576 pixels in 8 frames"),
        "max_duration_s": (0.7, "lasts 0.8 s; the most is 0.7 s"),
        "max_bytes": (100, "has 0 MB; the most is 0 MB"),
    }
    for name, (most, reason) in cases.items():
        with pytest.raises(ClipError, match=reason):
            open_clip(good_files["mp4"], limits=replace(USUAL, **{name: most}), sequence_fps=10)
