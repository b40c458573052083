"""Clips of every format are read alike: by time, shrunk as they are unpacked, and never beyond their limits."""

import os

import numpy as np
import pytest

from t2v.data.reading import read_clip
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
