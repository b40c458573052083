"""The noise schedules: what must hold for any of them, and what may be asked of one."""

import math
from typing import get_args

import pytest
import torch

from t2v.config import ScheduleName, TellingName
from t2v.diffusion.schedule import (
    CLEAN,
    SCHEDULES,
    TELLINGS,
    Schedule,
    cosine,
    linear,
    linspace,
    make_schedule,
    rescale_to_zero_snr,
    scaled_linear,
    shift_log_snr,
    sigmoid,
    spread,
)
from t2v.errors import SettingsError

# Scaled with the number of timesteps, so that any number ends in noise; the others do so with 1000.
SCALED = ["cosine", "cosine_0.999", "linear", "sigmoid"]


def log_snr(schedule):
    return schedule.snr(torch.arange(schedule.num_timesteps)).log()


def test_every_name_in_the_settings_has_an_entry():
    assert set(SCHEDULES) == set(get_args(ScheduleName))
    assert set(TELLINGS) == set(get_args(TellingName))


@pytest.mark.parametrize("num_timesteps", [2, 10, 20])
def test_a_linear_schedule_that_would_reach_one_is_refused(num_timesteps):
    with pytest.raises(SettingsError, match=f"{num_timesteps} timesteps.*under 1.*21 or more"):
        linear(num_timesteps)


@pytest.mark.parametrize("num_timesteps", [21, 100, 1000])
@pytest.mark.parametrize("name", SCHEDULES)
def test_the_signal_falls_from_timestep_to_timestep(name, num_timesteps):
    schedule = make_schedule(name, num_timesteps)
    level = schedule.level(torch.arange(num_timesteps))
    assert schedule.num_timesteps == num_timesteps
    assert schedule.betas.dtype == schedule.alphas_cumprod.dtype == torch.float64
    assert (level.alpha.diff() < 0).all() and (schedule.noise_ratio.diff() > 0).all()
    assert 0 < level.alpha[-1] < level.alpha[0] < 1
    torch.testing.assert_close(level.alpha**2 + level.sigma**2, torch.ones(num_timesteps).double())
    torch.testing.assert_close(schedule.noise_ratio, level.sigma / level.alpha)
    torch.testing.assert_close(log_snr(schedule), 2 * (level.alpha.log() - level.sigma.log()))


@pytest.mark.parametrize(
    "name, num_timesteps", [*((name, n) for name in SCALED for n in (21, 100)), *((name, 1000) for name in SCHEDULES)]
)
def test_a_walk_goes_from_almost_nothing_to_almost_the_clip(name, num_timesteps):
    alpha = make_schedule(name, num_timesteps).level(torch.tensor([0, num_timesteps - 1])).alpha
    assert alpha[0] > 0.98 and alpha[1] < 0.015


def test_linear_betas_scale_with_the_number_of_timesteps():
    torch.testing.assert_close(linear(4000)[[0, -1]], torch.tensor([0.25e-4, 0.005]).double(), rtol=1e-6, atol=0)
    torch.testing.assert_close(linear(1000), linspace(1000))
    assert linspace(50)[[0, -1]].equal(linspace(1000)[[0, -1]])


def test_the_square_roots_of_scaled_linear_betas_rise_in_a_line():
    roots = scaled_linear(30, start=0.00085, end=0.012).sqrt()
    torch.testing.assert_close(roots.diff(), roots.diff()[:1].expand(29))
    torch.testing.assert_close(roots[[0, -1]] ** 2, torch.tensor([0.00085, 0.012]).double(), rtol=1e-6, atol=0)


