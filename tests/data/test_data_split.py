"""Clips held out stay held out, whatever comes to the folder or goes from it, and no copy of one is trained on."""

import hashlib
from itertools import pairwise

import numpy as np
import pytest

from t2v.data.folder import load_clips
from t2v.data.pixels import Pixels
from t2v.data.split import Split, for_training, is_held_out, split_clips, split_loaded
from t2v.data.video_files import write_clip
from t2v.errors import DatasetError

PIXELS = Pixels(num_frames=2, size=16, channels=3, background="white", fit="crop")
HASHES = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(4000)]


def test_the_share_is_met_and_a_larger_one_only_adds():
    held_out = {share: {h for h in HASHES if is_held_out(h, share)} for share in (0.0, 0.05, 0.1, 0.5, 1.0)}
    assert [len(clips) for clips in held_out.values()] == pytest.approx([0, 200, 400, 2000, 4000], abs=4 * 32)
    shares = list(held_out.values())
    assert all(small < large for small, large in pairwise(shares))


def test_the_side_of_a_clip_is_the_same_for_ever():
    # Written down: models that were judged by a split must never meet another one of the same name.
    assert [number for number, h in enumerate(HASHES[:120]) if is_held_out(h, 0.05)] == [27, 91, 108]


def test_a_clip_more_moves_no_other():
    before = split_clips(HASHES[:200], 0.1, [])
    after = split_clips([HASHES[3000], *HASHES[:200]], 0.1, [])
    assert [place - 1 for place in after.held_out if place] == list(before.held_out)
    assert [place - 1 for place in after.training if place] == list(before.training)


def test_near_duplicates_of_a_clip_held_out_are_set_aside():
    plain = split_clips(HASHES[:100], 0.1, [])
    out, another_out = plain.held_out[:2]
    kept, beside = plain.training[:2]
    split = split_clips(HASHES[:100], 0.1, [(out, beside), (kept, plain.training[2])])
    assert split.held_out == plain.held_out  # by their content alone
    assert split.set_aside == (beside,)
    assert split.training == tuple(place for place in plain.training if place != beside)
    assert split_clips(HASHES[:100], 0.1, [(out, another_out)]).set_aside == ()


def write_scene(path, seed):
    stains = np.random.default_rng(seed).integers(0, 256, (2, 4, 4, 3), np.uint8).repeat(4, axis=1).repeat(4, axis=2)
    write_clip(path, stains, frame_ms=100, metadata=None)


def test_loaded_clips_are_trained_on_as_if_the_others_were_not_there(tmp_path):
    for number in range(40):
        write_scene(tmp_path / f"{number:02}.gif", number)
    loaded = load_clips(tmp_path, PIXELS)
    split = split_loaded(loaded, 0.2)
    assert 3 <= len(split.held_out) <= 14 and not split.set_aside
    training = for_training(loaded, split)
    assert [record.key for record in training.records] == [loaded.records[place].key for place in split.training]
    assert all(
        (frames == loaded.frames[place]).all() for frames, place in zip(training.frames, split.training, strict=True)
    )
    # A copy of one that is held out, saved with other bytes.
    again = tmp_path / "again.gif"
    again.write_bytes(loaded.records[split.held_out[0]].path.read_bytes() + b"\0")
    more = load_clips(tmp_path, PIXELS)
    named = split_loaded(more, 0.2)
    keys = {more.records[place].key for place in named.held_out} - {"again.gif"}
    assert keys == {loaded.records[place].key for place in split.held_out}
    assert "again.gif" not in {more.records[place].key for place in named.training}


def test_no_share_takes_all_and_too_large_a_share_is_one_line(tmp_path):
    write_scene(tmp_path / "one.gif", 0)
    loaded = load_clips(tmp_path, PIXELS)
    assert split_loaded(loaded, 0.0) == Split((0,), (), ())
    with pytest.raises(DatasetError, match=r"is left to train on: lower data.hold_out, or add clips"):
        for_training(loaded, Split((), (0,), ()))
