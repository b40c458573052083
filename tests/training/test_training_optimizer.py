"""The learning rate rises, falls to nothing at the end, and never jumps."""

from itertools import pairwise
from typing import get_args

import pytest

from t2v.config import DecayName, TrainSettings
from t2v.training.optimizer import DECAYS, learning_rate


def test_the_table_has_exactly_the_names_people_can_choose() -> None:
    assert set(DECAYS) == set(get_args(DecayName))


@pytest.mark.parametrize("decay", DECAYS)
def test_the_rate_peaks_once_at_the_value_asked_for(decay: DecayName) -> None:
    settings = TrainSettings(learning_rate=1e-3, warmup_steps=20, decay=decay)
    rates = [learning_rate(settings, step, 200) for step in range(200)]
    assert max(rates) == pytest.approx(1e-3)
    assert all(a < b for a, b in pairwise(rates[:20]))
    assert all(a >= b for a, b in pairwise(rates[20:]))
    if decay != "constant":
        assert rates[-1] < 2e-5


def test_a_short_run_is_not_all_warm_up() -> None:
    settings = TrainSettings(learning_rate=1e-3, warmup_steps=500, decay="cosine")
    assert max(learning_rate(settings, step, 50) for step in range(50)) == pytest.approx(1e-3)


def test_linear_decay_without_warm_up_is_the_annealing_of_improved_diffusion() -> None:
    """Its `lr_anneal_steps`: the rate of a step, counted from 0, is lr * (1 - step / lr_anneal_steps)."""
    settings = TrainSettings(learning_rate=1e-4, warmup_steps=0, decay="linear")
    for step in range(30):
        assert learning_rate(settings, step, 30) == pytest.approx(1e-4 * (1 - step / 30), rel=1e-12)
