"""Samplers, tested with denoisers whose right answer is known."""

import math
from itertools import groupby, product
from typing import get_args

import pytest
import torch

from t2v.config import SamplerName
from t2v.diffusion.samplers import SAMPLERS, WIDEST
from t2v.diffusion.schedule import CLEAN, make_schedule, spread
from t2v.diffusion.spacing import SPACINGS, space
from t2v.diffusion.steps import Denoised, mean_of, noise_seen, toward, upward

COSINE = make_schedule("cosine", 1000)
ZERO = make_schedule("cosine", 1000, zero_terminal_snr=True)
ETAS = [0.0, 0.5, 1.0]
# Samplers that ask twice at a level, save the last, and the widest sigma / alpha at which they do.
TWICE = {"heun": WIDEST, "heun_everywhere": math.inf}
# Karras' spacings need signal at every level.
WALKS = [(COSINE, spacing) for spacing in SPACINGS] + [(ZERO, name) for name in SPACINGS if "karras" not in name]


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def noise_like(x):
    return lambda step: normal(*x.shape, seed=step + 1)


def seeing(schedule, x0, variance=None):
    """A denoiser from x0: (x_t, t) -> estimate; its variance is that of the posterior or `variance`: t -> Tensor."""

    def denoise(x, t):
        spread_of = schedule.posterior(t).variance if variance is None else variance(t)
        return Denoised(x0(x, t), x, spread(spread_of.clamp(min=1e-20).log(), x))

    return denoise


def walk(name, denoise, x_T, schedule, *, noise=None, start=None, eta=0.0):
    start = schedule.num_timesteps - 1 if start is None else start
    return list(SAMPLERS[name](denoise, x_T, schedule, noise or noise_like(x_T), start=start, eta=eta))


def test_every_name_in_the_settings_has_a_sampler():
    assert set(SAMPLERS) == set(get_args(SamplerName))


@pytest.mark.parametrize("schedule, spacing", WALKS, ids=lambda part: part if isinstance(part, str) else "")
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_perfect_denoiser_recovers_the_clip(name, schedule, spacing):
    """To the level at which the walk ends, which two spacings leave noised."""
    x0 = normal(1, 1, 2, 3, 3).clamp(-1, 1)
    for num_steps, eta in product((1, 8), (0.0, 1.0)):
        visited = space(schedule, spacing, num_steps)
        level = visited.level(num_steps - 1)
        x_T = level.alpha * x0 + level.sigma * normal(*x0.shape, seed=9)
        steps = walk(name, seeing(visited, lambda x, t: x0), x_T, visited, eta=eta)
        assert all(step.x0.equal(x0) and step.x_t.isfinite().all() for step in steps)
        left = (steps[-1].x_t - visited.end**0.5 * x0).abs().max().item()
        assert left <= 5 * (1 - visited.end) ** 0.5 + 1e-12
        assert [step.t for step in steps] == list(range(num_steps - 1, -1, -1))
        assert [step.index for step in steps] == list(range(num_steps))
        assert {step.num_steps for step in steps} == {num_steps}


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_walk_may_start_late(name):
    x0, x_t = normal(1, 1, 1, 2, 2), normal(1, 1, 1, 2, 2, seed=9)
    visited = space(COSINE, "trailing", 20)
    steps = walk(name, seeing(visited, lambda x, t: x0), x_t, visited, start=4)
    assert [(step.index, step.t, step.num_steps) for step in steps] == [(i, 4 - i, 5) for i in range(5)]
    torch.testing.assert_close(steps[-1].x_t, x0)


