"""Files come whole or not at all, in five formats, and say of themselves what they were told."""

import json
import os
from contextlib import suppress

import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image

from t2v.data.video_files import ENCODERS, read_metadata, write_clip
from t2v.errors import ClipError

METADATA = json.dumps({"prompt": "Füße im Schnee ☃", "seed": 2**53 - 1, "long": "x" * 700}, ensure_ascii=False)


def moving_square(*, num_frames: int = 6, height: int = 32, width: int = 32, channels: int = 3) -> np.ndarray:
    frames = np.full((num_frames, height, width, channels), 255, dtype=np.uint8)
    for number, frame in enumerate(frames):
        frame[8:20, 2 + 2 * number : 14 + 2 * number, :3] = 40 if channels == 1 else (30, 90, 200)
    return frames


def read_frames(path) -> np.ndarray:
    """Frames by other readers than ours: `f h w c`."""
    if path.suffix in (".mp4", ".webm"):
        return iio.imread(path, plugin="pyav")
    with Image.open(path) as image:
        pictures = []
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            pictures.append(np.asarray(image.convert("RGB")))
    return np.stack(pictures)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("ending", ENCODERS)
def test_other_readers_see_the_frames_that_were_written(tmp_path, ending, channels):
    frames = moving_square(channels=channels)
    path = tmp_path / f"clip{ending}"
    write_clip(path, frames, frame_ms=80, metadata=None)
    expected = frames[..., :3] if channels != 1 else frames.repeat(3, axis=-1)
    if ending == ".png":
        expected = expected.transpose(1, 0, 2, 3).reshape(1, 32, -1, 3)
    read = read_frames(path)
    assert read.shape == expected.shape
    tolerance = 6 if ending in (".mp4", ".webm") else 0  # colour at half resolution
    assert np.abs(read.astype(int) - expected).mean() <= tolerance


@pytest.mark.parametrize("ending", [".mp4", ".webm"])
def test_odd_sizes_become_video_by_repeating_an_edge(tmp_path, ending):
    write_clip(tmp_path / f"odd{ending}", moving_square(height=21, width=33), frame_ms=100, metadata=None)
    assert read_frames(tmp_path / f"odd{ending}").shape == (6, 22, 34, 3)


@pytest.mark.parametrize("ending", ENCODERS)
def test_metadata_comes_back_as_it_was_given(tmp_path, ending):
    path = tmp_path / f"clip{ending}"
    write_clip(path, moving_square(), frame_ms=100, metadata=METADATA)
    assert read_metadata(path) == METADATA


@pytest.mark.parametrize("ending", ENCODERS)
def test_no_metadata_leaves_none(tmp_path, ending):
    path = tmp_path / f"clip{ending}"
    write_clip(path, moving_square(), frame_ms=100, metadata=None)
    assert read_metadata(path) is None


@pytest.mark.parametrize("ending", ENCODERS)
def test_equal_clips_are_equal_files(tmp_path, ending):
    for name in "ab":
        write_clip(tmp_path / f"{name}{ending}", moving_square(), frame_ms=100, metadata=METADATA)
    assert (tmp_path / f"a{ending}").read_bytes() == (tmp_path / f"b{ending}").read_bytes()


@pytest.mark.parametrize("ending", [".mp4", ".webm"])
def test_video_runs_at_the_rate_asked_for(tmp_path, ending):
    write_clip(tmp_path / f"clip{ending}", moving_square(), frame_ms=1000 / 12, metadata=None)
    assert iio.immeta(tmp_path / f"clip{ending}", plugin="pyav")["fps"] == pytest.approx(12)


def test_the_ending_may_be_in_capitals(tmp_path):
    write_clip(tmp_path / "CLIP.GIF", moving_square(), frame_ms=100, metadata=METADATA)
    assert read_metadata(tmp_path / "CLIP.GIF") == METADATA


@pytest.mark.parametrize(("name", "said"), [("clip.tiff", "cannot write .tiff"), ("clip", "a file without ending")])
def test_an_unknown_ending_names_those_that_work(tmp_path, name, said):
    with pytest.raises(ClipError, match=rf"{said}; use \.gif, \.mp4, \.webm, \.webp, \.png"):
        write_clip(tmp_path / name, moving_square(), frame_ms=100, metadata=None)


def test_a_failed_write_leaves_the_old_file_and_no_scrap(tmp_path, monkeypatch):
    path = tmp_path / "clip.gif"
    write_clip(path, moving_square(), frame_ms=100, metadata="old")

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    monkeypatch.setattr(os, "rename", full_disk)
    with pytest.raises(ClipError, match="cannot be written: No space left on device"):
        write_clip(path, moving_square(), frame_ms=100, metadata="new")
    assert [item.name for item in tmp_path.iterdir()] == ["clip.gif"]
    assert read_metadata(path) == "old"


def test_a_place_that_does_not_exist_is_said(tmp_path):
    with pytest.raises(ClipError, match=r"clip\.gif cannot be written: No such file or directory"):
        write_clip(tmp_path / "nowhere" / "clip.gif", moving_square(), frame_ms=100, metadata=None)


@pytest.mark.parametrize("ending", ENCODERS)
def test_metadata_of_a_damaged_file_is_read_or_a_clear_error(tmp_path, ending):
    """Whatever a decoder says of damage, it is a ClipError that names the file."""
    path = tmp_path / f"x{ending}"
    write_clip(path, moving_square(), frame_ms=100, metadata=METADATA)
    whole = path.read_bytes()
    damage = np.random.default_rng(0)
    for _ in range(200):
        data = bytearray(whole[: damage.integers(1, len(whole))] if damage.random() < 0.5 else whole)
        for place in damage.integers(0, min(len(data), 400), 6):
            data[place] = damage.integers(256)
        path.write_bytes(data)
        with suppress(ClipError):
            read_metadata(path)


@pytest.mark.parametrize("ending", ENCODERS)
@pytest.mark.parametrize("content", [b"", b"no clip at all, only words that go on for some time"])
def test_metadata_of_a_broken_file_is_a_clear_error(tmp_path, ending, content):
    (tmp_path / f"x{ending}").write_bytes(content)
    with pytest.raises(ClipError, match=rf"x\{ending} is (empty|not)"):
        read_metadata(tmp_path / f"x{ending}")
