"""How probable clips are to a model, where the answer is known.

The clips are Gaussian ones, every value N(m, s^2), in 8-bit pixels; the network is the best one.
"""

import math

import pytest
import torch
from torch.distributions import Normal

from t2v.diffusion.gaussian import GaussianDiffusion
from t2v.diffusion.likelihood import (
    BoundTerm,
    bits_per_dim,
    bound_terms,
    estimated_bits_per_dim,
    prior_bits,
    repeat_error,
)
from t2v.diffusion.prediction import PREDICTIONS
from t2v.diffusion.schedule import make_schedule
from t2v.diffusion.threshold import unbounded
from t2v.errors import SettingsError


def normal(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pixels(clips, shape):
    return ((clips.mean + clips.std * normal(shape, 99) + 1) * 127.5).round().clamp(0, 255) / 127.5 - 1


def noise_of(shape):
    return lambda index: normal(shape, index)


def diffusion_of(num_timesteps=50, **options):
    options = {"prediction": "v", "variance": "learned"} | options
    return GaussianDiffusion(schedule=make_schedule("linear", num_timesteps, zero_terminal_snr=True), **options)


def information(clips, x0):
    """-log2 of the probability of each clip's pixels, per value: b."""
    law, half = Normal(torch.tensor(clips.mean).double(), torch.tensor(clips.std).double()), 1 / 255
    return -(law.cdf(x0 + half) - law.cdf(x0 - half)).log2().flatten(1).mean(1)


@pytest.mark.parametrize("prediction", [name for name in PREDICTIONS if name != "eps"])
@pytest.mark.parametrize("variance", ["learned", "learned_range"])
def test_the_bound_of_the_best_network_is_the_information_in_the_pixels(variance, prediction, gaussian_clips):
    """Exactly log2 1 / P(pixel), P being what N(m, s^2) has in the pixel's bin; about log2(127.5 s sqrt(2 pi e)).

    Why: with the true mean and variance of each step and no signal at the end, the model's chain is the true one
    reversed, so its law of the last x is N(m, s^2), and the last term gathers that into bins. The bound exceeds
    -log P only by how far the chain from a pixel's middle lies from that from anywhere in its bin: next to nothing,
    since a bin is much narrower than the noise at timestep 0 (here by 20 times). What remains is chance, as each
    term is looked at with one noise: the mean over 8 clips must lie within 4 standard errors and 0.001 for Page's
    approximation.
    """
    shape = (8, 1, 4, 16, 16)
    diffusion, x0 = diffusion_of(prediction=prediction, variance=variance), pixels(gaussian_clips, shape)
    assert prior_bits(diffusion, x0).abs().max() == 0
    options = {"noise": noise_of(shape), "keep_in_range": unbounded}
    missed = bits_per_dim(diffusion, gaussian_clips.network(diffusion), x0, **options) - information(gaussian_clips, x0)
    standard_error = missed.std().item() / 8**0.5
    assert standard_error < 0.02
    assert missed.mean().item() == pytest.approx(0, abs=4 * standard_error + 0.001)


def test_a_fixed_variance_costs_what_its_divergence_says(gaussian_clips):
    """Each term's mean over clips and noises, in closed form: with the posterior's variance b two steps differ only in
    their means, by the posterior's weight w of the clip times what is not known of it, so a term is w^2 Var[x0 | x_t]
    / 2 b nats. Of 32,768 values each the mean lies within 4 standard errors: a squared normal has the variance 2."""
    clips, shape = gaussian_clips, (1, 2, 4, 64, 64)
    diffusion, times = diffusion_of(variance="fixed_small"), [1, 5, 20, 40]
    x0 = clips.mean + clips.std * normal(shape, 99)
    terms = bound_terms(diffusion, clips.network(diffusion), x0, times, noise=noise_of(shape), keep_in_range=unbounded)
    for t, term in zip(times, terms, strict=True):
        posterior, level = diffusion.schedule.posterior(t), diffusion.schedule.level(t)
        doubt, sure = clips.doubt(diffusion.schedule, t).item(), 4 * (2 / x0.numel()) ** 0.5
        expected = posterior.x0_weight.item() ** 2 * doubt / (2 * posterior.variance.item()) / math.log(2)
        assert term.t == t
        assert term.bits.item() == pytest.approx(expected, rel=sure)
        assert term.x0_error.item() == pytest.approx(doubt, rel=sure)
        assert term.noise_error.item() == pytest.approx(doubt * (level.alpha / level.sigma).item() ** 2, rel=sure)


def test_a_fixed_variance_costs_more_than_the_true_one(gaussian_clips):
    shape = (2, 1, 4, 16, 16)
    x0, bits = pixels(gaussian_clips, shape), {}
    for variance in ("learned", "fixed_small", "fixed_large"):
        diffusion = diffusion_of(variance=variance)
        options = {"noise": noise_of(shape), "keep_in_range": unbounded}
        bits[variance] = bits_per_dim(diffusion, gaussian_clips.network(diffusion), x0, **options).mean()
    assert bits["learned"] < min(bits["fixed_small"], bits["fixed_large"])


def test_what_is_left_at_the_noisiest_level_is_its_divergence_from_pure_noise():
    diffusion = GaussianDiffusion(schedule=make_schedule("linspace", 50))
    x0 = torch.tensor([0.5, -1.0]).double().reshape(2, 1, 1, 1, 1).expand(2, 3, 2, 4, 4)
    alpha, sigma = diffusion.schedule.level(49)
    expected = (sigma**2 + (alpha * x0[:, 0, 0, 0, 0]) ** 2 - 1 - 2 * sigma.log()) / 2 / math.log(2)
    torch.testing.assert_close(prior_bits(diffusion, x0), expected)


def test_the_bound_is_the_sum_of_its_terms_the_noisiest_first(gaussian_clips):
    diffusion, shape, told = diffusion_of(21), (2, 1, 2, 4, 4), []
    x0, best = pixels(gaussian_clips, shape), gaussian_clips.network(diffusion)

    def network(x_t, t, text):
        told.append((t.tolist(), text))
        return best(x_t, t, text)

    text = {"is_null": torch.tensor([True, False])}
    whole = bits_per_dim(diffusion, network, x0, noise=noise_of(shape), text=text)
    assert told == [([t, t], text) for t in range(20, -1, -1)]
    terms = bound_terms(diffusion, best, x0, range(20, -1, -1), noise=noise_of(shape))
    torch.testing.assert_close(whole, prior_bits(diffusion, x0) + torch.stack([term.bits for term in terms]).sum(0))


def test_pixels_that_the_model_finds_improbable_cost_more(gaussian_clips):
    diffusion, shape = diffusion_of(21), (1, 1, 2, 8, 8)
    usual, unusual = pixels(gaussian_clips, shape), pixels(gaussian_clips, shape).neg() * 3
    network = gaussian_clips.network(diffusion)
    bits = [bits_per_dim(diffusion, network, x0, noise=noise_of(shape)).item() for x0 in (usual, unusual.clamp(-1, 1))]
    assert bits[0] + 1 < bits[1]


@pytest.fixture
def coarse(gaussian_clips):
    """Clips, and a network that knows them but for an error of variance 0.01 wherever it is asked, as patches make."""
    shape = (1, 2, 4, 64, 64)
    x0 = 0.2 * gaussian_clips.std * normal(shape, 99)
    return x0, lambda x_t, t, text: x0 + 0.1 * normal(shape, 7)


def test_two_measurements_are_as_exact_as_both_together(coarse):
    """Errors that have nothing to do with each other: the precision of the mix is the sum of 1/e and (alpha/sigma)^2.

    Of 32,768 values the mean of squares lies within 4 standard errors, each 2^(1/2) of itself over their root."""
    (x0, network), diffusion, times = coarse, diffusion_of(prediction="x0", variance="fixed_large"), [0, 5, 20, 40]
    options = {"noise": noise_of(x0.shape), "keep_in_range": unbounded}
    plain, mixed = (
        list(bound_terms(diffusion, network, x0, times, own_error=error, **options)) for error in (None, 0.01)
    )
    for t, alone, both in zip(times, plain, mixed, strict=True):
        alpha, sigma = diffusion.schedule.level(t)
        assert alone.x0_error.item() == pytest.approx(0.01, rel=4 * (2 / x0.numel()) ** 0.5)
        expected = 1 / (1 / 0.01 + (alpha / sigma).item() ** 2)
        assert both.x0_error.item() == pytest.approx(expected, rel=4 * (2 / x0.numel()) ** 0.5)
    assert plain[0].bits > 1.5 * mixed[0].bits


def test_what_a_network_repeats_wrongly_is_its_own_error(coarse):
    x0, network = coarse
    error = repeat_error(diffusion_of(prediction="x0", variance="fixed_large"), network, x0, noise=normal(x0.shape, 1))
    assert error == pytest.approx(0.01, rel=4 * (2 / x0.numel()) ** 0.5)


def estimates(monkeypatch, terms, num_repeats, num_strata):
    """Estimates with their standard errors where the term of each timestep is as told: terms is num_timesteps b."""

    def told(diffusion, network, x0, times, **options):
        return (BoundTerm(t, terms[t], terms[t], terms[t]) for t in times)

    monkeypatch.setattr("t2v.diffusion.likelihood.bound_terms", told)
    x0 = torch.zeros(terms.shape[1], 1, 1, 1, 1).double()
    options = {"noise": noise_of(x0.shape), "num_strata": num_strata}
    generators = (torch.Generator().manual_seed(seed) for seed in range(num_repeats))
    found = [
        estimated_bits_per_dim(diffusion_of(len(terms)), None, x0, generator=generator, **options)
        for generator in generators
    ]
    return torch.stack([one.bits for one in found]), torch.stack([one.standard_error for one in found])


def toys_terms(clips, num_timesteps):
    """Those of the toy, which fall steeply: num_timesteps 1."""
    diffusion, x0 = diffusion_of(num_timesteps), pixels(clips, (1, 1, 2, 8, 8))
    options = {"noise": noise_of(x0.shape), "keep_in_range": unbounded}
    terms = bound_terms(diffusion, clips.network(diffusion), x0, range(num_timesteps), **options)
    return torch.stack([term.bits for term in terms])


@pytest.mark.parametrize("whose", ["the toy", "even"])
def test_the_estimate_is_unbiased_and_its_standard_error_honest(whose, monkeypatch, gaussian_clips):
    """Over 400 repetitions: their mean is the whole bound, within 4 standard errors of a mean.

    Strata have 5 timesteps and two are looked at, so the true variance is 1 - 2/5 of the mean squared standard error.
    Where all strata say as much, at least 95% of the estimates lie within 2 standard errors of theirs. In the toy the
    first stratum says nearly all of it; then it is the interval of Student's law with one degree of freedom, 70%.
    """
    terms = toys_terms(gaussian_clips, 41) if whose == "the toy" else normal((41, 1))
    bits, standard_errors = estimates(monkeypatch, terms, 400, num_strata=8)
    off = bits - terms.sum(0)
    assert off.mean().item() == pytest.approx(0, abs=4 * off.std().item() / 400**0.5)
    assert off.var().item() / (standard_errors**2).mean().item() == pytest.approx(0.6, abs=0.12)
    held = (off.abs() < 2 * standard_errors).double().mean().item()
    assert held > (0.65 if whose == "the toy" else 0.95)


def test_every_clip_has_an_estimate_of_its_own(monkeypatch):
    terms = normal((41, 3))
    together = estimates(monkeypatch, terms, 2, num_strata=8)
    for clip in range(3):
        alone = estimates(monkeypatch, terms[:, clip : clip + 1], 2, num_strata=8)
        for whole, part in zip(together, alone, strict=True):
            torch.testing.assert_close(whole[:, clip : clip + 1], part)


def test_more_strata_are_surer(monkeypatch, gaussian_clips):
    terms = toys_terms(gaussian_clips, 41)
    few, many = (estimates(monkeypatch, terms, 20, num_strata)[1].mean() for num_strata in (3, 16))
    assert many < 0.6 * few


def test_strata_of_two_leave_nothing_out(monkeypatch):
    terms = normal((21, 2))
    bits, standard_errors = estimates(monkeypatch, terms, 3, num_strata=10)
    torch.testing.assert_close(bits, terms.sum(0).expand(3, 2))
    assert (standard_errors > 0).all()


def test_the_estimate_asks_for_two_timesteps_of_each_stratum_and_the_first(gaussian_clips):
    diffusion, shape, told = diffusion_of(41), (2, 1, 2, 4, 4), []
    x0, best = pixels(gaussian_clips, shape), gaussian_clips.network(diffusion)

    def network(x_t, t, text):
        told.append(int(t[0]))
        return best(x_t, t, text)

    found = estimated_bits_per_dim(
        diffusion, network, x0, noise=noise_of(shape), num_strata=4, generator=torch.Generator().manual_seed(0)
    )
    assert told[0] == 0 and len(set(told)) == 9
    assert [(t - 1) // 10 for t in told[1:]] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert found.bits.shape == found.standard_error.shape == (2,)


@pytest.mark.parametrize("num_strata", [0, 21])
def test_a_number_of_strata_that_cannot_be_is_refused(num_strata, monkeypatch):
    with pytest.raises(SettingsError, match=f"num_strata must be 1 to 20 with 41 timesteps, not {num_strata}"):
        estimates(monkeypatch, normal((41, 1)), 1, num_strata)
