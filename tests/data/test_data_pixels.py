"""The same pixels with a cache and without, and no file decoded twice."""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from t2v.config import DataSettings, LimitsSettings
from t2v.data import folder, marks, pixels, reading
from t2v.data.clip import frame_times, to_square
from t2v.data.folder import load_clips, scan_folder, survey_folder
from t2v.data.limits import USUAL
from t2v.data.pixels import Pixels
from t2v.data.reading import read_clip
from t2v.data.video_files import encode_clip, write_clip
from t2v.data.workers import Task, Workers

SMALL = Pixels(num_frames=3, size=8, channels=3, background="white", fit="crop")
OTHERS = [
    replace(SMALL, num_frames=4),
    replace(SMALL, size=16),
    replace(SMALL, channels=1),
    replace(SMALL, channels=4),
    replace(SMALL, background="black"),
    replace(SMALL, fit="pad"),
    replace(SMALL, fit="stretch"),
    replace(SMALL, fps=4.0, window="head"),
    replace(SMALL, fps=2.0, window="head", short="mirror"),
    replace(SMALL, fps=2.0, window="head", short="hold"),
]


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Three clips with holes, wider than high, one of them twice; and a damaged one."""
    made = tmp_path / "clips"
    made.mkdir()
    for number in range(3):
        frames = np.random.default_rng(number).integers(0, 256, (4, 9, 12, 4), dtype=np.uint8)
        write_clip(made / f"{number}.gif", frames // 64 * 64, frame_ms=100, metadata=None)
    (made / "again.gif").write_bytes((made / "0.gif").read_bytes())
    (made / "cut.gif").write_bytes((made / "1.gif").read_bytes()[:-40])
    return made


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The contents that were decoded."""
    seen: list[bytes] = []
    decode = Workers.decode

    def counting(self: Workers, task: Task, contents: tuple[bytes, ...]):
        seen.extend(contents)
        return decode(self, task, contents)

    monkeypatch.setattr(Workers, "decode", counting)
    return seen


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were read, by a clock so fine that no change can be missed."""
    seen: list[str] = []
    read = folder.read_contents

    def counting(paths: tuple[Path, ...], **options: Any):
        seen.extend(path.name for path in paths)
        return read(paths, **options)

    monkeypatch.setattr(folder, "read_contents", counting)
    monkeypatch.setattr(marks, "CLOCK_GRAIN_NS", 0)
    return seen


def same(one, other) -> bool:
    equal = all(np.array_equal(a, b) for a, b in zip(one.frames, other.frames, strict=True))
    return equal and one.scan == other.scan


@pytest.mark.parametrize("num_frames", [1, 2, 3, 7])
def test_frames_that_are_not_chosen_change_nothing(clips, num_frames):
    settings = replace(SMALL, num_frames=num_frames)
    for path in sorted(clips.glob("?.gif")):
        clip = read_clip(path)
        chosen = clip.frames[frame_times(clip.frame_ms, num_frames)]
        look = {"size": 8, "channels": 3, "colour": (255, 255, 255), "fit": "crop"}
        facts, frames = settings.decode((path.read_bytes(),))
        assert np.array_equal(frames, np.stack([to_square(frame, **look) for frame in chosen]))
        assert facts == {"num_frames": 4, "duration_ms": 400, "width": 12, "height": 9, "format": "gif"}


def test_a_clip_that_is_empty_at_the_chosen_moments_is_a_clip(tmp_path):
    frames = np.zeros((5, 9, 12, 4), dtype=np.uint8)
    frames[0] = 255
    write_clip(tmp_path / "flash.gif", frames, frame_ms=100, metadata=None)
    facts, chosen = replace(SMALL, num_frames=1, channels=4).decode(((tmp_path / "flash.gif").read_bytes(),))
    assert facts["num_frames"] == 5
    assert not chosen.any()
    write_clip(tmp_path / "none.gif", np.zeros_like(frames), frame_ms=100, metadata=None)
    assert "shows nothing" in SMALL.decode(((tmp_path / "none.gif").read_bytes(),))[0]["reason"]


@pytest.mark.parametrize("settings", [SMALL, *OTHERS])
def test_pixels_are_the_same_with_a_cache_and_from_a_cache(clips, tmp_path, settings):
    plain, first, second = (load_clips(clips, settings, cache=cache) for cache in (None, tmp_path, tmp_path))
    assert same(plain, first) and same(plain, second)
    assert (first.num_decoded, second.num_decoded) == (4, 0)
    assert len(plain.records) == 4
    assert all(frames.shape == settings.shape for frames in second.frames)


def test_a_second_start_decodes_nothing_not_even_what_is_damaged(clips, tmp_path, decoded):
    load_clips(clips, SMALL, cache=tmp_path / "cache", num_workers=1)
    first = len(decoded)
    again = load_clips(clips, SMALL, cache=tmp_path / "cache")
    assert len(decoded) == first
    assert [item.key for item in again.left_out] == ["cut.gif"]


def test_a_start_counts_as_use_of_what_it_found(clips, tmp_path):
    load_clips(clips, SMALL, cache=tmp_path / "cache")
    (index,) = (tmp_path / "cache").rglob("*.index")
    os.utime(index, (0, 0))
    load_clips(clips, SMALL, cache=tmp_path / "cache")
    assert index.stat().st_mtime > 0


def test_a_renamed_file_is_known_and_a_changed_one_read_again(clips, tmp_path, decoded):
    load_clips(clips, SMALL, cache=tmp_path / "cache")
    (clips / "1.gif").rename(clips / "renamed.gif")
    old = os.stat(clips / "2.gif")
    write_clip(clips / "2.gif", np.full((4, 9, 12, 3), 99, dtype=np.uint8), frame_ms=100, metadata=None)
    os.utime(clips / "2.gif", (old.st_atime, old.st_mtime))
    decoded.clear()
    loaded = load_clips(clips, SMALL, cache=tmp_path / "cache")
    assert decoded == [(clips / "2.gif").read_bytes()]
    assert (loaded.frames[1] == 99).all()
    assert same(loaded, load_clips(clips, SMALL))


def test_a_file_that_did_not_change_is_not_opened_again(clips, tmp_path, opened):
    first = load_clips(clips, SMALL, cache=tmp_path / "cache")
    assert sorted(opened) == sorted(path.name for path in clips.iterdir())
    opened.clear()
    assert same(first, load_clips(clips, SMALL, cache=tmp_path / "cache"))
    assert opened == []


def test_a_file_of_the_same_size_and_time_with_other_content_is_read_again(clips, tmp_path, opened):
    load_clips(clips, SMALL, cache=tmp_path / "cache")
    changed, stat = clips / "2.gif", os.stat(clips / "2.gif")
    content = bytearray(changed.read_bytes())
    content[13:16] = bytes(255 - value for value in content[13:16])  # a colour of its palette
    changed.write_bytes(content)
    os.utime(changed, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    opened.clear()
    again = load_clips(clips, SMALL, cache=tmp_path / "cache")
    assert opened == ["2.gif"]
    assert again.records[2].sha256 == hashlib.sha256(content).hexdigest()


def test_a_file_that_may_change_within_its_clock_s_grain_is_not_relied_on(clips, tmp_path, opened, monkeypatch):
    monkeypatch.setattr(marks, "CLOCK_GRAIN_NS", 3600 * 10**9)
    for _ in range(2):
        opened.clear()
        load_clips(clips, SMALL, cache=tmp_path / "cache")
        assert len(opened) == 5


def test_a_file_that_changes_while_it_is_read_is_read_again(clips, tmp_path, opened, monkeypatch):
    read = folder.read_contents

    def disturbed(paths: tuple[Path, ...], **options: Any):
        contents = read(paths, **options)
        if paths[0].name == "2.gif":
            paths[0].write_bytes(contents[0] + b" ")
        return contents

    with monkeypatch.context() as patch:
        patch.setattr(folder, "read_contents", disturbed)
        load_clips(clips, SMALL, cache=tmp_path / "cache")
    opened.clear()
    load_clips(clips, SMALL, cache=tmp_path / "cache")
    assert opened == ["2.gif"]


@pytest.mark.parametrize("other", OTHERS)
def test_another_setting_meets_no_stale_pixels(clips, tmp_path, other):
    load_clips(clips, SMALL, cache=tmp_path / "cache")
    assert same(load_clips(clips, other, cache=tmp_path / "cache"), load_clips(clips, other))


def test_a_setting_that_changes_no_pixel_is_the_same_kind():
    assert replace(SMALL, background="#ffffff").kind == SMALL.kind
    assert replace(SMALL, channels=4).kind == replace(SMALL, channels=4, background="black").kind


def test_other_code_reads_anew(tmp_path, monkeypatch):
    (tmp_path / "gif.py").write_text("# decodes otherwise")
    before = SMALL.kind
    monkeypatch.setattr(pixels.gif, "__file__", str(tmp_path / "gif.py"))
    assert SMALL.kind != before


def test_pixels_are_kept_in_memory_where_the_disk_is_not_to_be_written(clips, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    said: list[str] = []
    loaded = load_clips(clips, SMALL, cache=tmp_path / "cache", say=said.append)
    assert same(loaded, load_clips(clips, SMALL))
    assert len(said) == 1 and "going on in memory" in said[0]


def test_a_survey_knows_what_a_scan_knows_save_damage_within_frames(clips):
    (clips / "cut.gif").unlink()
    assert survey_folder(clips) == scan_folder(clips)


def shades(num_frames: int) -> tuple[bytes]:
    """A GIF of 100 ms frames in shades 0, 10, 20, ..."""
    frames = np.stack([np.full((9, 12, 3), 10 * number, dtype=np.uint8) for number in range(num_frames)])
    return (encode_clip(frames, ".gif", frame_ms=100),)


def seen(settings: Pixels, contents: tuple[bytes, ...]) -> list[int]:
    """The shades that training sees, in tens."""
    _, frames = settings.decode(contents)
    assert frames.shape[1:] == settings.item_shape
    return (frames[:, 0, 0, 0] // 10).tolist()


def test_a_rate_takes_frames_one_after_another_and_a_window_is_left_to_be_chosen():
    at_rate = replace(SMALL, fps=10.0)
    assert seen(replace(at_rate, window="head"), shades(7)) == [0, 1, 2]
    assert seen(replace(at_rate, window="random"), shades(7)) == list(range(7))
    assert seen(replace(at_rate, window="every"), shades(7)) == list(range(7))
    assert seen(replace(at_rate, fps=5.0), shades(7)) == [1, 3, 5]
    assert seen(SMALL, shades(7)) == [1, 3, 5]


@pytest.mark.parametrize(("short", "expected"), [("loop", [0, 1, 0]), ("mirror", [0, 1, 0]), ("hold", [0, 1, 1])])
def test_a_clip_shorter_than_asked_goes_on_as_asked(short, expected):
    assert seen(replace(SMALL, fps=10.0, short=short), shades(2)) == expected


def test_a_still_is_one_frame_or_repeated():
    assert seen(SMALL, shades(1)) == [0]
    assert seen(replace(SMALL, fps=10.0), shades(1)) == [0]
    assert seen(replace(SMALL, stills="repeat"), shades(1)) == [0, 0, 0]
    assert seen(replace(SMALL, fps=10.0, stills="repeat"), shades(1)) == [0, 0, 0]
    facts, _ = SMALL.decode(shades(1))
    assert SMALL.refusal(facts) is None
    assert "data.stills is leave_out" in replace(SMALL, stills="leave_out").refusal(facts)


def test_formats_that_are_not_asked_for_are_refused_by_content():
    facts, _ = SMALL.decode(shades(2))
    assert replace(SMALL, formats=("gif", "mp4")).refusal(facts) is None
    assert replace(SMALL, formats=("mp4",)).refusal(facts) == "is a gif file; data.formats has only mp4"


def test_numbered_frames_are_a_clip_at_the_rate_that_is_said_of_them():
    frames = tuple(
        encode_clip(np.full((1, 9, 12, 3), 10 * number, dtype=np.uint8), ".png", frame_ms=100) for number in range(6)
    )
    facts, _ = SMALL.decode(frames)
    assert (facts["format"], facts["num_frames"], facts["duration_ms"]) == ("frames", 6, 600)
    assert seen(SMALL, frames) == [1, 3, 5]
    assert seen(replace(SMALL, fps=10.0, window="head", sequence_fps=20.0), frames) == [1, 3, 5]


def test_frames_beyond_the_memory_meant_for_a_clip_are_refused(monkeypatch):
    monkeypatch.setattr(reading, "MAX_KEPT_BYTES", 8 * 8 * 3 * 6)
    at_rate = replace(SMALL, fps=10.0)
    assert len(seen(at_rate, shades(6))) == 6
    assert "is too large: 7 frames of 8 x 8 pixels" in at_rate.decode(shades(7))[0]["reason"]


def test_settings_travel_as_json():
    settings = replace(SMALL, fps=12.5, window="every", formats=("gif", "frames"), limits=replace(USUAL, max_frames=7))
    assert Pixels.from_json(json.loads(json.dumps(settings.as_json()))) == settings


def test_a_recipe_says_what_is_not_said_of_windows():
    data = DataSettings(num_frames=3, size=8, fps=10)
    assert Pixels.of(data, LimitsSettings()) == replace(SMALL, fps=10.0, window="random", short="loop")
    asked = DataSettings(num_frames=3, size=8, fps=10, window="every", short="hold")
    assert Pixels.of(asked, LimitsSettings()) == replace(SMALL, fps=10.0, window="every", short="hold")


def test_every_setting_that_changes_pixels_changes_the_kind():
    at_rate = replace(SMALL, fps=10.0)
    others = [
        *(SMALL, at_rate, replace(at_rate, fps=5.0), replace(at_rate, window="head"), replace(at_rate, short="hold")),
        *(replace(SMALL, stills="repeat"), replace(SMALL, sequence_fps=5.0), replace(SMALL, fit="stretch")),
        replace(SMALL, limits=replace(USUAL, max_frames=7)),
    ]
    assert len({settings.kind for settings in others}) == len(others)
    assert replace(at_rate, window="every").kind == replace(at_rate, window="random").kind
    assert replace(SMALL, limits=replace(USUAL, max_decode_s=1.0), formats=("gif",)).kind == SMALL.kind
