"""Samplers that look back, against their papers' formulas and against exact solutions."""

import math
from itertools import pairwise

import pytest
import torch

from t2v.diffusion.multistep import dpmpp_2m, dpmpp_3m, unipc
from t2v.diffusion.schedule import CLEAN, make_schedule
from t2v.diffusion.spacing import space
from t2v.diffusion.steps import Denoised

COSINE = make_schedule("cosine", 1000)
WALK = space(COSINE, "trailing", 9)
SHAPE = (1, 1, 1, 3, 3)


def normal(seed=0):
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def estimate(x, t):
    """Neither a straight line nor right."""
    return (0.7 * x + 0.1 * t).sin()


def walk(sampler, x0, schedule, *, eta=0.0):
    x_T, start = normal(), schedule.num_timesteps - 1

    def denoise(x, t):
        return Denoised(x0(x, t), x, x * 0)

    return list(sampler(denoise, x_T, schedule, lambda step: normal(step + 1), start=start, eta=eta))


def scales(schedule, t):
    """alpha, sigma and log(alpha / sigma) as numbers."""
    alpha, sigma = (float(scale) for scale in schedule.level(t))
    return alpha, sigma, math.log(alpha / sigma) if sigma else math.inf


def test_dpmpp_2m_is_that_of_the_paper():
    """Lu et al. 2022, algorithm 2, as published, with a last step of first order, since it is infinitely long."""
    x, before = normal(), None
    for t in range(8, -1, -1):
        x0, (_, sigma, lamb), (alpha_next, sigma_next, lamb_next) = estimate(x, t), scales(WALK, t), scales(WALK, t - 1)
        h, target = lamb_next - lamb, x0
        if before is not None and math.isfinite(h):
            r = (lamb - before[1]) / h
            target = (1 + 1 / (2 * r)) * x0 - 1 / (2 * r) * before[0]
        x = sigma_next / sigma * x - alpha_next * math.expm1(-h) * target
        before = (x0, lamb)
    torch.testing.assert_close(walk(dpmpp_2m, estimate, WALK)[-1].x_t, x)


def test_stochastic_dpmpp_2m_is_that_of_the_paper():
    """Lu et al. 2022, SDE-DPM-Solver++(2M), as published."""
    x, before = normal(), None
    for index, t in enumerate(range(8, -1, -1)):
        x0, (_, sigma, lamb), (alpha_next, sigma_next, lamb_next) = estimate(x, t), scales(WALK, t), scales(WALK, t - 1)
        h, target = lamb_next - lamb, x0
        if before is not None and math.isfinite(h):
            r = (lamb - before[1]) / h
            target = x0 + (x0 - before[0]) / (2 * r)
        shrunk = -math.expm1(-2 * h)
        x = sigma_next / sigma * math.exp(-h) * x + alpha_next * shrunk * target
        x = x + sigma_next * math.sqrt(shrunk) * normal(index + 1)
        before = (x0, lamb)
    torch.testing.assert_close(walk(dpmpp_2m, estimate, WALK, eta=1.0)[-1].x_t, x)


def test_dpmpp_3m_is_exact_where_the_estimate_goes_in_a_line():
    """Over log(alpha / sigma) = l: where x0 is a + b l, x / sigma grows by the integral of exp(l) x0, which is
    exp(l) (a + b (l - 1)). The first two steps know too little, and the last is infinitely long."""
    a, b = 0.3, 0.2
    schedule = space(COSINE, "trailing", 20)
    steps = walk(dpmpp_3m, lambda x, t: a + b * scales(schedule, t)[2] + 0 * x, schedule)
    for before, step in pairwise(steps[1:-1]):
        (_, sigma, lamb), (_, sigma_next, lamb_next) = scales(schedule, step.t), scales(schedule, step.t - 1)
        grown = [math.exp(at) * (a + b * (at - 1)) for at in (lamb, lamb_next)]
        exact = sigma_next * (before.x_t / sigma + grown[1] - grown[0])
        torch.testing.assert_close(step.x_t, exact)


