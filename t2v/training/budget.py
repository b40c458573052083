"""Keeping to a budget while a run is on its way: its steps were planned from the pace of the first few."""

import time

from t2v.training.optimizer import warmup_steps
from t2v.training.plan import Plan

# The end is looked at after every twentieth of the steps that were planned, and moved by no less than this share of
# all: less is the noise of clocks.
NUM_LOOKS = 20
MIN_STEPS_APART = 10
MIN_MOVE = 0.05


class BudgetKeeper:
    """Says now and then where a run has to end for its budget to be kept.

    What this start has spent is read off the clock, with its saves, its sample sheets and any time that it stood still;
    earlier starts count as their steps took and the rest was foretold.
    """

    def __init__(self, plan: Plan, *, step: int, seconds: float) -> None:
        """step and seconds: as the run stands before the next step of this start."""
        self.first = self.since = step
        self.seconds_then = seconds
        self.spent_before = plan.seconds_spent(step, seconds)
        self.started = time.perf_counter()

    def look(self, plan: Plan, step: int, seconds: float) -> int | None:
        """The step that the budget ends at, where it is time to look; called after every step.

        It is time at the same steps in every process, and the clocks of none decide whether. The end is never brought
        nearer than the next look: the rate needs steps to fall in.
        """
        stretch = plan.stretches[-1]
        apart = max(MIN_STEPS_APART, (stretch.end - stretch.start) // NUM_LOOKS)
        if step == self.first + 1:  # allocated and warmed up: no step to go by
            self.since, self.seconds_then = step, seconds
        looked_before = stretch.fits[-1].step if stretch.fits else 0  # a run that was cut off takes some steps again
        due = (
            stretch.by_budget
            and (step - stretch.start) % apart == 0
            and max(looked_before, stretch.start + warmup_steps(plan.recipe.train, stretch)) < step < plan.num_steps
            and step - self.since >= apart // 2
        )
        if not due:
            return None
        pace = (seconds - self.seconds_then) / plan.work(self.since, step)
        self.since, self.seconds_then = step, seconds
        assert plan.budget_s is not None
        spent = self.spent_before + time.perf_counter() - self.started
        allowed = plan.steps_within(plan.budget_s, step=step, spent=spent, seconds_per_step=pace)
        return max(allowed, min(stretch.last, step + apart))


def moved_end(plan: Plan, step: int, end: int) -> Plan:
    """The plan with its end there and no jump of the learning rate, or as it was where it would hardly move."""
    stretch = plan.stretches[-1]
    if plan.work(*sorted((end, stretch.last))) <= MIN_MOVE * plan.work(stretch.start, stretch.last):
        return plan
    done = stretch.done(step, warmup=warmup_steps(plan.recipe.train, stretch))
    return plan.fitted(at=step, done=done, num_steps=end)
