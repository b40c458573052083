"""GaussianDiffusion joins schedule, prediction, variance, loss, guidance, threshold and sampler."""

import math

import pytest
import torch

from t2v.diffusion.gaussian import GaussianDiffusion
from t2v.diffusion.guidance import Guidance
from t2v.diffusion.losses import BOUNDS, DISTANCES, LOSSES
from t2v.diffusion.prediction import PREDICTIONS
from t2v.diffusion.samplers import SAMPLERS
from t2v.diffusion.schedule import SCHEDULES, TELLINGS, make_schedule
from t2v.diffusion.spacing import space
from t2v.diffusion.threshold import static, unbounded
from t2v.diffusion.variance import VARIANCES
from t2v.diffusion.weighting import WEIGHTINGS, loss_weight
from t2v.errors import SettingsError

SHAPE = (2, 3, 2, 4, 4)
COSINE = make_schedule("cosine", 100)
ZERO = make_schedule("cosine", 100, zero_terminal_snr=True)
FIXED = [name for name in VARIANCES if not VARIANCES[name].is_learned]
LEARNED = [name for name in VARIANCES if VARIANCES[name].is_learned]


def normal(seed=0, dtype=torch.float64):
    return torch.randn(*SHAPE, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def pixels():
    """Clips of 8-bit values."""
    return ((normal() * 40 + 128).round().clamp(0, 255)) / 127.5 - 1


def silent(x_t, t, text):
    return torch.zeros_like(x_t)


def twice(network):
    """The network with a second half of channels that say a variance: what it says, sharpened."""
    return lambda x_t, t, text: torch.cat((network(x_t, t, text), network(x_t, t, text).tanh()), dim=1)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_perfect_network_draws_its_clip(schedule, prediction, perfect):
    diffusion = GaussianDiffusion(schedule=make_schedule(schedule, 100), prediction=prediction)
    walk = diffusion.visiting(space(diffusion.schedule, "trailing", 8))
    x0 = normal().clamp(-1, 1)
    for sampler in SAMPLERS:
        steps = list(walk.sample(perfect(walk, x0), normal(1), noise=normal, sampler=sampler))
        assert len(steps) == 8
        torch.testing.assert_close(steps[-1].x_t, x0, rtol=0, atol=1e-6)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("prediction", [name for name in PREDICTIONS if name != "eps"])
def test_a_perfect_network_draws_its_clip_from_pure_noise(prediction, sampler, perfect):
    walk = GaussianDiffusion(schedule=space(ZERO, "trailing", 8), prediction=prediction)
    x0 = normal().clamp(-1, 1)
    *_, last = walk.sample(perfect(walk, x0), normal(1), noise=normal, sampler=sampler)
    torch.testing.assert_close(last.x_t, x0)


@pytest.mark.parametrize("tell", TELLINGS)
@pytest.mark.parametrize("variance", VARIANCES)
def test_a_walk_works_with_every_variance_and_telling(variance, tell, perfect):
    schedule = make_schedule("cosine", 100, tell=tell)
    diffusion = GaussianDiffusion(schedule=space(schedule, "trailing", 8), prediction="v", variance=variance)
    x0 = normal().clamp(-1, 1)
    network = perfect(diffusion, x0)
    network = twice(network) if diffusion.learns_variance else network
    *_, last = diffusion.sample(network, normal(1), noise=normal, sampler="ddpm")
    torch.testing.assert_close(last.x_t, x0)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("variance", ["fixed_small", *LEARNED])
def test_the_best_network_draws_from_the_distribution_of_the_clips(variance, prediction, gaussian_clips):
    """40,000 values N(0.1, 0.3^2), every prediction and variance in closed form, ddpm down all 50 timesteps.

    The expected clip, which the last step gives, lacks the spread of what is not known at timestep 0. With the true
    variance nothing else is missing: mean and variance lie within 4 standard errors. With that of the posterior the
    spread is some percent too small.
    """
    clips, schedule = gaussian_clips, make_schedule("cosine", 50)
    diffusion = GaussianDiffusion(schedule=schedule, prediction=prediction, variance=variance)
    x_T, *noises = torch.randn(51, 1, 1, 1, 200, 200, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    *_, last = diffusion.sample(
        clips.network(diffusion), x_T, noise=lambda step: noises[step], sampler="ddpm", keep_in_range=unbounded
    )
    expected = clips.std**2 - clips.doubt(schedule, 0).item()
    assert last.x_t.mean().item() == pytest.approx(clips.mean, abs=4 * clips.std / 200)
    ratio, error = last.x_t.var().item() / expected, 4 * (2 / 40_000) ** 0.5
    assert (1 - error < ratio < 1 + error) if diffusion.learns_variance else (0.8 < ratio < 1 - error)


@pytest.mark.parametrize("loss", DISTANCES)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_perfect_network_is_at_no_distance(prediction, loss, perfect):
    diffusion = GaussianDiffusion(schedule=COSINE, prediction=prediction, loss=loss)
    x0 = normal()
    losses = diffusion.losses(perfect(diffusion, x0), x0, torch.tensor([30, 80]), normal(1))
    torch.testing.assert_close(losses.total, torch.zeros(2).double(), rtol=0, atol=1e-9)
    assert losses.total.equal(losses.distance) and losses.bound is None


@pytest.mark.parametrize("loss", BOUNDS)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_perfect_network_costs_no_bits_but_the_last(prediction, loss, perfect):
    diffusion = GaussianDiffusion(schedule=COSINE, prediction=prediction, loss=loss)
    x0 = pixels()
    losses = diffusion.losses(perfect(diffusion, x0), x0, torch.tensor([30, 80]), normal(1))
    torch.testing.assert_close(losses.total, torch.zeros(2).double(), rtol=0, atol=1e-9)
    last = diffusion.losses(perfect(diffusion, x0), x0, torch.tensor([0, 0]), normal(1))
    assert (last.bound > 0).all() and last.distance is None
    torch.testing.assert_close(last.total, last.bound * BOUNDS[loss](100))


def test_losses_are_one_mean_per_clip():
    x0, noise = normal(), normal(1)
    losses = GaussianDiffusion(schedule=COSINE, loss="l2").losses(silent, x0, torch.tensor([0, 99]), noise)
    torch.testing.assert_close(losses.total, (noise**2).mean(dim=(1, 2, 3, 4)))


@pytest.mark.parametrize("loss", DISTANCES)
@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("gamma", [None, 2.0])
def test_a_weighting_weighs_the_distance_of_each_clip(weighting, loss, gamma):
    t = torch.tensor([2, 90])
    diffusion = GaussianDiffusion(schedule=COSINE, prediction="x0", loss=loss, weighting=weighting, gamma=gamma)
    losses = diffusion.losses(silent, normal(), t, normal(1))
    weight = loss_weight(weighting, "x0", COSINE.snr(t), gamma)
    torch.testing.assert_close(losses.total, losses.distance * (1 if weight is None else weight))
    assert WEIGHTINGS[weighting] is None or not losses.total.allclose(losses.distance)


def test_what_moves_may_count_more():
    """An error that stands still counts once; one in the first of two frames is half a mean, half what moves."""
    t, x0 = torch.tensor([50]), torch.zeros(1, 3, 2, 4, 4, dtype=torch.float64)
    settings = {"schedule": COSINE, "prediction": "x0", "loss": "l2"}
    plain, moved = (GaussianDiffusion(**settings, motion_weight=weight) for weight in (1.0, 9.0))
    everywhere, flash = torch.ones_like(x0), torch.zeros_like(x0)
    flash[:, :, 0] = 1
    for answer, times in ((everywhere, 1.0), (flash, 5.0)):
        once, often = (each.losses(saying(answer), x0, t, x0) for each in (plain, moved))
        torch.testing.assert_close(often.total, times * once.total)
        assert torch.equal(often.distance, once.distance)


def test_a_clip_of_one_frame_has_nothing_that_moves():
    x0 = normal()[:, :, :1]
    moved = GaussianDiffusion(schedule=COSINE, loss="l2", motion_weight=9.0)
    losses = moved.losses(silent, x0, torch.tensor([2, 90]), normal(1)[:, :, :1])
    assert torch.equal(losses.total, losses.distance)


@pytest.mark.parametrize("loss", [name for name in LOSSES if name != "l2"])
def test_what_moves_is_weighed_in_squares_only(loss):
    with pytest.raises(SettingsError, match=f"motion_weight 2 needs loss l2, not {loss}"):
        GaussianDiffusion(schedule=COSINE, loss=loss, motion_weight=2.0)


@pytest.mark.parametrize("variance", LEARNED)
def test_a_learned_variance_adds_a_share_of_the_whole_bound(variance):
    options = {"schedule": COSINE, "variance": variance, "loss": "l2", "weighting": "p2"}
    t, x0 = torch.tensor([0, 70]), pixels()
    losses = GaussianDiffusion(**options, bound_weight=0.25).losses(twice(silent), x0, t, normal(1))
    weight = loss_weight("p2", "eps", COSINE.snr(t))
    torch.testing.assert_close(losses.total, losses.distance * weight + 0.25 * 100 * losses.bound)
    alone = GaussianDiffusion(schedule=COSINE, variance=variance, loss="kl").losses(twice(silent), x0, t, normal(1))
    torch.testing.assert_close(alone.total, losses.bound)


def saying(output):
    """A network that gives this answer to all."""
    return lambda x_t, t, text: output


@pytest.mark.parametrize("variance", LEARNED)
def test_the_bound_beside_a_distance_teaches_the_variance_only(variance):
    """The mean's half gets the distance's gradient, as if there were no bound; with loss kl it gets the bound's."""
    gradients = {}
    for bound_weight in (0.0, 5.0):
        said = (0.1 * normal(2)).requires_grad_()
        values = (0.1 * normal(3)).requires_grad_()
        diffusion = GaussianDiffusion(schedule=COSINE, variance=variance, loss="l2", bound_weight=bound_weight)
        network = saying(torch.cat((said, values), dim=1))
        diffusion.losses(network, pixels(), torch.tensor([10, 70]), normal(1)).total.sum().backward()
        gradients[bound_weight] = (said.grad, values.grad)
    torch.testing.assert_close(gradients[0.0][0], gradients[5.0][0])
    assert gradients[0.0][1].abs().max() == 0 < gradients[5.0][1].abs().max()


@pytest.mark.parametrize("variance", LEARNED)
def test_the_true_variance_costs_the_fewest_bits(variance, gaussian_clips):
    """A little more or less than the true variance of a step makes its term greater, in the mean of many values."""
    schedule, t = make_schedule("cosine", 20), torch.tensor([10])
    diffusion = GaussianDiffusion(schedule=schedule, prediction="x0", variance=variance, loss="kl")
    z, noise = torch.randn(2, 1, 1, 1, 100, 100, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    x0, best = gaussian_clips.mean + gaussian_clips.std * z, gaussian_clips.network(diffusion)
    bits = []
    for change in (-0.3, 0.0, 0.3):
        wrong = torch.tensor([0.0, change]).double().reshape(1, 2, 1, 1, 1)
        losses = diffusion.losses(lambda *given, wrong=wrong: best(*given) + wrong, x0, t, noise)
        bits.append(losses.bound.item())
    assert bits[1] < min(bits[0], bits[2])


@pytest.mark.parametrize(
    "variance, channels, wanted", [("fixed_small", 6, 3), ("learned", 3, 6), ("learned_range", 9, 6)]
)
def test_a_network_with_the_wrong_channels_is_told_so(variance, channels, wanted):
    diffusion = GaussianDiffusion(schedule=COSINE, variance=variance)
    with pytest.raises(
        ValueError, match=f"variance {variance} takes {wanted} channels from the network, not {channels}"
    ):
        diffusion.losses(
            lambda x_t, t, text: torch.zeros(2, channels, 2, 4, 4), normal(), torch.tensor([1, 2]), normal(1)
        )


def test_the_network_hears_timesteps_and_text():
    heard = []

    def network(x_t, t, text):
        heard.append((t, text))
        return x_t

    t, text = torch.tensor([5, 6]), {"is_null": torch.tensor([True, False])}
    diffusion = GaussianDiffusion(schedule=COSINE)
    diffusion.losses(network, normal(), t, normal(1), text)
    walk = diffusion.visiting(space(COSINE, "leading", 4))
    list(walk.sample(network, normal(), noise=normal, text=text, start=2))
    assert heard[0][0].equal(t)
    # Told the timesteps of training, not those of the walk.
    assert [told.tolist() for told, _ in heard[1:]] == [[50, 50], [25, 25], [0, 0]]
    assert heard[1][0].dtype == torch.long
    assert all(given is text for _, given in heard)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_results_follow_the_dtype_of_the_clips(prediction, dtype):
    diffusion = GaussianDiffusion(schedule=make_schedule("cosine", 10), prediction=prediction)
    x0, t = normal(dtype=dtype), torch.tensor([3, 8])
    assert diffusion.add_noise(x0, x0, t).dtype == dtype
    assert diffusion.losses(silent, x0, t, x0).total.dtype == torch.promote_types(dtype, torch.float32)
    walk = diffusion.visiting(space(diffusion.schedule, "trailing", 3))
    for sampler in SAMPLERS:
        steps = walk.sample(silent, x0, noise=lambda step: normal(dtype=dtype), sampler=sampler, eta=0.5)
        assert {step.x_t.dtype for step in steps} == {dtype}


def test_a_half_precision_network_is_judged_in_float32():
    losses = GaussianDiffusion(schedule=COSINE, loss="l1").losses(
        lambda x_t, t, text: torch.zeros_like(x_t, dtype=torch.bfloat16),
        normal(dtype=torch.float32),
        torch.tensor([3, 40]),
        normal(1, dtype=torch.float32),
    )
    torch.testing.assert_close(losses.total, normal(1, dtype=torch.float32).abs().mean(dim=(1, 2, 3, 4)))


def test_sampling_keeps_no_graph_and_training_does():
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)
    diffusion = GaussianDiffusion(schedule=make_schedule("cosine", 5))

    def network(x_t, t, text):
        return x_t * weight

    assert diffusion.losses(network, normal(), torch.tensor([3, 4]), normal(1)).total.requires_grad
    assert not any(step.x_t.requires_grad for step in diffusion.sample(network, normal(), noise=normal))
    assert torch.is_grad_enabled()


def test_noising_mixes_by_the_level_of_each_clip():
    t = torch.tensor([3, 60])
    level = COSINE.level(t)
    noised = GaussianDiffusion(schedule=COSINE).add_noise(normal(), normal(1), t)
    for place in range(2):
        torch.testing.assert_close(
            noised[place], level.alpha[place] * normal()[place] + level.sigma[place] * normal(1)[place]
        )


def test_an_estimate_is_kept_in_range_before_anything_follows_from_it():
    walk = GaussianDiffusion(schedule=space(COSINE, "trailing", 4), prediction="x0")
    far = 3 * normal().sign()
    for keep_in_range, expected in ((static, far.sign()), (unbounded, far), (lambda x0: 0 * x0, 0 * far)):
        steps = list(walk.sample(lambda x_t, t, text: far, normal(1), noise=normal, keep_in_range=keep_in_range))
        assert all(step.x0.equal(expected) for step in steps)
        torch.testing.assert_close(steps[-1].x_t, expected)


@pytest.mark.parametrize("sampler", ["ddim", "euler"])
def test_own_noise_is_that_of_the_network_even_where_its_clip_was_changed(sampler):
    """One step by hand from an estimate of 3 that is clipped to 1: with own_noise the noise still fits the 3."""
    walk, x_T = GaussianDiffusion(schedule=space(COSINE, "trailing", 4), prediction="x0"), normal(1)
    (alpha, sigma), (alpha_next, sigma_next) = walk.schedule.level(3), walk.schedule.level(2)
    for own_noise, meant in ((False, 1.0), (True, 3.0)):
        steps = walk.sample(lambda x_t, t, text: 0 * x_t + 3, x_T, noise=normal, sampler=sampler, own_noise=own_noise)
        eps = (x_T - alpha * meant) / sigma
        torch.testing.assert_close(next(steps).x_t, alpha_next + sigma_next * eps)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_corrected_noise_takes_the_place_of_the_networks(prediction, perfect):
    """Noise that is greater by 0.1 means a clip that is smaller by 0.1 sigma / alpha, whatever is predicted."""
    diffusion, x0, t = GaussianDiffusion(schedule=COSINE, prediction=prediction), normal(), torch.tensor([20, 70])
    x_t = diffusion.add_noise(x0, normal(1), t)
    seen_noise = []

    def correct(eps, x_t, t):
        seen_noise.append((eps, x_t, t))
        return eps + 0.1

    seen = diffusion.denoise(perfect(diffusion, x0), x_t, t, keep_in_range=unbounded, correct_noise=correct)
    ratio = COSINE.noise_ratio[t].reshape(-1, 1, 1, 1, 1)
    torch.testing.assert_close(seen.x0, x0 - 0.1 * ratio)
    torch.testing.assert_close(seen_noise[0][0], normal(1))
    assert seen_noise[0][1] is x_t and seen_noise[0][2] is t


@pytest.mark.parametrize("prediction", [name for name in PREDICTIONS if name != "eps"])
@pytest.mark.parametrize("variance", ["fixed_small", "learned"])
def test_noise_is_not_corrected_where_no_signal_is_left(variance, prediction, perfect):
    """Divided by an alpha of 0 it would leave nothing finite; below that level it works as ever."""
    diffusion = GaussianDiffusion(schedule=space(ZERO, "trailing", 4), prediction=prediction, variance=variance)
    x0 = normal().clamp(-0.5, 0.5)
    network = perfect(diffusion, x0)
    network = twice(network) if diffusion.learns_variance else network
    options = {"noise": normal, "keep_in_range": unbounded}
    steps = list(diffusion.sample(network, normal(1), correct_noise=lambda eps, x_t, t: eps + 0.1, **options))
    torch.testing.assert_close(steps[0].x0, x0)
    torch.testing.assert_close(steps[1].x0, x0 - 0.1 * diffusion.schedule.noise_ratio[2])


def test_noise_is_corrected_after_guidance_and_before_the_range():
    order = []

    def network(x_t, t, text):
        order.append("network")
        return torch.zeros_like(x_t)

    def correct(eps, x_t, t):
        order.append("correct")
        return eps

    def keep(x0):
        order.append("range")
        return x0

    text = {"is_null": torch.tensor([False, False])}
    walk = GaussianDiffusion(schedule=space(COSINE, "trailing", 1))
    options = {"text": text, "guidance": Guidance(scale=3.0), "keep_in_range": keep, "correct_noise": correct}
    list(walk.sample(network, normal(), noise=normal, **options))
    assert order == ["network", "correct", "range"]


def test_what_is_put_in_is_what_the_network_sees_and_the_step_leaves_from():
    walk, heard = GaussianDiffusion(schedule=space(COSINE, "trailing", 3), prediction="x0"), []

    def network(x_t, t, text):
        heard.append(x_t)
        return 0 * x_t

    x_T, put = normal(), normal(5)
    step = next(walk.sample(network, x_T, noise=normal, put_in=lambda x_t, t: put + t))
    assert heard[0].equal(put + 2)
    torch.testing.assert_close(step.x_t, walk.schedule.level(1).sigma / walk.schedule.level(2).sigma * (put + 2))


@pytest.mark.parametrize("variance", FIXED)
def test_a_term_of_the_bound_is_how_far_the_steps_lie_apart(variance):
    """For a wrong clip and a variance of its own, by the Gaussian's divergence written out, in bits."""
    diffusion, t = (
        GaussianDiffusion(schedule=COSINE, prediction="x0", variance=variance, loss="kl"),
        torch.tensor([60, 7]),
    )
    losses = diffusion.losses(lambda x_t, t, text: 0.5 * torch.ones_like(x_t), 0 * normal(), t, normal(1))
    posterior = COSINE.posterior(t)
    other = COSINE.betas[t] if variance == "fixed_large" else posterior.variance
    ratio, apart = posterior.variance / other, (posterior.x0_weight * 0.5) ** 2 / other
    torch.testing.assert_close(losses.bound, (ratio - 1 - ratio.log() + apart) / 2 / math.log(2))


@pytest.mark.parametrize("part", ["prediction", "variance", "loss", "weighting"])
def test_an_unknown_part_is_named_with_those_that_exist(part):
    with pytest.raises(SettingsError, match=f"unknown {part} 'none such'; there are .*, "):
        GaussianDiffusion(schedule=COSINE, **{part: "none such"})


@pytest.mark.parametrize(
    "wrong, sentence",
    [
        ({"sampler": "none such"}, "unknown sampler 'none such'; there are ddim, "),
        ({"start": 100}, "start must be 0 to 99, the timesteps of the walk, not 100"),
        ({"start": -1}, "start must be 0 to 99, .*not -1"),
    ],
)
def test_sampling_refuses_before_the_first_step(wrong, sentence):
    with pytest.raises(SettingsError, match=sentence):
        GaussianDiffusion(schedule=COSINE).sample(silent, normal(), noise=normal, **wrong)


def test_every_loss_is_one_or_the_other():
    for loss in LOSSES:
        GaussianDiffusion(schedule=COSINE, loss=loss)
    assert not set(DISTANCES) & set(BOUNDS)


def test_a_process_seen_at_other_levels_keeps_its_other_parts():
    diffusion = GaussianDiffusion(
        schedule=COSINE, prediction="v", variance="learned", loss="l1", weighting="p2", gamma=0.3
    )
    walk = diffusion.visiting(space(COSINE, "leading", 7))
    assert (walk.num_timesteps, diffusion.num_timesteps) == (7, 100)
    assert (walk.prediction, walk.variance, walk.loss, walk.weighting, walk.gamma) == ("v", "learned", "l1", "p2", 0.3)
    assert walk.learns_variance