def test_a_short_walk_of_dpmpp_3m_draws_a_line_at_its_last_step_but_one():
    """Like dpmpp_2m's from the same x_t and the same two estimates; a long walk and the steps before draw a curve."""

    def bent(x, t, schedule):
        return scales(schedule, t)[2] ** 2 / 20 + 0 * x

    agreements = {}
    for num_steps in (10, 15):
        schedule = space(COSINE, "trailing", num_steps)
        steps = walk(dpmpp_3m, lambda x, t, schedule=schedule: bent(x, t, schedule), schedule)
        for t in (2, 1):
            before, after = steps[num_steps - 2 - t].x_t, steps[num_steps - 1 - t].x_t
            (_, sigma, lamb), (alpha_next, sigma_next, lamb_next) = scales(schedule, t), scales(schedule, t - 1)
            h = lamb_next - lamb
            slope = (bent(before, t, schedule) - bent(before, t + 1, schedule)) / (lamb - scales(schedule, t + 1)[2])
            line = sigma_next / sigma * before - alpha_next * math.expm1(-h) * (
                bent(before, t, schedule) + h / 2 * slope
            )
            agreements[num_steps, t] = torch.allclose(after, line)
    assert agreements == {(10, 2): False, (10, 1): True, (15, 2): False, (15, 1): False}


def test_unipc_takes_the_first_step_of_dpmpp_2m_and_mends_it_by_where_it_led():
    """Zhao et al. 2023, UniC with one point: heading for the mean of the estimates at both ends of the step."""
    schedule = space(COSINE, "trailing", 3)
    asked = []

    def noted(x, t):
        asked.append(x)
        return estimate(x, t)

    steps = walk(unipc, noted, schedule)
    plain = walk(dpmpp_2m, estimate, schedule)
    torch.testing.assert_close(steps[0].x_t, plain[0].x_t)
    assert len(asked) == 3
    # The second step leaves from the mended x_t, heading on by the line through both estimates.
    alpha, sigma, lamb = scales(schedule, 1)
    h = lamb - scales(schedule, 2)[2]
    first, second = estimate(normal(), 2), estimate(asked[1], 1)
    mended = sigma / scales(schedule, 2)[1] * normal() - alpha * math.expm1(-h) * (first + second) / 2
    alpha_next, sigma_next, lamb_next = scales(schedule, 0)
    h_next = lamb_next - lamb
    foreseen = second + h_next / 2 * (second - first) / h
    expected = sigma_next / sigma * mended - alpha_next * math.expm1(-h_next) * foreseen
    torch.testing.assert_close(steps[1].x_t, expected)


@pytest.mark.parametrize("sampler", [dpmpp_2m, dpmpp_3m, unipc])
@pytest.mark.parametrize("spacing, num_steps", [("quadratic", 25), ("linspace_rounded", 100)])
def test_a_level_visited_twice_does_no_harm(sampler, spacing, num_steps):
    """Between two steps at one level nothing moves, and there is no slope."""
    schedule = space(make_schedule("cosine", 100), spacing, num_steps)
    steps = walk(sampler, lambda x, t: (0.7 * x).sin(), schedule)
    assert all(step.x_t.isfinite().all() and step.x_t.abs().max() < 10 for step in steps)
    twice = next(t for t in range(num_steps - 1, 0, -1) if schedule.betas[t] == 0)
    before, after = steps[num_steps - 2 - twice].x_t, steps[num_steps - 1 - twice].x_t
    torch.testing.assert_close(after, before, rtol=0, atol=1e-2 if sampler is unipc else 1e-12)


@pytest.mark.parametrize("sampler", [dpmpp_2m, dpmpp_3m, unipc])
def test_estimates_from_a_level_without_signal_are_not_looked_back_to(sampler):
    """The walk goes on from its second level as if it had started there."""
    schedule = space(make_schedule("cosine", 1000, zero_terminal_snr=True), "trailing", 8)
    whole = walk(sampler, estimate, schedule)
    later = list(
        sampler(lambda x, t: Denoised(estimate(x, t), x, x * 0), whole[0].x_t, schedule, normal, start=6, eta=0.0)
    )
    for one, other in zip(whole[1:], later, strict=True):
        torch.testing.assert_close(one.x_t, other.x_t)
    assert schedule.level(CLEAN).sigma == 0


@pytest.mark.parametrize("sampler", [dpmpp_2m, dpmpp_3m, unipc])
def test_estimates_close_together_are_not_drawn_out_over_a_long_step(sampler):
    """Where two sections meet, two levels lie a hundredth of the next step apart; what they differ by is no trend."""
    steps = walk(sampler, lambda x, t: 0.5 + 0.1 * (-1) ** t + 0 * x, space(COSINE, "2,2,4,8", 0))
    assert max(step.x_t.abs().max() / step.x0.abs().max() for step in steps[-3:]) < 3
