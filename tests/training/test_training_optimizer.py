"""The learning rate rises, falls to nothing at the end, and never jumps."""

import math
from itertools import pairwise
from typing import get_args

import pytest

from t2v.config import DecayName, TrainSettings
from t2v.training.optimizer import DECAYS, learning_rate, warmup_steps
from t2v.training.plan import Fit, Stretch


def test_the_table_has_exactly_the_names_people_can_choose() -> None:
    assert set(DECAYS) == set(get_args(DecayName))


@pytest.mark.parametrize("decay", DECAYS)
def test_the_rate_peaks_once_at_the_value_asked_for(decay: DecayName) -> None:
    settings = TrainSettings(learning_rate=1e-3, warmup_steps=20, decay=decay)
    rates = [learning_rate(settings, Stretch(start=0, end=200), step) for step in range(200)]
    assert max(rates) == pytest.approx(1e-3)
    assert all(a < b for a, b in pairwise(rates[:20]))
    assert all(a >= b for a, b in pairwise(rates[20:]))
    if decay != "constant":
        assert rates[-1] < 2e-5


def test_a_short_run_is_not_all_warm_up() -> None:
    settings = TrainSettings(learning_rate=1e-3, warmup_steps=500, decay="cosine")
    assert max(learning_rate(settings, Stretch(start=0, end=50), step) for step in range(50)) == pytest.approx(1e-3)


def test_linear_decay_without_warm_up_is_the_annealing_of_improved_diffusion() -> None:
    """Its `lr_anneal_steps`: the rate of a step, counted from 0, is lr * (1 - step / lr_anneal_steps)."""
    settings = TrainSettings(learning_rate=1e-4, warmup_steps=0, decay="linear")
    for step in range(30):
        assert learning_rate(settings, Stretch(start=0, end=30), step) == pytest.approx(
            1e-4 * (1 - step / 30), rel=1e-12
        )


@pytest.mark.parametrize("ends", [(190, 160), (300, 440), (150, 150), (340, 190)])
@pytest.mark.parametrize("decay", ["cosine", "linear"])
def test_the_rate_does_not_jump_where_the_end_is_moved(decay: DecayName, ends: tuple[int, int]) -> None:
    """No step changes it by more than the fastest of the decays does, and the last rate is next to nothing."""
    settings = TrainSettings(learning_rate=1e-3, warmup_steps=20, decay=decay)
    stretch = Stretch(start=40, end=240)
    warmup = warmup_steps(settings, stretch)
    for at, end in zip((100, 140), ends, strict=True):
        fit = Fit(step=at, done=stretch.done(at, warmup=warmup), end=end)
        before = learning_rate(settings, stretch, at)
        stretch = stretch.model_copy(update={"fits": (*stretch.fits, fit)})
        assert learning_rate(settings, stretch, at) == pytest.approx(before)
    rates = [learning_rate(settings, stretch, step) for step in range(40 + warmup, ends[1] + 1)]
    steepest = 1e-3 * math.pi / 2 / min(180, ends[0] - 100, ends[1] - 140)
    assert all(0 <= a - b <= steepest for a, b in pairwise(rates))
    assert rates[-1] == pytest.approx(0, abs=1e-12)


def test_steps_before_a_fit_keep_their_rates() -> None:
    """A run that was cut off between a fit and the next saved state takes the steps in between once more."""
    settings = TrainSettings(learning_rate=1e-3, warmup_steps=20, decay="cosine")
    planned = Stretch(start=40, end=240)
    moved = planned.model_copy(update={"fits": (Fit(step=100, done=0.25, end=180),)})
    for step in range(40, 100):
        assert learning_rate(settings, moved, step) == learning_rate(settings, planned, step)
