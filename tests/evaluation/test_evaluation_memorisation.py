"""The nearest training clip of a sample, and how often samples are copies."""

import numpy as np
import pytest

from t2v.evaluation import memorisation
from t2v.evaluation.memorisation import memorised, nearest_clips


@pytest.mark.parametrize("block", [1, 3, 2**10, 2**24])
def test_distances_and_places_are_those_of_a_plain_search(monkeypatch, block):
    monkeypatch.setattr(memorisation, "NUMBERS_AT_A_TIME", block * 2)
    rng = np.random.default_rng(0)
    clips, known = rng.integers(0, 256, (9, 3, 4, 4, 3), np.uint8), rng.integers(0, 256, (40, 3, 4, 4, 3), np.uint8)
    apart = np.sqrt(((clips[:, None] / 1.0 - known[None]) ** 2).mean(axis=(2, 3, 4, 5)))
    found = nearest_clips(clips, known)
    assert np.array_equal(found.place, apart.argmin(axis=1))
    assert np.allclose(found.distance, apart.min(axis=1))


def test_a_copy_is_found_at_distance_zero_and_a_near_copy_to_the_digit():
    rng = np.random.default_rng(0)
    known = rng.integers(0, 255, (30, 2, 8, 8, 3), np.uint8)
    near = known[7].copy()
    near[0, 0, 0, 0] += 1
    found = nearest_clips(np.stack([known[3], near]), known)
    assert found.place.tolist() == [3, 7]
    assert found.distance == pytest.approx([0, np.sqrt(1 / near.size)])


def test_a_mapped_file_is_read_in_blocks(tmp_path):
    known = np.random.default_rng(0).random((50, 6))
    np.save(tmp_path / "known.npy", known)
    mapped = np.load(tmp_path / "known.npy", mmap_mode="r")
    assert nearest_clips(known[:5], mapped).place.tolist() == list(range(5))


def test_no_clips_have_no_distances():
    assert nearest_clips(np.zeros((0, 3)), np.zeros((4, 3))).distance.shape == (0,)


def test_memorised_is_the_share_under_the_percentile_of_held_out_clips():
    held_out = np.arange(101) / 100
    # The first percentile of these is 0.01.
    found = memorised([0.0, 0.005, 0.02, 0.5], held_out)
    assert found.threshold == pytest.approx(0.01)
    assert found.share == 0.5
    assert memorised(held_out, held_out, percentile=10).share == pytest.approx(10 / 101)


def test_clips_of_another_shape_are_refused():
    with pytest.raises(AssertionError, match=r"\(3,\)"):
        nearest_clips(np.zeros((2, 3)), np.zeros((2, 4)))