@pytest.mark.parametrize("spacing", ["trailing", "uniform"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_the_denoiser_is_asked_at_every_level_of_the_walk_and_no_other(name, spacing):
    """Also where the walk ends at a noised level: of that no network can be told."""
    asked, visited = [], space(COSINE, spacing, 5)

    def denoise(x, t):
        asked.append(t)
        return seeing(visited, lambda x, t: x.clamp(-1, 1))(x, t)

    walk(name, denoise, normal(1, 1, 1, 2, 2), visited, eta=1.0)
    assert [t for t, _ in groupby(asked)] == [4, 3, 2, 1, 0]
    assert len(asked) == 5 + (visited.noise_ratio[1:] <= TWICE.get(name, 0)).sum()


@pytest.mark.parametrize(
    "name, eta, spacing, expected",
    [
        ("ddpm", 0.0, "trailing", [0, 1, 2]),
        ("ddpm", 0.0, "uniform", [0, 1, 2, 3]),
        ("ddim", 0.3, "trailing", [0, 1, 2]),
        ("ddim", 0.3, "uniform", [0, 1, 2, 3]),
        ("euler", 0.3, "trailing", [0, 1, 2]),
        ("dpmpp_2m", 0.3, "trailing", [0, 1, 2]),
        *((name, 0.0, "trailing", []) for name in SAMPLERS if name != "ddpm"),
        *((name, 1.0, "trailing", []) for name in ("heun", "heun_everywhere", "dpmpp_3m", "unipc")),
    ],
)
def test_noise_is_asked_for_only_where_a_step_adds_some(name, eta, spacing, expected):
    asked, visited, x_T = [], space(COSINE, spacing, 4), normal(1, 1, 1, 2, 2)

    def noise(step):
        asked.append(step)
        return noise_like(x_T)(step)

    walk(name, seeing(visited, lambda x, t: x), x_T, visited, noise=noise, eta=eta)
    assert asked == expected


@pytest.mark.parametrize("name", SAMPLERS)
def test_no_step_draws_from_the_global_stream(name):
    visited, before = space(COSINE, "trailing", 3), torch.get_rng_state()
    walk(name, seeing(visited, lambda x, t: x), normal(1, 1, 1, 2, 2), visited, eta=1.0)
    assert torch.get_rng_state().equal(before)


@pytest.mark.parametrize("spacing", ["trailing", "leading", "uniform", "karras"])
def test_ddim_with_all_its_noise_renewed_is_ddpm(spacing):
    x_T, visited = normal(2, 1, 2, 4, 4), space(COSINE, spacing, 20)
    denoise = seeing(visited, lambda x, t: (x * 0.7).sin())
    for one, other in zip(
        walk("ddim", denoise, x_T, visited, eta=1.0), walk("ddpm", denoise, x_T, visited), strict=True
    ):
        torch.testing.assert_close(one.x_t, other.x_t, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("eta", ETAS)
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_walk_may_start_where_no_signal_is_left(name, eta):
    x_T, visited = normal(1, 1, 1, 4, 4), space(ZERO, "trailing", 10)
    steps = walk(name, seeing(visited, lambda x, t: x / 2), x_T, visited, eta=eta)
    assert all(step.x_t.isfinite().all() for step in steps)


def test_a_given_mean_is_used_instead_of_the_posteriors():
    x_T, mean = normal(1, 1, 1, 2, 2), torch.full((1, 1, 1, 2, 2), 0.25).double()
    visited = space(COSINE, "trailing", 1)
    (step,) = walk("ddpm", lambda x, t: Denoised(x, x, x * 0, mean), x_T, visited)
    assert step.x_t.equal(mean)
    seen = Denoised(x_T, x_T, x_T * 0)
    assert mean_of(seen._replace(mean=mean), visited, 0).equal(mean)
    torch.testing.assert_close(mean_of(seen, COSINE, 7), COSINE.posterior(7).mean(x_T, x_T))


def sines(x, t):
    """A denoiser that is no straight line, nor right."""
    return (0.7 * x + 0.3).sin()


@pytest.mark.parametrize("name", ["euler", *TWICE])
def test_euler_and_heun_are_those_of_karras(name):
    """Karras et al. 2022, algorithm 1, as published: in x / alpha over sigma / alpha, with D the estimate.

    But heun's steps from levels beyond those at which Karras et al. start, of which there are six here, are euler's.
    """
    visited = space(COSINE, "karras", 9)
    x_T = normal(1, 1, 1, 3, 3)
    x = x_T / visited.level(8).alpha
    ratio = [float(at) for at in visited.noise_ratio]

    def slope(x, t):
        return (x - sines(visited.level(t).alpha * x, t)) / ratio[t]

    for t in range(8, -1, -1):
        following = ratio[t - 1] if t > 0 else 0.0
        first = slope(x, t)
        x_next = x + (following - ratio[t]) * first
        if t > 0 and ratio[t] <= TWICE.get(name, 0):
            x_next = x + (following - ratio[t]) * (first + slope(x_next, t - 1)) / 2
        x = x_next
    torch.testing.assert_close(walk(name, seeing(visited, sines), x_T, visited)[-1].x_t, x)


def test_a_step_of_ddim_is_that_of_the_paper():
    """Song et al. 2021, eq. 12 and 16, as published."""
    x, x0, z = normal(1, 1, 1, 3, 3), normal(1, 1, 1, 3, 3, seed=1), normal(1, 1, 1, 3, 3, seed=2)
    kept, kept_next, eta = COSINE.alphas_cumprod[600], COSINE.alphas_cumprod[599], 0.6
    noise_scale = eta * ((1 - kept_next) / (1 - kept)).sqrt() * (1 - kept / kept_next).sqrt()
    eps = (x - kept.sqrt() * x0) / (1 - kept).sqrt()
    expected = kept_next.sqrt() * x0 + (1 - kept_next - noise_scale**2).sqrt() * eps + noise_scale * z
    seen = Denoised(x0, x, x * 0)
    torch.testing.assert_close(toward(x0, seen, COSINE, 600, eta=eta, noise=lambda step: z), expected)
    torch.testing.assert_close(noise_seen(seen, COSINE.level(600)), eps)


def test_a_step_keeps_the_noise_that_it_is_given():
    x, x0, eps = normal(1, 1, 1, 3, 3), normal(1, 1, 1, 3, 3, seed=1), normal(1, 1, 1, 3, 3, seed=2)
    following = COSINE.level(599)
    seen = Denoised(x0, x, x * 0, eps=eps)
    torch.testing.assert_close(toward(x0, seen, COSINE, 600), following.alpha * x0 + following.sigma * eps)


@pytest.mark.parametrize("schedule", [COSINE, ZERO], ids=["cosine", "zero terminal"])
def test_a_step_up_is_the_reverse_of_a_step_down(schedule):
    """For one estimate of the clip; from every level whose noise can be told from it."""
    x, x0 = normal(1, 1, 1, 3, 3), normal(1, 1, 1, 3, 3, seed=1)
    for t in (0, 1, 500, 998):
        up = upward(Denoised(x0, x, x * 0), schedule, t)
        torch.testing.assert_close(toward(x0, Denoised(x0, up, x * 0), schedule, t + 1), x)


def test_a_step_up_from_the_clean_end_takes_the_clip_for_one_at_timestep_0():
    x, x0 = normal(1, 1, 1, 3, 3), normal(1, 1, 1, 3, 3, seed=1)
    torch.testing.assert_close(upward(Denoised(x0, x, x * 0), COSINE, CLEAN), x)


# The Gaussian toy: every value of a clip is N(m, s^2), and the best estimate is an affine function of x_t.


def even_steps(num_steps):
    """A walk of equal steps in log(alpha / sigma) from -3 to 3, where it ends: a clip with 5% of noise."""
    kept = (2 * torch.linspace(3, -3, num_steps + 1, dtype=torch.float64)).sigmoid()
    return COSINE.at_levels(kept[1:], torch.arange(num_steps), end=float(kept[0]))


def error_against_the_flow(name, clips, schedule):
    """On the exact flow a value keeps its distance from the mean in standard deviations."""
    z = torch.linspace(-3, 3, 13, dtype=torch.float64).reshape(1, 1, 1, 1, 13)
    x_T = clips.noised(schedule, z, schedule.num_timesteps - 1)
    last = walk(name, seeing(schedule, lambda x, t: clips.x0(schedule, x, t)), x_T, schedule)[-1]
    return (last.x_t - clips.noised(schedule, z, CLEAN)).abs().max().item()


# UniPC's corrector makes its second order a third. dpmpp_3m has the published bend, half of what its third order needs.
ORDERS = {"ddim": 1, "euler": 1, "heun": 2, "heun_everywhere": 2, "dpmpp_2m": 2, "dpmpp_3m": 2, "unipc": 3}


def test_every_deterministic_sampler_has_its_order_told():
    assert set(ORDERS) == set(SAMPLERS) - {"ddpm"}


@pytest.mark.parametrize("name", ORDERS)
def test_the_error_falls_with_the_solvers_order(name, gaussian_clips):
    errors = [error_against_the_flow(name, gaussian_clips, even_steps(num_steps)) for num_steps in (50, 100)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(ORDERS[name], abs=0.15)
    assert errors[1] < 0.02


def test_a_higher_order_is_closer_for_the_same_answers(gaussian_clips):
    errors = {name: error_against_the_flow(name, gaussian_clips, even_steps(40)) for name in ORDERS}
    assert errors["unipc"] < errors["dpmpp_3m"] < errors["dpmpp_2m"] < 0.1 * errors["ddim"]


@pytest.mark.parametrize("name", ORDERS)
def test_a_fine_walk_down_to_the_clip_follows_the_flow(name, gaussian_clips):
    assert error_against_the_flow(name, gaussian_clips, space(ZERO, "trailing", 200)) < 0.02


def test_heun_does_not_trust_a_second_slope_over_a_step_of_enormous_length(gaussian_clips):
    """From the noisiest level of a cosine, sigma / alpha is 64,000, the second slope throws the clip far off."""
    visited = space(COSINE, "trailing", 25)
    errors = {name: error_against_the_flow(name, gaussian_clips, visited) for name in TWICE}
    assert errors["heun"] < 0.1 * errors["heun_everywhere"]


def law_of_samples(name, clips, schedule, *, eta=0.0, variance=None):
    """Mean and variance of what the sampler draws from exact x_T, without drawing.

    Every step being affine in x_t and in its noise, so is the result, in x_T and all noise. Value 0 of the clip takes
    none of them, value 1 one standard deviation of x_T and value 2 + k one of the noise of step k: the differences
    from value 0 are the gains, and the variance is the sum of their squares.
    """
    last = schedule.num_timesteps - 1
    shape = (1, 1, 1, 1, schedule.num_timesteps + 2)
    z = torch.eye(schedule.num_timesteps + 2, dtype=torch.float64)
    denoise = seeing(schedule, lambda x, t: clips.x0(schedule, x, t), variance)
    x_T = clips.noised(schedule, z[1].reshape(shape), last)
    result = walk(name, denoise, x_T, schedule, noise=lambda step: z[2 + step].reshape(shape), eta=eta)[
        -1
    ].x_t.flatten()
    return result[0].item(), ((result[1:] - result[0]) ** 2).sum().item()


@pytest.mark.parametrize("num_steps", [1, 2, 5, 20])
@pytest.mark.parametrize("schedule", [COSINE, ZERO], ids=["cosine", "zero terminal"])
def test_ddpm_with_the_true_variance_draws_exactly_however_few_its_steps(num_steps, schedule, gaussian_clips):
    """The reverse of each step of Gaussian clips is Gaussian itself, so nothing is lost but in the last step, which
    adds no noise: what remains is the spread of the expected clip, s^2 less what is not known of it at the last level.
    A walk that ends at a noised level loses nothing."""
    clips = gaussian_clips
    visited = space(schedule, "trailing", num_steps)
    drawn = law_of_samples("ddpm", clips, visited, variance=lambda t: clips.step_variance(visited, t))
    assert drawn == pytest.approx((clips.mean, clips.std**2 - clips.doubt(visited, 0).item()))
    noised = even_steps(num_steps)
    drawn = law_of_samples("ddpm", clips, noised, variance=lambda t: clips.step_variance(noised, t))
    expected = (noised.end**0.5 * clips.mean, clips.variance(noised, CLEAN).item())
    assert drawn == pytest.approx(expected)


def test_a_fixed_variance_is_too_small_or_too_large_and_less_so_with_finer_steps(gaussian_clips):
    """That of the posterior is right for one point and beta for pure noise, and these clips lie between; the mean is
    right with either."""
    errors = {}
    for num_steps in (20, 40):
        visited = even_steps(num_steps)
        true = gaussian_clips.variance(visited, CLEAN).item()
        for name, variance in (("small", None), ("large", lambda t, visited=visited: visited.betas[t])):
            mean, drawn = law_of_samples("ddpm", gaussian_clips, visited, variance=variance)
            assert mean == pytest.approx(visited.end**0.5 * gaussian_clips.mean)
            errors[name, num_steps] = drawn / true - 1
    assert errors["small", 20] < errors["small", 40] < 0 < errors["large", 40] < errors["large", 20]
    # First order: half the step, half the error.
    assert errors["small", 40] / errors["small", 20] == pytest.approx(0.5, abs=0.05)
    assert errors["large", 40] / errors["large", 20] == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(
    "name, eta", [*((name, 0.0) for name in ORDERS), ("ddim", 0.5), ("ddim", 1.0), ("dpmpp_2m", 1.0)]
)
def test_samples_have_nearly_the_mean_and_spread_of_the_clips(name, eta, gaussian_clips):
    """Down to the clip itself, through 100 of 1000 timesteps."""
    mean, variance = law_of_samples(name, gaussian_clips, space(ZERO, "trailing", 100), eta=eta)
    assert mean == pytest.approx(gaussian_clips.mean, abs=1e-3)
    assert variance**0.5 == pytest.approx(gaussian_clips.std, rel=0.06)


@pytest.mark.parametrize("name", SAMPLERS)
def test_drawn_values_are_those_that_the_law_foretells(name, gaussian_clips):
    """The mean and the variance of 40,000 values lie within 4 of their standard errors."""
    visited = space(ZERO, "trailing", 25)
    x_T = normal(1, 1, 1, 200, 200)
    drawn = walk(name, seeing(visited, lambda x, t: gaussian_clips.x0(visited, x, t)), x_T, visited, eta=1.0)[-1].x_t
    mean, variance = law_of_samples(name, gaussian_clips, visited, eta=1.0)
    assert drawn.mean().item() == pytest.approx(mean, abs=4 * (variance / drawn.numel()) ** 0.5)
    assert drawn.var().item() == pytest.approx(variance, rel=4 * (2 / drawn.numel()) ** 0.5)
