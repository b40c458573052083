"""Samplers, tested with denoisers whose right answer is known."""

from itertools import pairwise
from typing import get_args

import pytest
import torch

from t2v.config import SamplerName
from t2v.diffusion.samplers import SAMPLERS, Denoised, spaced_times
from t2v.diffusion.schedule import CLEAN, SCHEDULES, Schedule, spread
from t2v.errors import SettingsError

SCHEDULE = Schedule.from_betas(SCHEDULES["cosine"](1000))
ETAS = [0.0, 0.5, 1.0]


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def noise_like(x):
    return lambda step: normal(*x.shape, seed=step + 1)


def test_every_name_in_the_settings_has_a_sampler():
    assert set(SAMPLERS) == set(get_args(SamplerName))


@pytest.mark.parametrize("eta", ETAS)
@pytest.mark.parametrize("num_steps", [1, 7, 50])
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_perfect_denoiser_recovers_the_clip(name, num_steps, eta):
    x0, x_T = normal(2, 3, 2, 4, 4).clamp(-1, 1), normal(2, 3, 2, 4, 4, seed=9)
    times = spaced_times(1000, num_steps)
    steps = list(SAMPLERS[name](lambda x, t, t_next: Denoised(x0), x_T, times, SCHEDULE, noise_like(x_T), eta=eta))
    torch.testing.assert_close(steps[-1].x_t, x0)
    assert [step.t for step in steps] == times
    assert [step.index for step in steps] == list(range(num_steps))
    assert {step.num_steps for step in steps} == {num_steps}


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_denoiser_is_told_where_each_step_goes(name):
    asked = []

    def denoise(x, t, t_next):
        asked.append((t, t_next))
        return Denoised(x.clamp(-1, 1))

    x_T = normal(1, 1, 1, 2, 2)
    list(SAMPLERS[name](denoise, x_T, [900, 40, 3], SCHEDULE, noise_like(x_T), eta=1.0))
    assert asked == [(900, 40), (40, 3), (3, CLEAN)]


@pytest.mark.parametrize("name, eta, expected", [("ddpm", 0.0, [0, 1]), ("ddim", 0.0, []), ("ddim", 0.3, [0, 1])])
def test_noise_is_asked_for_only_where_a_step_adds_some(name, eta, expected):
    asked = []

    def noise(step):
        asked.append(step)
        return normal(1, 1, 1, 2, 2)

    list(SAMPLERS[name](lambda x, t, s: Denoised(x), normal(1, 1, 1, 2, 2), [9, 5, 0], SCHEDULE, noise, eta=eta))
    assert asked == expected


@pytest.mark.parametrize("name", SAMPLERS)
def test_no_step_draws_from_the_global_stream(name):
    x_T = normal(1, 1, 1, 2, 2)
    before = torch.get_rng_state()
    list(SAMPLERS[name](lambda x, t, s: Denoised(x), x_T, [9, 5, 0], SCHEDULE, noise_like(x_T), eta=1.0))
    assert torch.get_rng_state().equal(before)


