"""How far Gaussians lie apart, and how probable 8-bit pixels are."""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from t2v.diffusion.distributions import normal_cdf, normal_kl, pixel_log_likelihood

PIXELS = torch.arange(256, dtype=torch.float64) / 127.5 - 1


def test_the_divergence_is_that_of_torch():
    mean1, mean2, log1, log2 = torch.randn(4, 100, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = kl_divergence(Normal(mean1, (log1 / 2).exp()), Normal(mean2, (log2 / 2).exp()))
    torch.testing.assert_close(normal_kl(mean1, log1, mean2, log2), expected)
    assert normal_kl(mean1, log1, mean1, log1).abs().max() < 1e-12


def test_the_distribution_function_is_good_to_two_in_ten_thousand():
    x = torch.linspace(-8, 8, 1601, dtype=torch.float64)
    error = (normal_cdf(x) - Normal(0.0, 1.0).cdf(x)).abs().max()
    # Page's, not the exact one: the literature's figures are computed with it.
    assert 1e-5 < error < 2e-4


@pytest.mark.parametrize("mean, std", [(0.0, 0.3), (0.9, 0.05), (-3.0, 1.0), (0.2, 4.0)])
def test_the_bins_share_out_all_probability(mean, std):
    log_scale = torch.full_like(PIXELS, math.log(std))
    total = pixel_log_likelihood(PIXELS, torch.full_like(PIXELS, mean), log_scale).exp().sum().item()
    assert total == pytest.approx(1, abs=1e-9)


def test_a_bin_holds_what_the_gaussian_has_between_its_ends():
    normal, half = Normal(torch.tensor(0.1).double(), torch.tensor(0.4).double()), 1 / 255
    exact = normal.cdf(PIXELS + half) - normal.cdf(PIXELS - half)
    exact[0], exact[-1] = normal.cdf(PIXELS[0] + half), 1 - normal.cdf(PIXELS[-1] - half)
    likelihood = pixel_log_likelihood(PIXELS, normal.mean.expand(256), normal.scale.log().expand(256)).exp()
    torch.testing.assert_close(likelihood, exact, rtol=0, atol=4e-4)
    # The two open bins reach far beyond one pixel.
    assert likelihood[-1] > 2 * likelihood[-2]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_improbable_has_a_finite_logarithm(dtype):
    far = pixel_log_likelihood(PIXELS.to(dtype), torch.full((256,), 50.0, dtype=dtype), torch.full((256,), -9.0))
    assert far[:-1].exp().max().item() == pytest.approx(1e-12)
    assert far[-1] == 0
