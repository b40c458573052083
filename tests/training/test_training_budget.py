"""A budget is kept when steps take longer or shorter than they were measured to, and the rate still ends at nothing."""

from itertools import pairwise

import pytest

from t2v.runtime import Precision
from t2v.training.choose import Cost
from t2v.training.plan import load_plan


class Clock:
    """Every other reading, as of the end of a step, is `pace` seconds later; from step `then` on, `later` are."""

    def __init__(self, pace: float, later: float | None = None, then: int = 10**9) -> None:
        self.now, self.readings = 0.0, 0
        self.pace, self.later, self.then = pace, pace if later is None else later, then

    def perf_counter(self) -> float:
        self.readings += 1
        if self.readings % 2 == 0:
            self.now += self.pace if self.readings / 2 <= self.then else self.later
        return self.now


@pytest.fixture(autouse=True)
def _measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the run a step is said to take 0.2 s; saves and sheets nothing."""
    cost = Cost(seconds_per_step=0.2, seconds_per_sheet=0.0, clips_per_step=2, precision=Precision("fp32", "as asked"))
    monkeypatch.setattr("t2v.training.start.measure_cost", lambda recipe, **options: cost)
    monkeypatch.setattr("t2v.training.start.time", Clock(0.0))


TYPED = {"train.save_every": "25", "train.sample_every": "1000"}


def rates_of(ready, up_to: int = 10**9) -> list[float]:
    """The learning rates of the steps to the end, or of those up to one after which nothing is saved."""
    rates = []
    for progress in ready.training.steps():
        rates.append(progress.learning_rate)
        if progress.step == up_to:
            break
    return rates


@pytest.mark.parametrize("clock", [Clock(0.4), Clock(0.12), Clock(0.2, 0.6, then=60)])
def test_the_end_follows_the_pace(bench, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("t2v.training.loop.time", Clock(clock.pace, clock.later, clock.then))
    ready = bench.open(budget_s=30.0, overrides=TYPED)
    planned = ready.training.plan.num_steps
    rates = rates_of(ready)
    assert ready.training.plan.num_steps == ready.training.step == len(rates) != planned
    assert ready.training.seconds == pytest.approx(30, rel=0.06)
    assert all(a >= b for a, b in pairwise(rates[ready.training.plan.recipe.train.warmup_steps :]))
    assert rates[-1] < 0.03 * max(rates)
    assert load_plan(bench.run) == ready.training.plan
    assert bench.open(budget_s=30.0).is_finished


def test_a_pace_as_measured_leaves_the_plan_as_it_is(bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("t2v.training.loop.time", Clock(0.201))
    ready = bench.open(budget_s=30.0, overrides=TYPED)
    before = load_plan(bench.run)
    rates_of(ready)
    assert load_plan(bench.run) == before


def test_a_run_cut_off_after_the_end_was_moved_goes_on_at_the_same_rates(bench, monkeypatch) -> None:
    monkeypatch.setattr("t2v.training.loop.time", Clock(0.2, 0.4, then=26))
    unbroken = rates_of(bench.open(budget_s=30.0, overrides=TYPED))
    monkeypatch.setattr("t2v.training.loop.time", Clock(0.2, 0.4, then=26))
    ready = bench.open(budget_s=30.0, overrides=TYPED, fresh=True)
    first = rates_of(ready, up_to=45)
    fits = load_plan(bench.run).stretches[-1].fits
    assert any(25 < fit.step <= 45 for fit in fits)  # after the last saved state
    again = bench.open()
    assert again.training.step == 25
    assert load_plan(bench.run).stretches[-1].fits == fits
    rest = rates_of(again)
    assert first == unbroken[:45]
    assert rest[:20] == first[25:]
    assert 25 + len(rest) == pytest.approx(len(unbroken), rel=0.05)


def test_steps_that_were_asked_for_are_taken_however_long(bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a budget had fitted those before."""
    monkeypatch.setattr("t2v.training.loop.time", Clock(0.4))
    rates_of(bench.open(budget_s=6.0, overrides=TYPED))
    ready = bench.open(num_steps=80)
    assert len(rates_of(ready)) + ready.training.plan.stretches[-1].start == 80