@pytest.mark.parametrize("times", [spaced_times(1000, 20), [999, 998, 997], [700, 30, 2]])
def test_ddim_with_all_its_noise_renewed_is_ddpm(times):
    x_T = normal(2, 1, 2, 4, 4)

    def denoise(x, t, t_next):
        return Denoised((x * 0.7).sin())

    ddim, ddpm = (
        list(SAMPLERS[name](denoise, x_T, times, SCHEDULE, noise_like(x_T), eta=1.0)) for name in ("ddim", "ddpm")
    )
    for one, other in zip(ddim, ddpm, strict=True):
        torch.testing.assert_close(one.x_t, other.x_t, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("eta", ETAS)
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_walk_may_start_where_no_signal_is_left(name, eta):
    betas = SCHEDULES["linear"](100)
    schedule = Schedule.from_betas(torch.cat((betas[:-1], torch.ones(1).double())))
    x_T = normal(1, 1, 1, 4, 4)
    steps = list(SAMPLERS[name](lambda x, t, s: Denoised(x / 2), x_T, [99, 98, 5], schedule, noise_like(x_T), eta=eta))
    assert all(step.x_t.isfinite().all() for step in steps)


class GaussianClips:
    """Clips whose every value is normal: all the network could know is known in closed form."""

    mean, std = 0.4, 0.3

    def x0(self, x, t):
        """E[x0 | x_t]."""
        level = SCHEDULE.level(t)
        gain = level.alpha * self.std**2 / self.variance(t)
        return self.mean + spread(gain, x) * (x - level.alpha * self.mean)

    def variance(self, t):
        """Var[x_t]."""
        level = SCHEDULE.level(t)
        return (level.alpha * self.std) ** 2 + level.sigma**2

    def start(self, side=150):
        return normal(1, 1, 1, side, side)


def test_ddim_follows_the_probability_flow():
    """On the way from noise to clip a value keeps its distance from the mean in standard deviations."""
    clips = GaussianClips()
    x_T = clips.start(side=20)
    *_, last = SAMPLERS["ddim"](
        lambda x, t, s: Denoised(clips.x0(x, t)), x_T, spaced_times(1000, 1000), SCHEDULE, noise_like(x_T), eta=0.0
    )
    z = (x_T - SCHEDULE.alpha[-1] * clips.mean) / clips.variance(999).sqrt()
    torch.testing.assert_close(last.x_t, clips.mean + clips.std * z, rtol=0, atol=0.01)


@pytest.mark.parametrize("name, eta", [("ddim", 0.0), ("ddim", 1.0), ("ddpm", 0.0)])
def test_samples_have_the_mean_and_spread_of_the_clips(name, eta):
    clips = GaussianClips()
    x_T = clips.start()
    times = spaced_times(1000, 250)
    *_, last = SAMPLERS[name](lambda x, t, s: Denoised(clips.x0(x, t)), x_T, times, SCHEDULE, noise_like(x_T), eta=eta)
    assert last.x_t.mean().item() == pytest.approx(clips.mean, abs=0.006)
    assert last.x_t.std().item() == pytest.approx(clips.std, abs=0.01)


def test_ddpm_takes_a_mean_and_variance_that_the_network_gives():
    """With the true ones three steps draw exactly; with the posterior's own variance they draw too narrowly."""
    clips = GaussianClips()
    x_T = clips.start(side=400)

    def exact(x, t, t_next):
        x0, posterior = clips.x0(x, t), SCHEDULE.posterior(t, t_next)
        doubt = clips.std**2 * SCHEDULE.level(t).sigma ** 2 / clips.variance(t)
        variance = posterior.variance + posterior.x0_weight**2 * doubt
        return Denoised(x0, posterior.mean(x0, x), variance.log().expand(x.shape))

    def blind(x, t, t_next):
        return Denoised(clips.x0(x, t))

    # The last step adds no noise, so it starts where next to none is left.
    times = [999, 400, 0]
    spreads = []
    for denoise in (exact, blind):
        *_, last = SAMPLERS["ddpm"](denoise, x_T, times, SCHEDULE, noise_like(x_T), eta=0.0)
        assert last.x_t.mean().item() == pytest.approx(clips.mean, abs=0.006)
        spreads.append(last.x_t.std().item())
    assert spreads[0] == pytest.approx(clips.std, abs=0.003)
    assert spreads[1] < 0.8 * clips.std


def test_a_given_mean_is_used_instead_of_the_posteriors():
    x_T, mean = normal(1, 1, 1, 2, 2), torch.full((1, 1, 1, 2, 2), 0.25).double()
    steps = SAMPLERS["ddpm"](lambda x, t, s: Denoised(x, mean), x_T, [5], SCHEDULE, noise_like(x_T), eta=0.0)
    assert next(iter(steps)).x_t.equal(mean)


@pytest.mark.parametrize("num_timesteps, num_steps", [(1000, 1), (1000, 50), (1000, 999), (1000, 1000), (7, 3)])
def test_spaced_times_start_at_the_noisiest_and_fall(num_timesteps, num_steps):
    times = spaced_times(num_timesteps, num_steps)
    assert len(times) == num_steps
    assert times[0] == num_timesteps - 1
    assert times[-1] >= 0
    gaps = [a - b for a, b in pairwise(times)]
    assert all(gap in (num_timesteps // num_steps, num_timesteps // num_steps + 1) for gap in gaps)


def test_spaced_times_are_those_of_diffusers(golden):
    assert spaced_times(1000, 10) == golden("sample_diffusers", "ddim_trailing_v_10")["timesteps"].tolist()


@pytest.mark.parametrize("num_steps", [0, 21])
def test_more_steps_than_timesteps_are_refused(num_steps):
    with pytest.raises(SettingsError, match=f"1 to 20.*not {num_steps}"):
        spaced_times(20, num_steps)
