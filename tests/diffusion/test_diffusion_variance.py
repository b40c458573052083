"""How widely the clip one step cleaner is spread."""

from typing import get_args

import pytest
import torch

from t2v.config import VarianceName
from t2v.diffusion.schedule import MIN_VARIANCE, make_schedule
from t2v.diffusion.spacing import space
from t2v.diffusion.variance import VARIANCES

SCHEDULE = make_schedule("cosine", 50)
T = torch.arange(50)


def variance(name, values, schedule=SCHEDULE, t=T):
    """Of one value a clip, as numbers: values is what the network says everywhere."""
    said = torch.full((len(t), 1, 2, 3, 3), values, dtype=torch.float64)
    return VARIANCES[name].log_variance(schedule, t, said).exp().expand_as(said)[:, 0, 0, 0, 0]


def test_every_name_in_the_settings_has_a_variance():
    assert set(VARIANCES) == set(get_args(VarianceName))


@pytest.mark.parametrize("zero_terminal_snr", [False, True])
@pytest.mark.parametrize("name", VARIANCES)
def test_every_variance_is_finite_at_every_timestep(name, zero_terminal_snr):
    schedule = make_schedule("cosine", 50, zero_terminal_snr=zero_terminal_snr)
    for spacing in ("trailing", "uniform"):
        walk = space(schedule, spacing, 10)
        found = variance(name, -0.3, walk, torch.arange(10))
        assert found.isfinite().all() and (found > 0).all()


@pytest.mark.parametrize("name", VARIANCES)
def test_every_variance_is_finite_where_a_walk_visits_a_level_twice(name):
    walk = space(make_schedule("linear", 1000), "quadratic", 50)
    assert (walk.betas == 0).any()
    assert variance(name, -0.3, walk, torch.arange(walk.num_timesteps)).isfinite().all()


@pytest.mark.parametrize("name", [name for name in VARIANCES if not VARIANCES[name].is_learned])
def test_a_fixed_variance_does_not_listen(name):
    assert variance(name, -3.0).equal(variance(name, 3.0))


def test_the_fixed_ones_by_their_formulas():
    posterior = SCHEDULE.betas[1:] * (1 - SCHEDULE.alphas_cumprod[:-1]) / (1 - SCHEDULE.alphas_cumprod[1:])
    for name in ("fixed_small", "fixed_tiny"):
        torch.testing.assert_close(variance(name, 0.0)[1:], posterior)
    torch.testing.assert_close(variance("fixed_large", 0.0)[1:], SCHEDULE.betas[1:])


def test_the_last_step_has_that_of_the_step_before_or_next_to_none():
    last = {name: variance(name, 0.0)[0].item() for name in ("fixed_small", "fixed_large", "fixed_tiny")}
    assert last["fixed_small"] == last["fixed_large"] == pytest.approx(SCHEDULE.posterior(1).variance.item())
    assert last["fixed_tiny"] == pytest.approx(MIN_VARIANCE)


def test_a_walk_that_ends_noised_has_the_true_one_at_its_last_step_too():
    walk = space(SCHEDULE, "uniform", 10)
    for name in ("fixed_small", "fixed_tiny"):
        torch.testing.assert_close(variance(name, 0.0, walk, torch.arange(10))[0], walk.posterior(0).variance)


def test_what_the_network_says_lies_between_the_small_and_beta():
    low, high = variance("learned_range", -1.0), variance("learned_range", 1.0)
    torch.testing.assert_close(low, variance("fixed_small", 0.0))
    torch.testing.assert_close(high, SCHEDULE.betas)
    torch.testing.assert_close(variance("learned_range", 0.0), (low * high).sqrt())


def test_what_the_network_says_may_be_the_logarithm_itself():
    torch.testing.assert_close(variance("learned", -2.5), torch.full((50,), -2.5).double().exp())


def test_a_walk_of_one_step_has_a_variance():
    walk = space(SCHEDULE, "trailing", 1)
    assert variance("fixed_small", 0.0, walk, torch.arange(1)).item() == pytest.approx(MIN_VARIANCE)


@pytest.mark.parametrize("name", VARIANCES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_variance_scales_clips_in_their_dtype(name, dtype):
    values = torch.zeros(2, 3, 2, 4, 4, dtype=dtype)
    log_variance = VARIANCES[name].log_variance(SCHEDULE, torch.tensor([0, 49]), values)
    assert log_variance.dtype == dtype
    assert (values + log_variance).shape == values.shape