def test_cosine_and_sigmoid_signal_is_that_of_their_formulas():
    """But for the last beta, which is cut."""
    progress = torch.arange(1, 50, dtype=torch.float64) / 50
    kept = ((progress + 0.008) / 1.008 * math.pi / 2).cos() ** 2 / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    torch.testing.assert_close(Schedule.from_betas(cosine(50)).alphas_cumprod[:-1], kept)
    low, high = (1 / (1 + math.exp(end)) for end in (3, -3))
    kept = (high - 1 / (1 + (3 - 6 * progress).exp())) / (high - low)
    torch.testing.assert_close(Schedule.from_betas(sigmoid(50)).alphas_cumprod[:-1], kept)
    assert (cosine(50)[-1], cosine(50, max_beta=0.999)[-1], sigmoid(50)[-1]) == (0.9999, 0.999, 0.999)


def test_after_the_last_timestep_the_clip_is_clean_and_before_the_first_it_is_noise():
    schedule = make_schedule("cosine", 10)
    assert schedule.level(CLEAN) == (1, 0)
    assert schedule.level(10) == (0, 1)
    several = schedule.level(torch.tensor([[3, CLEAN], [10, 0]]))
    torch.testing.assert_close(several.sigma**2, 1 - several.alpha**2)
    torch.testing.assert_close(several.alpha[0], torch.stack((schedule.alphas_cumprod[3].sqrt(), several.alpha[0, 1])))
    assert several.alpha[1].tolist() == [0, schedule.level(0).alpha]


@pytest.mark.parametrize(
    "betas", [[0.1, 0.0, 0.2], [0.1, -0.1], [0.1, 1.0, 0.1], [0.1, 1.1], [0.1, math.nan], [math.nan, 0.1]]
)
def test_betas_out_of_range_are_refused(betas):
    with pytest.raises(SettingsError, match=r"betas must be above 0 and under 1 \(the last may be 1\), not"):
        Schedule.from_betas(torch.tensor(betas))


def test_an_unknown_name_is_told_those_that_exist():
    with pytest.raises(SettingsError, match=r"unknown schedule 'none such'; there are cosine, .*sigmoid"):
        make_schedule("none such", 100)
    with pytest.raises(SettingsError, match="unknown way to tell the timestep 'none such'; there are index, "):
        make_schedule("cosine", 100, tell="none such")


@pytest.mark.parametrize("end", [1.0, 0.9])
@pytest.mark.parametrize("t", [999, 37, 1, 0])
def test_two_noisings_in_a_row_make_one(t, end):
    """Bayes: posterior times marginal at t is the marginal one step cleaner, wherever the walk ends."""
    whole = make_schedule("cosine", 1000)
    schedule = whole.at_levels(whole.alphas_cumprod * 0.9, whole.told, end=end)
    level, following = schedule.level(t), schedule.level(t - 1)
    posterior = schedule.posterior(t)
    torch.testing.assert_close(posterior.x0_weight + posterior.x_t_weight * level.alpha, following.alpha)
    variance = posterior.variance + (posterior.x_t_weight * level.sigma) ** 2
    torch.testing.assert_close(variance, following.sigma**2)
    torch.testing.assert_close(schedule.alphas_cumprod_prev[t], following.alpha**2)


def test_the_posterior_is_that_of_bayes_rule():
    """Two Gaussians in x_s, of which one is known to lead to x_t, multiplied by hand."""
    schedule = make_schedule("linear", 50)
    before, beta, x0, x_t = schedule.level(30), float(schedule.betas[31]), 0.3, -1.2
    precision = 1 / before.sigma**2 + (1 - beta) / beta
    mean = (before.alpha * x0 / before.sigma**2 + math.sqrt(1 - beta) * x_t / beta) / precision
    posterior = schedule.posterior(31)
    torch.testing.assert_close(posterior.variance, 1 / precision)
    torch.testing.assert_close(posterior.mean(torch.tensor([x0]).double(), torch.tensor([x_t]).double())[0], mean)


def test_the_posterior_is_finite_where_no_signal_is_left():
    schedule = Schedule.from_betas(torch.tensor([0.1, 0.5, 1.0]))
    assert schedule.level(2).alpha == 0
    posterior = schedule.posterior(2)
    assert (posterior.x0_weight, posterior.x_t_weight) == (schedule.level(1).alpha, 0)
    torch.testing.assert_close(posterior.variance, schedule.level(1).sigma ** 2)


