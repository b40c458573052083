"""The clip doctor finds what is wrong with a folder, nothing where nothing is, and leaves every file as it was."""

import hashlib
import json
import os
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from t2v.config import Recipe
from t2v.data.check.looks import look_at
from t2v.data.check.report import Report, check_folder
from t2v.data.check.text import lines_of
from t2v.data.folder import load_clips
from t2v.data.pixels import Pixels
from t2v.data.video_files import write_clip
from t2v.errors import DatasetError
from t2v.reading import load_recipe

CAPTIONS = [f"a {colour} {thing}" for colour, thing in product(("red", "blue", "green"), ("ball", "cube", "cone"))]


def recipe(**data: object) -> Recipe:
    asked = {"size": 16, "num_frames": 4} | data
    return load_recipe("small", {f"data.{name}": str(value) for name, value in asked.items()})


def scene(seed: int, *, height: int = 24, width: int = 24, num_frames: int = 6) -> np.ndarray:
    """Coarse stains that change: uint8 f h w 3, another clip for each seed."""
    stains = np.random.default_rng(seed).integers(20, 236, (num_frames, 4, 4, 3), np.uint8)
    return stains.repeat(height // 4, axis=1).repeat(width // 4, axis=2)


def put(path: Path, frames: np.ndarray, caption: str | None = "a red ball", *, frame_ms: float = 100) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_clip(path, frames, frame_ms=frame_ms, metadata=None)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption, encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Nine clips of which nothing can be said."""
    for number, caption in enumerate(CAPTIONS):
        put(tmp_path / "clips" / f"{number}.gif", scene(number), caption)
    return tmp_path / "clips"


def found(report: Report) -> dict[str, tuple[str, ...]]:
    return {finding.kind: finding.clips for finding in report.findings}


def content(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def blank_first(frames: np.ndarray) -> np.ndarray:
    return np.concatenate([np.full_like(frames[:2], 255), frames[2:]])


def flashing() -> np.ndarray:
    frames = scene(90, num_frames=4) // 4
    return frames + np.array([0, 150, 0, 150], np.uint8)[:, None, None, None]


def copy(folder: Path, name: str, *, end: bytes = b"") -> None:
    (folder / name).write_bytes((folder / "0.gif").read_bytes() + end)


def nearly(frames: np.ndarray) -> np.ndarray:
    return np.clip(frames.astype(int) + 3, 0, 255).astype(np.uint8)


# What is put into the folder, and what is then found beside nothing.
PICTURES: dict[str, Callable[[Path], None]] = {
    "flat": lambda folder: put(folder / "x.gif", np.full((5, 24, 24, 3), 200, np.uint8)),
    "dark": lambda folder: put(folder / "x.gif", scene(50) // 26),
    "frozen": lambda folder: put(folder / "x.gif", scene(50)[:1].repeat(5, axis=0)),
    "flashing": lambda folder: put(folder / "x.gif", flashing()),
    "still": lambda folder: put(folder / "x.gif", scene(50, num_frames=1)),
    "blank_pictures": lambda folder: put(folder / "x.gif", blank_first(scene(50))),
    "short": lambda folder: put(folder / "x.gif", scene(50, num_frames=3)),
    "sparse": lambda folder: put(folder / "x.gif", scene(50), frame_ms=500),
    "cropped": lambda folder: put(folder / "x.gif", scene(50, height=48)),
    "enlarged": lambda folder: put(folder / "x.gif", scene(50, height=8, width=8)),
    "says_nothing": lambda folder: put(folder / "x.gif", scene(50), "IMG 0042\na red ball"),
    "long_caption": lambda folder: put(folder / "x.gif", scene(50), "red ball " * 32),
    "never_mirrored": lambda folder: put(folder / "x.gif", scene(50), "a red ball left left"),
    "near_duplicates": lambda folder: put(folder / "x.gif", nearly(scene(0)), CAPTIONS[0]),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_what_is_wrong_with_a_clip_is_found_and_nothing_else(folder, kind):
    assert found(check_folder(folder, recipe())) == {}
    PICTURES[kind](folder)
    # A word that comes with the case alone is rare, and says nothing here.
    told = {name: keys for name, keys in found(check_folder(folder, recipe())).items() if name != "rare_words"}
    assert told == {kind: ("0.gif", "x.gif") if kind == "near_duplicates" else ("x.gif",)}


def test_the_same_file_the_same_pictures_and_other_words_for_them_are_told_apart(folder):
    copy(folder, "twin.gif")
    (folder / "twin.txt").write_text(CAPTIONS[0])
    assert found(check_folder(folder, recipe())) == {"same_file": ("0.gif", "twin.gif")}
    copy(folder, "twin.gif", end=b"\0")  # read as the same, by every browser
    assert found(check_folder(folder, recipe())) == {"same_pictures": ("0.gif", "twin.gif")}
    (folder / "twin.txt").write_text(CAPTIONS[5])
    told = found(check_folder(folder, recipe()))
    assert told == {"same_pictures": ("0.gif", "twin.gif"), "other_captions": ("0.gif", "twin.gif")}


def test_captions_that_many_share_are_counted(folder):
    for number in range(2):
        put(folder / f"x{number}.gif", scene(50 + number), "A red  BALL!")
    (finding,) = check_folder(folder, recipe()).findings
    assert (finding.kind, finding.clips) == ("shared_captions", ("0.gif", "x0.gif", "x1.gif"))
    assert finding.sentence == "3 clips that share a caption with others; most often 'a red ball' (3)"


def test_captions_are_counted_with_their_sources(folder):
    (folder / "0.txt").write_text("a red ball\na ball")
    (folder / "1.txt").write_text("")
    assert "  captions  9 for 8 of 9 clips, 8 from text file" in lines_of(check_folder(folder, recipe()))


def test_words_are_counted_by_clips_and_rare_ones_named(folder):
    put(folder / "x.gif", scene(50), "a zebra, a zebra\nthe zebra")
    report = check_folder(folder, recipe())
    assert list(report.words.items())[:2] == [("a", 10), ("ball", 3)]
    assert report.words["zebra"] == 1
    assert [item.sentence for item in report.findings] == ["2 words of the captions are in one clip only"]


def test_a_folder_without_captions_a_small_one_and_captions_of_two_kinds(folder):
    put(folder / "a red cube.gif", scene(50), None)
    assert set(found(check_folder(folder, recipe()))) == {"sources"}
    for path in folder.glob("*.txt"):
        path.unlink()
    (folder / "a red cube.gif").unlink()
    assert set(found(check_folder(folder, recipe()))) == {"no_captions"}
    for number in range(3, 9):
        (folder / f"{number}.gif").unlink()
    assert set(found(check_folder(folder, recipe()))) == {"no_captions", "few"}


def test_captions_of_no_clip_are_found(folder):
    (folder / "10.txt").write_text("lost")
    assert [item.kind for item in check_folder(folder, recipe()).findings] == ["lost_captions"]


def test_files_of_other_kinds_are_counted_and_gifs_of_other_names_found(folder):
    (folder / "sub").mkdir()
    (folder / "sub" / "notes.pdf").write_bytes(b"%PDF")
    (folder / "Thumbs.db").write_bytes(b"x")
    (folder / ".hidden").write_bytes(b"GIF89a")
    os.symlink(folder / "0.gif", folder / "link.dat")
    os.mkfifo(folder / "pipe.dat")
    (finding,) = check_folder(folder, recipe()).findings
    assert finding.sentence == "3 files of other kinds passed over: .db (1), .dat (1), .pdf (1)"
    copy(folder, "photo.bak")
    told = found(check_folder(folder, recipe()))
    assert told == {"wrong_ending": ("photo.bak",), "passed_over": ()}


def test_a_damaged_file_is_left_out_and_makes_the_verdict(folder):
    assert check_folder(folder, recipe()).verdict == "ok, every clip is read"
    (folder / "cut.gif").write_bytes((folder / "0.gif").read_bytes()[:-40])
    put(folder / "x.gif", np.zeros((2, 8, 8, 3), np.uint8))
    report = check_folder(folder, recipe())
    assert not report.is_ok
    assert report.verdict == "usable, without the 1 file left out; 1 warning"
    assert [item.key for item in report.scan.left_out] == ["cut.gif"]
    assert lines_of(report)[-1] == "verdict: usable, without the 1 file left out; 1 warning"


@pytest.mark.usefixtures("decoder_processes")
def test_the_report_is_of_what_training_would_see(folder):
    asked = recipe(size=32, num_frames=3, fit="pad", background="black", channels=1)
    report = check_folder(folder, asked)
    trained_on = load_clips(folder, Pixels.of(asked.data, asked.limits))
    for row, frames in zip(report.rows(), trained_on.frames, strict=True):
        assert row.frames.shape == (3, 32, 32, 1) and (row.frames == frames).all()


def test_what_was_done_to_a_clip_follows_from_the_settings(folder):
    put(folder / "wide.gif", scene(50, height=24, width=48, num_frames=20))
    (row,) = check_folder(folder, recipe()).rows("wide.gif")
    assert row.done == ("shrunk to 67%", "50% cut off at left and right", "4 of 20 frames taken")
    assert row.rate == pytest.approx(2.0)
    (row,) = check_folder(folder, recipe(fit="pad", size=96, num_frames=40)).rows("wide.gif")
    assert row.done == (
        "enlarged 2 times",
        "padded with white at top and bottom",
        "20 frames shown as 40 pictures",
    )


def test_clips_are_chosen_by_a_part_of_their_name_or_a_pattern(folder):
    put(folder / "sub" / "Tall Cat.gif", scene(50))
    report = check_folder(folder, recipe())
    assert [row.record.key for row in report.rows("cat")] == ["sub/Tall Cat.gif"]
    assert [row.record.key for row in report.rows("[0-2].gif")] == ["0.gif", "1.gif", "2.gif"]
    assert len(list(report.rows())) == 10
    with pytest.raises(DatasetError, match=r"no clip of .* is called 'dog'; '\*' is all of them"):
        list(report.rows("dog"))


def test_text_of_one_clip_says_what_is_known_of_it(folder):
    text = lines_of(check_folder(folder, recipe(hold_out=0.5)), "3.gif")
    start = text.index("3.gif")
    assert text[start + 1 : start + 4] == [
        "  file      gif, 24 x 24, 6 frames in 0.6 s",
        "  seen      4 pictures, 6.67 a second; 3 of them differ from the one before",
        "  done      shrunk to 67%; 4 of 6 frames taken",
    ]
    assert "  caption   a blue ball  (text file)" in text


def test_the_report_as_json_has_its_keys_and_every_clip(folder):
    put(folder / "x.gif", scene(50, num_frames=1))
    told = json.loads(json.dumps(check_folder(folder, recipe(hold_out=0.3)).as_dict()))
    assert {
        "folder", "ok", "verdict", "fingerprint", "settings", "num_clips", "num_frames", "seconds", "formats",
        "captioned", "caption_sources", "words", "split", "findings", "left_out", "warnings", "clips",
    } == told.keys()  # fmt: skip
    assert (told["num_clips"], told["num_frames"], told["formats"]) == (10, 55, {"gif": 10})
    assert told["settings"]["data"]["size"] == 16
    sides = [clip["split"] for clip in told["clips"]]
    assert {side: sides.count(side) for side in told["split"]} == told["split"]
    assert sum(told["split"].values()) == 10
    still = told["clips"][-1]
    assert (still["key"], still["findings"], still["seen"]["pictures_a_second"]) == ("x.gif", ["still"], None)


def test_the_split_of_a_report_is_that_of_training_and_warns_where_it_is_no_use(folder):
    assert "held out" not in "\n".join(lines_of(check_folder(folder, recipe())))
    report = check_folder(folder, recipe(hold_out=0.001))
    assert set(found(report)) == {"none_held_out"}
    assert "  held out  0 clips (0.1% of all); 9 to train on" in lines_of(report)
    assert "few_to_train_on" in found(check_folder(folder, recipe(hold_out=0.9)))


def test_names_and_captions_of_strangers_cannot_steer_the_terminal(folder):
    put(folder / "red\x1b[2J\u202e.gif", scene(50), "clear\x1b]0;title\x07 \u202eballs\u2028")
    text = "\n".join(lines_of(check_folder(folder, recipe()), "*"))
    assert "red\\x1b[2J\\u202e.gif" in text
    assert not set("\x1b\x07\u202e\u2028") & set(text)


def test_no_file_of_the_folder_is_changed_or_added(folder, tmp_path):
    (folder / "bad.gif").write_bytes(b"GIF89a")
    before = content(folder)
    check_folder(folder, recipe(), cache=tmp_path / "cache")
    assert content(folder) == before


def test_what_a_check_decoded_training_does_not_decode_again(folder, tmp_path):
    asked = recipe()
    assert check_folder(folder, asked, cache=tmp_path / "cache").clips.num_decoded == 9
    assert load_clips(folder, Pixels.of(asked.data, asked.limits), cache=tmp_path / "cache").num_decoded == 0


def test_progress_ends_at_all_files_read_and_all_clips_measured(folder):
    (folder / "bad.gif").write_bytes(b"GIF89a")
    told: list[tuple[int, int]] = []
    check_folder(folder, recipe(), progress=lambda done, total: told.append((done, total)))
    assert (told[9], told[-1]) == ((10, 10), (9, 9))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_look_measures_what_is_in_the_pictures(channels):
    frames = np.zeros((4, 8, 8, channels), np.uint8)
    frames[..., :3] = np.array([10, 20, 20, 200], np.uint8)[:, None, None, None]
    frames[3, 0, 0, :3] = 0
    if channels == 4:
        frames[..., 3] = 255
    look = look_at(frames)
    assert (look.num_pictures, look.num_changes, look.num_flat) == (4, 2, 3)
    assert look.motion == pytest.approx((10 + 0 + (180 * 63 + 20) / 64) / 3, abs=1e-3)
    assert look.brightness == pytest.approx((10 + 20 + 20 + 200 * 63 / 64) / 4, abs=1e-3)
    assert look.pixels_sha256 == hashlib.sha256(frames.tobytes()).hexdigest()
    assert look_at(frames[:1]).motion == 0.0
