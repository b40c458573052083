"""What may be done to the fresh noise of a walk."""

import pytest
import torch

from t2v.diffusion.gaussian import GaussianDiffusion
from t2v.diffusion.noises import dropped, tempered
from t2v.diffusion.schedule import make_schedule


def normal(step):
    return torch.randn(1, 3, 4, 64, 64, generator=torch.Generator().manual_seed(step), dtype=torch.float64)


def coins(step):
    return torch.rand(1, 3, 4, 64, 64, generator=torch.Generator().manual_seed(1000 + step), dtype=torch.float64)


def test_temperature_scales_all_fresh_noise():
    cooled = tempered(normal, 0.7)
    assert cooled(3).equal(0.7 * normal(3))
    assert not cooled(3).equal(cooled(4))


@pytest.mark.parametrize("prob", [0.0, 0.25, 0.9])
def test_a_share_of_the_noise_is_silenced_and_the_rest_keeps_the_mean(prob):
    """The share within 4 standard deviations of a coin's; what is heard is stronger by 1 / (1 - prob), so the mean
    over coins is the noise itself."""
    fresh, thinned = normal(0), dropped(normal, prob, coins=coins)(0)
    silent = thinned == 0
    assert silent.double().mean().item() == pytest.approx(prob, abs=4 * (prob * (1 - prob) / fresh.numel()) ** 0.5)
    torch.testing.assert_close(thinned[~silent], fresh[~silent] / (1 - prob))
    ones = dropped(torch.ones_like, prob, coins=lambda like: coins(0))(fresh)
    assert ones.mean().item() == pytest.approx(1, abs=4 * (prob / (1 - prob) / fresh.numel()) ** 0.5)


def test_every_step_has_coins_of_its_own():
    thinned = dropped(normal, 0.5, coins=coins)
    assert not (thinned(0) == 0).equal(thinned(1) == 0)
    assert thinned(1).equal(thinned(1))


@pytest.mark.parametrize("temperature", [0.0, 0.5])
def test_a_cooler_walk_strays_less(temperature):
    """One ddpm step from a perfect estimate: its spread around the posterior mean is the temperature's share."""
    schedule = make_schedule("cosine", 50)
    diffusion, x_T = GaussianDiffusion(schedule=schedule, prediction="x0"), normal(9)
    first = next(
        diffusion.sample(lambda x_t, t, text: 0 * x_t, x_T, noise=tempered(normal, temperature), sampler="ddpm")
    )
    posterior = schedule.posterior(49)
    expected = posterior.mean(0 * x_T, x_T) + temperature * posterior.variance.sqrt() * normal(0)
    torch.testing.assert_close(first.x_t, expected)
