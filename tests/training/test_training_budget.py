"""A budget is kept when steps take longer or shorter than they were measured to, and the rate still ends at nothing."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from t2v.runtime import Precision
from t2v.training import budget
from t2v.training.choose import Cost
from t2v.training.loop import Progress, Training
from t2v.training.plan import load_plan

SHEET_S = 0.5
TYPED = {"train.save_every": "25", "train.sample_every": "40"}


class Clock:
    """Goes on by what a step is said to take, and by nothing else."""

    def __init__(self) -> None:
        self.now = 0.0
        self.seconds_of: Callable[[int], float] = lambda step: 0.2
        self.cost = Cost(0.2, SHEET_S, clips_per_step=2, precision=Precision("fp32", "as asked"))

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of runs that were measured to take 0.2 s a step and 0.5 s a sample sheet before they began."""
    clock, take_step = Clock(), Training.take_step

    def timed(training: Training) -> Progress:
        clock.now += clock.seconds_of(training.step)
        return take_step(training)

    monkeypatch.setattr(Training, "take_step", timed)
    monkeypatch.setattr("t2v.training.start.measure_cost", lambda recipe, **options: clock.cost)
    for module in ("start", "loop", "budget"):
        monkeypatch.setattr(f"t2v.training.{module}.time", clock)
    return clock


def rates_of(ready: Any, clock: Clock, *, up_to: int | None = None, sheet_s: float = SHEET_S) -> list[float]:
    """The learning rates of the steps to the end, or to one after which nothing is saved."""
    rates = []
    for progress in ready.training.steps():
        rates.append(progress.learning_rate)
        if progress.sample_due:
            clock.now += sheet_s
        if progress.step == up_to:
            break
    return rates


@pytest.mark.parametrize(
    ("seconds_of", "sheet_s"),
    [
        (lambda step: 0.4, SHEET_S),
        (lambda step: 0.12, SHEET_S),
        (lambda step: 0.2 if step < 60 else 0.6, SHEET_S),
        (lambda step: 0.2, 8 * SHEET_S),
    ],
)
def test_the_end_follows_the_pace(bench, clock: Clock, seconds_of: Callable[[int], float], sheet_s: float) -> None:
    clock.seconds_of = seconds_of
    ready = bench.open(budget_s=30.0, overrides=TYPED)
    planned = ready.training.plan.num_steps
    rates = rates_of(ready, clock, sheet_s=sheet_s)
    assert ready.training.plan.num_steps == ready.training.step == len(rates) != planned
    assert clock.now - sheet_s == pytest.approx(30, rel=0.06)  # the sheet of the end comes after it
    assert all(a >= b for a, b in pairwise(rates[ready.training.plan.recipe.train.warmup_steps :]))
    assert rates[-1] < 0.03 * max(rates)
    assert load_plan(bench.run) == ready.training.plan
    assert bench.open(budget_s=30.0).is_finished


def test_a_pace_as_measured_leaves_the_plan_as_it_is(bench, clock: Clock) -> None:
    clock.seconds_of = lambda step: 0.201
    ready = bench.open(
        budget_s=30.0, overrides=TYPED | {"train.sample_every": "17"}
    )  # as many sheets as it has time for
    before = load_plan(bench.run)
    rates_of(ready, clock)
    assert load_plan(bench.run) == before


HALF = {"train.half_size_share": "0.5", "data.size": "16", "train.save_every": "25", "train.sample_every": "10000"}
HALF_COST = 0.25


