"""Samplers that look back: what the estimates of the last steps foretell of the next."""

import math
from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor

from t2v.diffusion.schedule import Schedule
from t2v.diffusion.steps import Denoise, Denoised, Noise, Step, toward


def dpmpp_2m(
    denoise: Denoise, x: Tensor, schedule: Schedule, noise: Noise, *, start: int, eta: float
) -> Iterator[Step]:
    """Head for where the estimate will be half a step on, foreseen from this one and the one before.

    Lu et al. 2022 (DPM-Solver++), algorithm 2, and with eta 1 its stochastic variant.
    """
    before: list[Estimate] = []
    for index, t in enumerate(range(start, -1, -1)):
        seen = denoise(x, t)
        before = [*before, Estimate.at(schedule, t, seen.x0)][-2:]
        x = toward(_foreseen(before, schedule, t), seen, schedule, t, eta=eta, noise=noise, index=index)
        yield Step(index, start + 1, t, x, seen.x0)


def dpmpp_3m(
    denoise: Denoise, x: Tensor, schedule: Schedule, noise: Noise, *, start: int, eta: float
) -> Iterator[Step]:
    """dpmpp_2m with a curve through three estimates. No noise is added. Lu et al. 2022, appendix B."""
    before: list[Estimate] = []
    for index, t in enumerate(range(start, -1, -1)):
        seen = denoise(x, t)
        before = [*before, Estimate.at(schedule, t, seen.x0)][-3:]
        # The steps of a short walk grow too long towards its end for a curve, as in the authors' code.
        usable = before[-2:] if t == 1 and start < 14 else before
        x = toward(_foreseen(usable, schedule, t), seen, schedule, t)
        yield Step(index, start + 1, t, x, seen.x0)


def unipc(denoise: Denoise, x: Tensor, schedule: Schedule, noise: Noise, *, start: int, eta: float) -> Iterator[Step]:
    """dpmpp_2m, with every step mended by the answer it led to, which costs no further one. No noise is added.

    Zhao et al. 2023 (UniPC), order 2 with B(h) = exp(h) - 1.
    """
    before: list[Estimate] = []
    last: Denoised | None = None
    for index, t in enumerate(range(start, -1, -1)):
        seen = denoise(x, t)
        here = Estimate.at(schedule, t, seen.x0)
        if last is not None and here.is_apart(before[-1]):
            mended = toward(_in_hindsight(before, here), last, schedule, t + 1)
            seen = seen._replace(x_t=mended)
        before, last = [*before, here][-2:], seen
        x = toward(_foreseen(before, schedule, t), seen, schedule, t)
        yield Step(index, start + 1, t, x, seen.x0)


FURTHEST = 8  # as far as a difference is drawn out, in lengths of its own; of the named spacings none needs above 5.1


class Estimate(NamedTuple):
    """A clean clip as it was seen at a level. lamb: log(alpha / sigma) there, over which estimates move smoothly."""

    x0: Tensor
    lamb: float

    @classmethod
    def at(cls, schedule: Schedule, t: int, x0: Tensor) -> "Estimate":
        return cls(x0, _lamb(schedule, t))

    def is_apart(self, other: "Estimate", step: float = 0.0) -> bool:
        """Whether a line can be drawn through both: not from a level without signal, nor within one level.

        Nor far out over a step beside which they are close together, as where two sections of a spacing meet: the
        little by which they differ would be blown up.
        """
        apart = abs(self.lamb - other.lamb)
        return math.isfinite(apart) and apart > 0 and abs(step) <= FURTHEST * apart

    def slope_from(self, other: "Estimate") -> Tensor:
        return (self.x0 - other.x0) / (self.lamb - other.lamb)


def _lamb(schedule: Schedule, t: int) -> float:
    level = schedule.level(t)
    return float(level.alpha.log() - level.sigma.log())


def _foreseen(before: list[Estimate], schedule: Schedule, t: int) -> Tensor:
    """The clean clip to head for on the step down from t, after up to three estimates, the newest of them at t."""
    now, step = before[-1], _lamb(schedule, t - 1) - before[-1].lamb
    # The step to the clean clip is infinitely long: nothing can be foreseen over it.
    if len(before) == 1 or not math.isfinite(step) or step == 0 or not now.is_apart(before[-2], step):
        return now.x0
    slope = now.slope_from(before[-2])
    if len(before) == 2 or not before[-2].is_apart(before[-3], step):
        return now.x0 + step / 2 * slope
    # The authors' bend is half the second derivative, where the exact solution has the whole; kept as published.
    bend = (slope - before[-2].slope_from(before[-3])) / (now.lamb - before[-3].lamb)
    by_slope, by_bend = _exact_weights(step)
    return now.x0 + by_slope * (slope + (now.lamb - before[-2].lamb) * bend) + by_bend * bend


def _in_hindsight(before: list[Estimate], here: Estimate) -> Tensor:
    """The clean clip that the last step should have headed for, the estimate at its end being known."""
    now, step = before[-1], here.lamb - before[-1].lamb
    slope = here.slope_from(now)
    if len(before) == 1 or not now.is_apart(before[-2], step):
        return now.x0 + step / 2 * slope
    bend = (slope - now.slope_from(before[-2])) / (here.lamb - before[-2].lamb)
    by_slope, by_bend = _exact_weights(step)
    return now.x0 + by_slope * (slope - step * bend) + 2 * by_bend * bend


def _exact_weights(step: float) -> tuple[float, float]:
    """How much the first and second derivative of the estimate count over a step in lamb, beside the estimate itself.

    Lu et al. 2022, eq. 12: the integrals of exp(-l) l and exp(-l) l**2 / 2 over the step, over that of exp(-l).
    """
    grown = -math.expm1(-step)
    return (step - grown) / grown, (step**2 / 2 - step + grown) / grown
