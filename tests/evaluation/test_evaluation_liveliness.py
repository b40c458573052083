"""Motion and flicker of clips whose values are known."""

import numpy as np
import pytest

from t2v.evaluation.liveliness import flicker, motion_energy


def uniform(levels, size=4, channels=3):
    """Frames of one level each."""
    return np.broadcast_to(np.array(levels, np.uint8)[:, None, None, None], (len(levels), size, size, channels))


def test_a_still_neither_moves_nor_flickers():
    still = np.repeat(np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), np.uint8), 5, axis=0)
    assert motion_energy(still) == 0
    assert flicker(still) == pytest.approx(0, abs=1e-7)


def test_a_pixel_that_turns_on_has_the_energy_of_its_share():
    frames = np.zeros((2, 4, 4, 3), np.uint8)
    frames[1, 0, 0] = 255
    assert motion_energy(frames) == pytest.approx(1 / 16)


@pytest.mark.parametrize("channels", [1, 3])
def test_alternating_brightness_flickers_with_four_times_its_amplitude(channels):
    frames = uniform([100, 151] * 4, channels=channels)
    assert flicker(frames) == pytest.approx(4 * (51 / 2) / 255, rel=1e-5)
    assert motion_energy(frames) == pytest.approx(0.2**2, rel=1e-5)


def test_steady_brightening_and_plain_motion_are_no_flicker():
    assert flicker(uniform([0, 20, 40, 60, 80])) == pytest.approx(0, abs=1e-6)
    moving = np.stack([np.roll(uniform([0])[0], 0, axis=1)] * 5)
    for frame in range(5):
        moving[frame, :, frame % 4] = 255
    assert flicker(moving) == pytest.approx(0, abs=1e-6)
    assert motion_energy(moving) > 0.1