@pytest.fixture
def sizes(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of the clips that each step really showed, the last of which decides what the clock says that it took."""
    shown: list[int] = []
    batches = Training._batches

    def seen(training: Training, micro: int) -> Any:
        drawn = batches(training, micro)
        shown.append(drawn[0].x0.shape[-1])
        # The step's seconds are counted before it is taken.
        clock.now -= clock.seconds_of(training.step) * (1 - HALF_COST) if shown[-1] == 8 else 0
        return drawn

    clock.cost = replace(clock.cost, half_size_cost=HALF_COST)
    monkeypatch.setattr(Training, "_batches", seen)
    return shown


def test_small_clips_are_no_sign_of_a_quick_machine(bench, clock: Clock, sizes: list[int]) -> None:
    """A step at half the size takes a quarter of the time, as was measured: nothing is to be moved."""
    ready = bench.open(budget_s=30.0, overrides=HALF | {"train.sample_every": "26"})  # 8 sheets
    before = load_plan(bench.run)
    rates_of(ready, clock)
    assert load_plan(bench.run) == before
    assert sizes.count(8) == before.half_size_steps == before.num_steps // 2
    assert clock.now - SHEET_S == pytest.approx(30, rel=0.06)


@pytest.mark.parametrize(("share", "pace"), [("0.5", 2.0), ("0.9", 1.3), ("0.9", 3.0), ("0.5", 0.6)])
def test_another_pace_shows_small_clips_for_as_large_a_share_of_other_steps(
    bench, clock: Clock, sizes: list[int], share: str, pace: float
) -> None:
    planned = bench.open(budget_s=30.0, overrides=HALF | {"train.half_size_share": share}).training.plan
    clock.seconds_of = lambda step: 0.2 * pace
    rates_of(bench.open(recipe=None), clock)
    plan = load_plan(bench.run)
    assert (plan.num_steps < planned.num_steps) == (pace > 1)
    assert sizes == [8] * plan.half_size_steps + [16] * (plan.num_steps - plan.half_size_steps)
    assert plan.half_size_steps == pytest.approx(float(share) * plan.num_steps, rel=0.06)
    assert clock.now - SHEET_S == pytest.approx(30, rel=0.06)


def test_a_run_whose_small_clips_were_cut_short_goes_on_as_it_would_have(bench, clock: Clock, sizes: list[int]) -> None:
    clock.seconds_of = lambda step: 0.4
    unbroken = rates_of(bench.open(budget_s=30.0, overrides=HALF), clock)
    met = [*sizes]
    sizes.clear()
    first = rates_of(bench.open(budget_s=30.0, overrides=HALF, fresh=True), clock, up_to=45)
    sizes.clear()
    again = bench.open(recipe=None)
    start = again.training.step
    assert 0 < start < 45 < again.training.plan.half_size_steps
    rest = rates_of(again, clock)
    assert first == unbroken[:45]
    assert rest[: 45 - start] == first[start:]
    assert sizes[: 45 - start] == met[start:45]
    assert sizes.count(8) + start == pytest.approx(met.count(8), rel=0.05)


def test_after_a_stall_the_rate_still_falls(bench, clock: Clock) -> None:
    """An hour of sleep spends the budget; what was learned is not left at a high rate."""
    clock.seconds_of = lambda step: 3600.0 if step == 33 else 0.2
    rates = rates_of(bench.open(budget_s=30.0, overrides=TYPED), clock)
    assert len(rates) == 40 + budget.MIN_STEPS_APART
    assert all(a > b for a, b in pairwise(rates[40:]))
    assert rates[-1] < 0.05 * max(rates)


def test_a_slow_first_step_of_a_start_is_not_the_pace(bench, clock: Clock) -> None:
    clock.seconds_of = lambda step: 0.2
    rates_of(bench.open(budget_s=30.0, overrides=TYPED | {"train.save_every": "39"}), clock, up_to=39)
    planned = load_plan(bench.run).num_steps
    clock.seconds_of = lambda step: 3.0 if step == 39 else 0.2
    again = bench.open()
    assert again.training.step == 39
    rates_of(again, clock, up_to=45)
    assert load_plan(bench.run).num_steps == planned


def test_a_run_cut_off_after_the_end_was_moved_goes_on_at_the_same_rates(bench, clock: Clock) -> None:
    clock.seconds_of = lambda step: 0.2 if step < 26 else 0.4
    unbroken = rates_of(bench.open(budget_s=30.0, overrides=TYPED), clock)
    first = rates_of(bench.open(budget_s=30.0, overrides=TYPED, fresh=True), clock, up_to=45)
    fits = load_plan(bench.run).stretches[-1].fits
    assert any(25 < fit.step <= 45 for fit in fits)  # after the last saved state
    again = bench.open()
    assert again.training.step == 25
    assert load_plan(bench.run).stretches[-1].fits == fits
    rest = rates_of(again, clock)
    assert first == unbroken[:45]
    assert rest[:20] == first[25:]
    assert 25 + len(rest) == pytest.approx(len(unbroken), rel=0.05)


@pytest.mark.parametrize("asked", ["more", "as many"])
def test_steps_that_were_asked_for_are_taken_however_long(bench, clock: Clock, asked: str) -> None:
    """Also where a budget had fitted those before, and where the number stays."""
    ready = bench.open(budget_s=12.0, overrides=TYPED)
    num_steps = ready.training.plan.num_steps + (20 if asked == "more" else 0)
    clock.seconds_of = lambda step: 0.4
    ready = bench.open(num_steps=num_steps)
    assert len(rates_of(ready, clock)) == num_steps


def test_a_budget_counts_again_after_steps_were_asked_for(bench, clock: Clock) -> None:
    """Even the same one: the end follows the clock again."""
    planned = bench.open(budget_s=12.0, overrides=TYPED).training.plan.num_steps
    assert not bench.open(num_steps=planned).training.plan.stretches[-1].by_budget
    assert bench.open(budget_s=12.0).training.plan.stretches[-1].by_budget


def test_a_larger_budget_is_kept_as_well(bench, clock: Clock) -> None:
    """Its steps are planned at the pace until then and lie in a stretch of their own."""
    rates_of(bench.open(budget_s=6.0, overrides=TYPED), clock)
    spent = clock.now
    clock.seconds_of = lambda step: 0.4
    ready = bench.open(budget_s=30.0)
    stretch = ready.training.plan.stretches[-1]
    assert stretch.start > 0
    rates_of(ready, clock)
    assert ready.training.plan.num_steps < stretch.end
    assert spent == pytest.approx(6, rel=0.1)
    assert clock.now - SHEET_S == pytest.approx(30, rel=0.06)
