"""`t2v pack`: a folder becomes shards, and what is not in them is said."""

import json
from pathlib import Path

import numpy as np
import pytest

from t2v.data.shards import find_shards, scan_shards
from t2v.data.video_files import write_clip


@pytest.fixture
def gifs(tmp_path):
    folder = tmp_path / "my gifs"
    folder.mkdir()
    for number in range(4):
        frames = np.random.default_rng(number).integers(0, 255, (8, 200, 200, 3), np.uint8)
        write_clip(folder / f"red kite {number}.gif", frames, frame_ms=100, metadata=None)
    (folder / "empty.gif").touch()
    return folder


@pytest.mark.usefixtures("decoder_processes")
def test_a_folder_is_packed_and_the_next_command_is_the_answer(t2v, gifs):
    status, out, err = t2v("pack", gifs, "my shards", "--shard-mb", 1)
    assert (status, out) == (0, "t2v train 'my shards'\n")
    assert "left out: empty.gif is empty" in err
    shards = find_shards(gifs.parent / "my shards")
    assert len(shards) > 1
    assert f"4 clips in {len(shards)} shards" in err
    assert {clip.captions for clip in scan_shards(shards).clips} == {("red kite",)}


def test_the_folder_one_stands_in_is_filled(t2v, gifs, monkeypatch, tmp_path):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    status, out, _ = t2v("pack", gifs, ".")
    assert (status, out) == (0, "t2v train .\n")
    assert [path.name for path in find_shards(Path())] == ["000000.tar"]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_clip_with_a_great_many_captions_is_packed_and_read(t2v, gifs):
    captions = [f"a red kite number {number} over the hill" for number in range(400)]
    lines = [json.dumps({"file_name": "red kite 0.gif", "captions": captions, "weights": [1.0] * 400})]
    (gifs / "metadata.jsonl").write_text("\n".join(lines))
    assert t2v("pack", gifs, "shards")[0] == 0
    scan = scan_shards(find_shards(gifs.parent / "shards"))
    assert not scan.left_out
    assert max(len(clip.captions) for clip in scan.clips) == 400


def test_shards_are_not_written_over(refused, t2v, gifs):
    t2v("pack", gifs, "shards")
    before = {path.name: path.read_bytes() for path in find_shards(gifs.parent / "shards")}
    assert "shards holds something already; name a folder that is empty or not there yet" in refused(
        "pack", gifs, "shards"
    )
    assert {path.name: path.read_bytes() for path in find_shards(gifs.parent / "shards")} == before
