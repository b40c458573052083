"""The noise schedules: the originals' tables, and what must hold for any of them."""

from typing import get_args

import pytest
import torch

from t2v.config import ScheduleName
from t2v.diffusion.schedule import CLEAN, MIN_VARIANCE, SCHEDULES, Schedule, cosine, linear, spread
from t2v.errors import SettingsError

ORIGINALS = {
    "lucidrains_cosine_100": lambda: cosine(100),
    "lucidrains_cosine_1000": lambda: cosine(1000),
    "improved_cosine_20": lambda: cosine(20, max_beta=0.999),
    "improved_cosine_1000": lambda: cosine(1000, max_beta=0.999),
    "improved_linear_1000": lambda: linear(1000),
}


def test_every_name_in_the_settings_has_a_schedule():
    assert set(SCHEDULES) == set(get_args(ScheduleName))


@pytest.mark.parametrize("name", ORIGINALS)
def test_tables_are_those_of_the_original(golden, name):
    case = golden("schedules_originals", name)
    suffix = "_f64" if name.startswith("lucidrains") else ""
    schedule = Schedule.from_betas(ORIGINALS[name]())
    t = torch.arange(len(schedule.betas))
    posterior = schedule.posterior(t, t - 1)
    tables = {
        "betas": (schedule.betas, 1e-12),
        "alphas_cumprod": (schedule.alphas_cumprod, 1e-12),
        "posterior_mean_coef1": (posterior.x0_weight, 1e-10),
        "posterior_mean_coef2": (posterior.x_t_weight, 1e-10),
        "posterior_variance": (posterior.variance, 1e-10),
    }
    # The two originals write the cosine differently, so betas of 4e-5, differences from 1, are apart by its rounding.
    atol = 2.3e-16 if name == "improved_cosine_1000" else 0
    for field, (table, rtol) in tables.items():
        original = case[field + suffix]
        assert torch.allclose(table, original, rtol=rtol, atol=atol), (field, (table - original).abs().max())


def test_log_variance_is_floored_as_in_lucidrains(golden):
    case = golden("schedules_originals", "lucidrains_cosine_1000")
    t = torch.arange(1000)
    log_variance = Schedule.from_betas(cosine(1000)).posterior(t, t - 1).log_variance
    torch.testing.assert_close(log_variance, case["posterior_log_variance_clipped_f64"], rtol=1e-10, atol=0)


def test_linear_betas_scale_with_the_number_of_timesteps(golden):
    torch.testing.assert_close(
        linear(4000), golden("schedules_originals", "improved_linear_4000")["betas"], rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("num_timesteps", [2, 10, 20])
def test_a_linear_schedule_that_would_reach_one_is_refused(num_timesteps):
    with pytest.raises(SettingsError, match=f"{num_timesteps} timesteps.*under 1.*21 or more"):
        linear(num_timesteps)


@pytest.mark.parametrize("num_timesteps", [21, 100, 1000])
@pytest.mark.parametrize("name", SCHEDULES)
def test_signal_falls_to_almost_nothing(name, num_timesteps):
    schedule = Schedule.from_betas(SCHEDULES[name](num_timesteps))
    assert len(schedule.betas) == num_timesteps
    assert schedule.betas.dtype == torch.float64
    assert (schedule.alpha.diff() < 0).all()
    assert 0 < schedule.alpha[-1] < 0.01 < 0.99 < schedule.alpha[0] < 1
    torch.testing.assert_close(schedule.alpha**2 + schedule.sigma**2, torch.ones(num_timesteps).double())


def test_after_the_last_timestep_the_clip_is_clean():
    schedule = Schedule.from_betas(cosine(10))
    assert schedule.level(CLEAN) == (1, 0)
    assert schedule.level(torch.tensor([3, CLEAN])).sigma.tolist() == [schedule.sigma[3], 0]


@pytest.mark.parametrize("t, t_next", [(999, 998), (999, 500), (37, 3), (600, CLEAN)])
def test_two_noisings_in_a_row_make_one(t, t_next):
    """Bayes: posterior times marginal at t is the marginal at t_next, whatever lies between."""
    schedule = Schedule.from_betas(cosine(1000))
    level, following = schedule.level(t), schedule.level(t_next)
    posterior = schedule.posterior(t, t_next)
    torch.testing.assert_close(posterior.x0_weight + posterior.x_t_weight * level.alpha, following.alpha)
    variance = posterior.variance + (posterior.x_t_weight * level.sigma) ** 2
    torch.testing.assert_close(variance, following.sigma**2)


def test_a_skipping_step_is_a_step_of_the_shorter_process():
    """Respacing as OpenAI does it: new betas for the levels that are visited, then the formulas for neighbours."""
    full = Schedule.from_betas(linear(1000))
    kept = torch.tensor([0, 10, 200, 555, 999])
    levels = full.alphas_cumprod[kept]
    short = Schedule.from_betas(1 - levels / torch.cat((torch.ones(1).double(), levels[:-1])))
    t = torch.arange(5)
    pairs = zip(full.posterior(kept[1:], kept[:-1]), short.posterior(t[1:], t[:-1]), strict=True)
    for skipping, neighbour in pairs:
        torch.testing.assert_close(skipping, neighbour, rtol=1e-10, atol=0)


def test_the_posterior_is_finite_where_no_signal_is_left():
    schedule = Schedule.from_betas(torch.tensor([0.1, 0.5, 1.0]))
    assert schedule.alpha[-1] == 0
    posterior = schedule.posterior(2, 1)
    assert (posterior.x0_weight, posterior.x_t_weight) == (schedule.alpha[1], 0)
    assert schedule.posterior(2, CLEAN).log_variance.exp().item() == pytest.approx(MIN_VARIANCE)


def test_coefficients_take_the_clips_dtype_and_axes():
    clip = torch.zeros(2, 3, 4, 8, 8, dtype=torch.bfloat16)
    table = torch.tensor([0.25, 0.5], dtype=torch.float64)
    assert spread(table, clip).shape == (2, 1, 1, 1, 1)
    assert spread(table, clip).dtype == torch.bfloat16
    assert (spread(table[0], clip) + clip == 0.25).all()
