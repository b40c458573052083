"""Clips of every format are read alike: by time, shrunk as they are unpacked, and never beyond their limits."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from t2v.data import reading
from t2v.data.limits import USUAL
from t2v.data.readers import recognise
from t2v.data.reading import decode_clip, hash_of, look_at_clip, read_clip, read_contents, scan_clip
from t2v.data.video_files import write_clip
from t2v.errors import ClipError


def moving_square(*, num_frames: int = 6, height: int = 32, width: int = 32) -> np.ndarray:
    frames = np.full((num_frames, height, width, 3), 255, dtype=np.uint8)
    for number, frame in enumerate(frames):
        frame[8:20, 2 + 2 * number : 14 + 2 * number] = (30, 90, 200)
    return frames


def test_a_clip_reads_back_with_its_time(tmp_path):
    write_clip(tmp_path / "a.gif", moving_square(), frame_ms=70, metadata=None)
    clip = read_clip(tmp_path / "a.gif")
    assert clip.duration_ms == 420
    np.testing.assert_array_equal(clip.frames[..., :3], moving_square())


def test_large_frames_are_shrunk_on_the_shorter_side_and_small_ones_left(tmp_path):
    write_clip(tmp_path / "a.gif", moving_square(height=64, width=96), frame_ms=100, metadata=None)
    clip = read_clip(tmp_path / "a.gif", max_side=16)
    assert clip.frames.shape == (6, 16, 24, 4)
    assert (clip.width, clip.height) == (96, 64)
    assert read_clip(tmp_path / "a.gif", max_side=64).frames.shape == (6, 64, 96, 4)


def test_errors_name_the_file(tmp_path):
    with pytest.raises(ClipError, match=r"none\.gif does not exist"):
        read_clip(tmp_path / "none.gif")
    with pytest.raises(ClipError, match="is not a file"):
        read_clip(tmp_path)


def test_a_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe.gif")
    with pytest.raises(ClipError, match=r"pipe\.gif is not a file"):
        read_clip(tmp_path / "pipe.gif")


def test_every_format_gives_the_same_facts_by_a_look_and_by_unpacking(good_files):
    for name, contents in good_files.items():
        clip = decode_clip(contents)
        told = {"limits": USUAL, "sequence_fps": 10.0}
        facts = scan_clip(contents, **told)
        assert facts == look_at_clip(contents, **told), name
        assert (facts["num_frames"], facts["duration_ms"]) == (len(clip.frames), pytest.approx(clip.duration_ms)), name
        assert (facts["width"], facts["height"]) == (clip.width, clip.height) == (64, 48), name
        assert facts["num_frames"] == (1 if name.startswith("still") else 8), name


def test_every_format_is_shrunk_as_it_is_unpacked(good_files):
    for name, contents in good_files.items():
        assert decode_clip(contents, max_side=12).frames.shape[1:] == (12, 16, 4), name


def test_a_file_too_large_is_not_even_opened(tmp_path):
    with (tmp_path / "big.gif").open("wb") as file:
        file.truncate(USUAL.max_bytes + 1)
    with pytest.raises(ClipError, match=r"big\.gif has 256 MB; the most is 256 MB \(limits\.max_bytes\)"):
        read_clip(tmp_path / "big.gif")


def test_files_of_one_clip_share_its_bytes(tmp_path):
    for name in "ab":
        (tmp_path / name).write_bytes(bytes(3 << 20))
    paths = [tmp_path / "a", tmp_path / "b"]
    assert [len(data) for data in read_contents(paths, max_bytes=6 << 20)] == [3 << 20, 3 << 20]
    with pytest.raises(ClipError, match=r"limits\.max_bytes"):
        read_contents(paths, max_bytes=5 << 20)


def test_the_hash_of_one_file_is_its_own_and_of_several_that_of_their_order():
    assert hash_of((b"abc",)) == hashlib.sha256(b"abc").hexdigest()
    hashes = {hash_of(contents) for contents in ((b"ab", b"c"), (b"c", b"ab"), (b"abc",), (b"a", b"bc"))}
    assert len(hashes) == 4


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"GIF87a", "gif"),
        (b"\x89PNG\r\n\x1a\n", "png"),
        (b"\xff\xd8\xff\xe0", "jpeg"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "webp"),
        (b"RIFF\0\0\0\0AVI LIST", "avi"),
        (b"\x1aE\xdf\xa3\x87\x42\x82\x84webm", "webm"),
        (b"\x1aE\xdf\xa3\x8b\x42\x82\x88matroska", "mkv"),
        (b"\0\0\0\x18ftypisom", "mp4"),
        (b"\0\0\0\x18ftypqt  ", "mov"),
        (b"\0\0\0\x08wide", "mov"),
    ],
)
def test_a_format_is_known_by_its_first_bytes(data, name):
    assert recognise(data) == name


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        (b"\0\0\0\x18ftypavif", "is not a GIF, WebP, PNG, JPEG, MP4, MOV, WebM, MKV or AVI"),
        (b"RIFF\0\0\0\0WAVEfmt ", "is not a GIF"),
        (b"some words", "is not a GIF"),
    ],
)
def test_what_is_no_clip_is_named(data, reason):
    with pytest.raises(ClipError, match=reason):
        recognise(data)


def test_a_file_is_what_its_content_says(good_files, tmp_path):
    (tmp_path / "clip.gif").write_bytes(good_files["webp"][0])
    np.testing.assert_array_equal(read_clip(tmp_path / "clip.gif").frames, decode_clip(good_files["webp"]).frames)


def test_a_clip_that_takes_too_much_memory_whole_is_refused(good_files, monkeypatch):
    monkeypatch.setattr(reading, "MAX_KEPT_BYTES", 64 * 48 * 4 * 8 - 1)
    with pytest.raises(ClipError, match="is too large: 8 frames of 64 x 48 pixels"):
        decode_clip(good_files["png"])
    assert decode_clip(good_files["png"], max_side=24).frames.shape == (8, 24, 32, 4)


def test_who_reads_no_video_does_not_wait_for_libav():
    code = "import sys, t2v.data.folder; assert not {'av', 'imageio', 'torch'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