@pytest.mark.parametrize("shift", [-2.0, 1.5])
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_shift_is_added_to_the_log_snr_of_every_timestep(name, shift):
    plain, shifted = make_schedule(name, 100), make_schedule(name, 100, log_snr_shift=shift)
    torch.testing.assert_close(log_snr(shifted), log_snr(plain) + shift, rtol=0, atol=1e-10)
    torch.testing.assert_close((1 - shifted.betas).cumprod(0), shifted.alphas_cumprod)


def test_a_shift_and_its_opposite_leave_the_schedule():
    schedule = make_schedule("cosine", 100)
    there_and_back = shift_log_snr(shift_log_snr(schedule, 3.0), -3.0)
    torch.testing.assert_close(there_and_back.betas, schedule.betas, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shift", [0.0, -1.0])
@pytest.mark.parametrize("name", SCHEDULES)
def test_zero_terminal_snr_leaves_nothing_at_the_last_timestep_and_the_first_as_it_was(name, shift):
    plain = make_schedule(name, 100, log_snr_shift=shift)
    zero = make_schedule(name, 100, log_snr_shift=shift, zero_terminal_snr=True)
    assert zero.alphas_cumprod[-1] == 0 and zero.betas[-1] == 1 and zero.snr(99) == 0
    torch.testing.assert_close(zero.alphas_cumprod[0], plain.alphas_cumprod[0])
    assert (zero.alphas_cumprod.diff() < 0).all()
    torch.testing.assert_close((1 - zero.betas).cumprod(0), zero.alphas_cumprod)
    # The square roots, and only they, keep their proportions: Lin et al. 2024, algorithm 1.
    before, after = plain.alphas_cumprod.sqrt().diff(), zero.alphas_cumprod.sqrt().diff()
    torch.testing.assert_close(after / after[0], before / before[0], rtol=1e-8, atol=0)


def test_zero_terminal_snr_once_more_changes_nothing():
    zero = make_schedule("linear", 100, zero_terminal_snr=True)
    torch.testing.assert_close(rescale_to_zero_snr(zero).alphas_cumprod, zero.alphas_cumprod)


@pytest.mark.parametrize("tell", TELLINGS)
def test_the_network_is_told_the_timestep_in_the_way_asked_for(tell):
    schedule = make_schedule("cosine", 250, tell=tell, log_snr_shift=-1.0, zero_terminal_snr=True)
    told = schedule.tell(torch.tensor([0, 100, 249]), torch.zeros(1))
    expected = {"index": [0, 100, 249], "thousand": [0, 400, 996], "fraction": [0, 0.4, 0.996]}[tell]
    torch.testing.assert_close(told.double(), torch.tensor(expected).double())
    assert told.dtype == (torch.int64 if tell == "index" else torch.float32)


@pytest.mark.parametrize("dtype, told", [(torch.bfloat16, torch.float32), (torch.float64, torch.float64)])
def test_fractions_are_told_in_at_least_float32(dtype, told):
    schedule = make_schedule("cosine", 1000, tell="fraction")
    assert schedule.tell(torch.tensor([5]), torch.zeros(1, dtype=dtype)).dtype == told


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_process_at_its_own_levels_is_itself(name):
    schedule = make_schedule(name, 50)
    again = schedule.at_levels(schedule.alphas_cumprod, schedule.told)
    torch.testing.assert_close(again.betas, schedule.betas)
    assert again.alphas_cumprod.equal(schedule.alphas_cumprod)


def test_coefficients_take_the_clips_dtype_and_axes():
    clip = torch.zeros(2, 3, 4, 8, 8, dtype=torch.bfloat16)
    table = torch.tensor([0.25, 0.5], dtype=torch.float64)
    assert spread(table, clip).shape == (2, 1, 1, 1, 1)
    assert spread(table, clip).dtype == torch.bfloat16
    assert (spread(table[0], clip) + clip == 0.25).all()
