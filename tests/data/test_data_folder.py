"""Whatever lies in a folder, each clip keeps its own caption, and every file that is not read is named."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from t2v.config import Recipe
from t2v.data.check.report import check_folder
from t2v.data.folder import describe_difference, load_clips, scan_folder, survey_folder
from t2v.data.pixels import Pixels
from t2v.data.video_files import write_clip
from t2v.errors import DatasetError, SettingsError

DATA = Pixels(num_frames=3, size=8, channels=3, background="white", fit="crop")


def add_clip(folder: Path, key: str, *, shade: int = 0, caption: str | None = None, num_frames: int = 2) -> None:
    path = folder / key
    path.parent.mkdir(parents=True, exist_ok=True)
    write_clip(path, np.full((num_frames, 8, 8, 3), shade, dtype=np.uint8), frame_ms=100, metadata=None)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption, encoding="utf-8")


@pytest.fixture
def mixed(tmp_path):
    """The folder of the first film: one good clip among everything that goes wrong."""
    add_clip(tmp_path, "good.gif", shade=70, caption="the good one")
    (tmp_path / "x.gif").write_text("a text file")
    (tmp_path / "empty.gif").touch()
    whole = (tmp_path / "good.gif").read_bytes()
    (tmp_path / "cut.gif").write_bytes(whole[:-9])
    add_clip(tmp_path, "still.GIF", shade=90, num_frames=1)
    write_clip(tmp_path / "tiny.gif", np.zeros((2, 1, 1, 3), dtype=np.uint8), frame_ms=100, metadata=None)
    return tmp_path


def test_good_clips_are_taken_and_bad_ones_named(mixed):
    loaded = load_clips(mixed, DATA)
    assert [clip.key for clip in loaded.records] == ["good.gif", "still.GIF", "tiny.gif"]
    assert {item.key: item.reason for item in loaded.left_out} == {
        "cut.gif": "breaks off in frame 2",
        "empty.gif": "is empty",
        "x.gif": "is not a GIF, WebP, PNG, JPEG, MP4, MOV, WebM, MKV or AVI",
    }
    assert [frames.shape for frames in loaded.frames] == [(3, 8, 8, 3), (1, 8, 8, 3), (3, 8, 8, 3)]


def test_a_clip_left_out_shifts_no_caption(tmp_path):
    for number in range(12):
        add_clip(tmp_path, f"{number:02}.gif", shade=20 * number, caption=f"shade {20 * number}")
        if number % 3 == 1:
            (tmp_path / f"{number:02}.gif").write_bytes(b"GIF89a broken")
    loaded = load_clips(tmp_path, DATA)
    assert len(loaded.records) == 8
    for record, frames in zip(loaded.records, loaded.frames, strict=True):
        assert record.captions == (f"shade {frames[0, 0, 0, 0]}",)


def test_clips_are_found_at_any_depth_in_the_order_of_their_names(tmp_path):
    for key in ("b/z.gif", "b/a/deep.GiF", "a.gif", "B.gif", ".hidden.gif", ".git/c.gif"):
        add_clip(tmp_path, key)
    assert [clip.key for clip in scan_folder(tmp_path).clips] == ["B.gif", "a.gif", "b/a/deep.GiF", "b/z.gif"]


def test_scan_and_load_agree(mixed):
    assert load_clips(mixed, DATA).scan == scan_folder(mixed)


@pytest.mark.usefixtures("decoder_processes")
def test_a_folder_of_every_format_is_one_list_of_clips(tmp_path, good_files):
    for name, contents in good_files.items():
        if len(contents) == 1:
            (tmp_path / f"{name}.{name.split()[-1 if name.startswith('still') else 0]}").write_bytes(contents[0])
    walk = tmp_path / "a walk"
    walk.mkdir()
    for number, data in enumerate(good_files["frames"]):
        (walk / f"{number}.png").write_bytes(data)
    (tmp_path / "a walk.txt").write_text("somebody walks")
    loaded = load_clips(tmp_path, DATA)
    assert not loaded.left_out and len(loaded.records) == len(good_files)
    assert loaded.scan == scan_folder(tmp_path) == survey_folder(tmp_path)
    frames = loaded.records[0]
    assert (frames.key, frames.format, frames.captions) == ("a walk", "frames", ("somebody walks",))
    assert frames.path == walk and frames.paths == tuple(walk / f"{number}.png" for number in range(8))
    others = {record.key: record.format for record in loaded.records[1:]}
    assert others == {key: key.rpartition(".")[2] for key in others}
    assert all(record.paths == (record.path,) for record in loaded.records[1:])
    report = check_folder(tmp_path, Recipe())
    assert report.is_ok and json.dumps(report.as_dict())


def test_words_of_a_folder_of_frames_are_those_of_its_name(tmp_path, good_files):
    for number, data in enumerate(good_files["frames"]):
        path = tmp_path / "dog-jumps-high" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    (record,) = scan_folder(tmp_path).clips
    assert record.captions == ("dog jumps high",)
    (tmp_path / "metadata.csv").write_text("file_name,caption\ndog-jumps-high,a dog leaps\n")
    scan = scan_folder(tmp_path)
    assert scan.clips[0].captions == ("a dog leaps",) and not scan.warnings


def test_a_name_that_claims_another_format_is_said_and_its_clip_taken(tmp_path, good_files):
    add_clip(tmp_path, "true.gif")
    (tmp_path / "a.gif").write_bytes(good_files["webp"][0])
    scan = scan_folder(tmp_path)
    assert [clip.format for clip in scan.clips] == ["webp", "gif"]
    assert scan.warnings[0] == "1 clip not of the format that the name claims: a.gif is a webp file"
    only = scan_folder(tmp_path, replace(DATA, formats=("gif",)))
    assert [clip.key for clip in only.clips] == ["true.gif"]
    assert only.left_out[0].reason == "is a webp file; data.formats has only gif"


def test_stills_are_clips_or_left_out_as_asked(tmp_path, good_files):
    add_clip(tmp_path, "a.gif")
    (tmp_path / "b.png").write_bytes(good_files["still png"][0])
    assert [clip.key for clip in load_clips(tmp_path, DATA).records] == ["a.gif", "b.png"]
    loaded = load_clips(tmp_path, replace(DATA, stills="leave_out"))
    assert [clip.key for clip in loaded.records] == ["a.gif"]
    assert loaded.left_out[0].reason == "is a single picture; data.stills is leave_out"


def test_frames_that_lack_numbers_are_said(tmp_path, good_files):
    (tmp_path / "walk").mkdir()
    for number in (1, 2, 4):
        (tmp_path / f"walk/{number}.png").write_bytes(good_files["frames"][number])
    scan = scan_folder(tmp_path)
    assert scan.clips[0].num_frames == 3 and scan.warnings == ("the numbered frames of walk lack 3",)


def test_records_say_what_the_file_holds(tmp_path):
    write_clip(tmp_path / "wide.gif", np.zeros((5, 70, 90, 3), dtype=np.uint8), frame_ms=80, metadata=None)
    record = scan_folder(tmp_path).clips[0]
    assert (record.num_frames, record.duration_ms, record.width, record.height) == (5, 400, 90, 70)


def test_links_out_of_the_folder_are_not_followed(tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    add_clip(inside, "good.gif")
    add_clip(outside, "secret.gif")
    (inside / "linked.gif").symlink_to(outside / "secret.gif")
    (inside / "folder").symlink_to(outside)
    (inside / "round").symlink_to(inside)
    (inside / "gone.gif").symlink_to(inside / "nothing.gif")
    (inside / "alias.gif").symlink_to("good.gif")
    scan = scan_folder(inside)
    assert [clip.key for clip in scan.clips] == ["alias.gif", "good.gif"]
    assert {item.key: item.reason for item in scan.left_out} == {
        "folder": "is a linked folder and is not entered",
        "gone.gif": "is a link to nothing",
        "linked.gif": "is a link that leads outside the folder",
        "round": "is a linked folder and is not entered",
    }


def test_a_pipe_and_a_folder_named_like_clips_do_no_harm(tmp_path):
    add_clip(tmp_path, "folder.gif/good.gif")
    os.mkfifo(tmp_path / "pipe.gif")
    scan = scan_folder(tmp_path)
    assert [clip.key for clip in scan.clips] == ["folder.gif/good.gif"]
    assert scan.left_out[0].reason == "is not a file"


def test_a_name_that_is_not_utf8_is_spelled_out(tmp_path):
    add_clip(tmp_path, "plain.gif")
    os.rename(tmp_path / "plain.gif", os.fsencode(tmp_path) + b"/caf\xe9.gif")
    assert scan_folder(tmp_path).clips[0].key == "caf\\xe9.gif"


def test_a_caption_that_cannot_be_read_takes_its_clip_along(tmp_path):
    add_clip(tmp_path, "a.gif")
    add_clip(tmp_path, "b.gif")
    (tmp_path / "a.TXT").write_bytes(b"caf\xe9")
    scan = scan_folder(tmp_path)
    assert [clip.key for clip in scan.clips] == ["b.gif"]
    assert scan.left_out[0].reason == "has a caption file a.TXT that is not UTF-8 text; save it as UTF-8"


def test_captions_that_belong_to_no_clip_are_reported(tmp_path):
    add_clip(tmp_path, "sub/a.gif", caption="there")
    (tmp_path / "sub/b.txt").write_text("lost")
    (tmp_path / "sub/metadata.csv").write_text("file_name,caption\na.gif,x\nmissing.gif,y\n")
    assert scan_folder(tmp_path).warnings == (
        "1 .txt file with no clip of the same name: b.txt",
        "sub/metadata.csv names 1 file that cannot be used here: missing.gif",
        "1 clip with other captions in sub/metadata.csv than in its .txt, which counts: sub/a.gif",
    )


def test_two_metadata_files_in_one_folder_are_an_error(tmp_path):
    add_clip(tmp_path, "a.gif")
    (tmp_path / "metadata.csv").write_text("file_name,caption\n")
    (tmp_path / "metadata.jsonl").write_text("")
    with pytest.raises(DatasetError, match=r"holds both metadata\.csv and metadata\.jsonl; keep one of them"):
        scan_folder(tmp_path)


def test_a_folder_without_words_is_unconditional(tmp_path):
    add_clip(tmp_path, "0001.gif")
    assert not scan_folder(tmp_path).is_captioned


def test_folders_with_nothing_to_train_on_say_what_to_do(tmp_path):
    with pytest.raises(DatasetError, match=r"holds no files that end in \.gif, .*; add clips, or name"):
        scan_folder(tmp_path)
    (tmp_path / "x.gif").write_text("no clip")
    with pytest.raises(DatasetError, match=r"holds no readable clip; .* \(x\.gif is not a GIF, .*\)"):
        load_clips(tmp_path, DATA)
    with pytest.raises(DatasetError, match="is a file, not a folder of clips"):
        scan_folder(tmp_path / "x.gif")
    with pytest.raises(DatasetError, match="does not exist"):
        scan_folder(tmp_path / "nowhere")


def test_a_wrong_background_is_said_before_any_clip_is_read():
    with pytest.raises(SettingsError, match="no colour"):
        replace(DATA, background="colourless")


def test_progress_counts_every_file(mixed):
    seen = []
    scan_folder(mixed, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(number, 6) for number in range(1, 7)]


def test_the_fingerprint_changes_with_pictures_and_captions_and_not_with_the_place(tmp_path):
    for name in ("one", "two"):
        add_clip(tmp_path / name, "a.gif", caption="red")
    first = scan_folder(tmp_path / "one").fingerprint
    assert scan_folder(tmp_path / "two").fingerprint == first
    (tmp_path / "one/a.txt").write_text("blue")
    add_clip(tmp_path / "two", "a.gif", shade=9)
    assert first != scan_folder(tmp_path / "one").fingerprint != scan_folder(tmp_path / "two").fingerprint != first


def test_what_changed_is_named(tmp_path):
    for key in ("a", "b", "c", "d"):
        add_clip(tmp_path, f"{key}.gif", caption=key)
    old = scan_folder(tmp_path).manifest
    assert describe_difference(old, old) == ()
    (tmp_path / "a.gif").rename(tmp_path / "e.gif")
    add_clip(tmp_path, "b.gif", shade=5)
    (tmp_path / "c.txt").write_text("other")
    assert describe_difference(old, scan_folder(tmp_path).manifest) == (
        "1 clip added: e.gif",
        "1 clip removed: a.gif",
        "1 clip with other pictures: b.gif",
        "1 clip with other captions: c.gif",
    )


def test_many_changes_are_counted_not_listed():
    new = {f"{number}.gif": {"sha256": "", "captions": []} for number in range(8)}
    assert describe_difference({}, new) == ("8 clips added: 0.gif, 1.gif, 2.gif, 3.gif, 4.gif and 3 more",)
