"""Clips made from clips: known pixels kept, clips varied, mixed, and turned back into noise."""

import pytest
import torch

from t2v.diffusion.edits import interpolate, invert, keeping, mix, slerp, vary
from t2v.diffusion.gaussian import GaussianDiffusion
from t2v.diffusion.samplers import SAMPLERS
from t2v.diffusion.schedule import CLEAN, make_schedule
from t2v.diffusion.spacing import space
from t2v.diffusion.threshold import unbounded
from t2v.errors import SettingsError

SHAPE = (2, 3, 4, 4, 4)
COSINE = make_schedule("cosine", 100)
ZERO = make_schedule("cosine", 100, zero_terminal_snr=True)


def normal(seed=0):
    return torch.randn(*SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def diffusion_of(num_steps=10, schedule=COSINE, prediction="x0"):
    return GaussianDiffusion(schedule=space(schedule, "trailing", num_steps), prediction=prediction)


def silent(x_t, t, text):
    return torch.zeros_like(x_t)


def space_mask():
    mask = torch.zeros(1, 1, 1, 4, 4).double()
    mask[..., :2] = 1
    return mask


def time_mask():
    mask = torch.zeros(1, 1, 4, 1, 1).double()
    mask[:, :, [0, 3]] = 1
    return mask


MASKS = {"half of every frame": space_mask, "whole frames": time_mask, "both": lambda: space_mask() * time_mask()}


@pytest.mark.parametrize("mask", MASKS)
def test_the_network_sees_known_pixels_noised_to_its_level_and_the_others_as_they_were(mask):
    diffusion, known, mask, seen = diffusion_of(), normal().clamp(-1, 1), MASKS[mask]().expand(SHAPE), []

    def network(x_t, t, text):
        seen.append(x_t)
        return torch.zeros_like(x_t)

    put_in = keeping(diffusion, known, mask, lambda t: normal(50 + t))
    steps = list(diffusion.sample(network, normal(1), noise=normal, put_in=put_in))
    before = [normal(1), *(step.x_t for step in steps)]
    for x_t, came, step in zip(seen, before, steps, strict=False):
        level = diffusion.schedule.level(step.t)
        torch.testing.assert_close(x_t[mask == 1], (level.alpha * known + level.sigma * normal(50 + step.t))[mask == 1])
        assert x_t[mask == 0].equal(came[mask == 0])


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("mask", MASKS)
def test_drawn_pixels_fit_the_known_ones(mask, sampler):
    """A network that takes a clip's mean over its known pixels for all of it finds their value everywhere."""
    diffusion, mask = diffusion_of(20, ZERO), MASKS[mask]()
    known = torch.tensor([0.5, -0.25]).double().reshape(2, 1, 1, 1, 1).expand(SHAPE)

    def network(x_t, t, text):
        where = mask.expand_as(x_t)
        mean = (x_t * where).sum((1, 2, 3, 4), keepdim=True) / where.sum((1, 2, 3, 4), keepdim=True)
        alpha = diffusion.schedule.level((t[:, None] == diffusion.schedule.told).long().argmax(1)).alpha
        return (mean / alpha.clamp(min=0.1).reshape(-1, 1, 1, 1, 1)).clamp(-1, 1).expand_as(x_t)

    put_in = keeping(diffusion, known, mask, lambda t: torch.zeros(SHAPE).double())
    *_, last = diffusion.sample(network, normal(1), noise=normal, sampler=sampler, put_in=put_in)
    torch.testing.assert_close(last.x_t, known, rtol=0, atol=0.02)


def test_each_clip_may_have_a_mask_of_its_own():
    diffusion, known = diffusion_of(), normal()
    mask = torch.tensor([1.0, 0.0]).double().reshape(2, 1, 1, 1, 1)
    put = keeping(diffusion, known, mask, lambda t: normal(7))(normal(1), 4)
    torch.testing.assert_close(put[0], diffusion.add_noise(known, normal(7), torch.tensor([4, 4]))[0])
    assert put[1].equal(normal(1)[1])


@pytest.mark.parametrize("start", [0, 3, 9])
def test_varying_starts_from_the_clip_noised_to_the_timestep(start):
    diffusion, seen = diffusion_of(), []

    def network(x_t, t, text):
        seen.append(x_t)
        return torch.zeros_like(x_t)

    steps = list(vary(diffusion, network, normal(), normal(1), start=start, noise=normal))
    assert [step.t for step in steps] == list(range(start, -1, -1))
    assert seen[0].equal(diffusion.add_noise(normal(), normal(1), torch.tensor([start, start])))


def test_a_higher_start_keeps_less_of_the_clip(gaussian_clips):
    """The best network of Gaussian clips, which know nothing of each other, draws back what noise has left."""
    diffusion = diffusion_of(50)
    x0 = gaussian_clips.mean + gaussian_clips.std * normal()
    likeness = []
    for start in (5, 25, 49):
        options = {"noise": normal, "keep_in_range": unbounded}
        *_, last = vary(diffusion, gaussian_clips.network(diffusion), x0, normal(1), start=start, **options)
        likeness.append(torch.corrcoef(torch.stack((last.x_t.flatten(), x0.flatten())))[0, 1].item())
    assert likeness[0] > 0.8 > likeness[1] > 0.1 > abs(likeness[2])


@pytest.mark.parametrize("weight, nearest", [(0.0, 0), (1.0, 1)])
def test_a_mix_ends_at_either_clip(weight, nearest):
    """A network that reads the clip off x_t by its sign finds the one that was mixed in alone."""
    diffusion, clips = GaussianDiffusion(schedule=COSINE, prediction="x0"), (torch.ones(SHAPE), -torch.ones(SHAPE))
    *_, last = mix(
        diffusion,
        lambda x_t, t, text: x_t.mean(dim=(1, 2, 3, 4), keepdim=True).sign().expand(SHAPE),
        *clips,
        (normal(1).float(), normal(2).float()),
        t=60,
        weight=weight,
        noise=lambda step: normal(step).float(),
    )
    assert last.num_steps == 60
    assert last.x_t.equal(clips[nearest])


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_a_mix_walks_from_between_both_noised_clips_one_level_lower(weight):
    diffusion, seen, t = diffusion_of(), [], torch.tensor([6, 6])

    def network(x_t, told, text):
        seen.append((x_t, told))
        return torch.zeros_like(x_t)

    list(mix(diffusion, network, normal(), normal(1), (normal(2), normal(3)), t=6, weight=weight, noise=normal))
    noised = [diffusion.add_noise(normal(place), normal(2 + place), t) for place in (0, 1)]
    torch.testing.assert_close(seen[0][0], (1 - weight) * noised[0] + weight * noised[1])
    assert len(seen) == 6 and seen[0][1].equal(diffusion.schedule.told[t - 1])


def test_a_mix_needs_a_level_to_walk_from():
    with pytest.raises(SettingsError, match="start must be 0 to 9"):
        mix(diffusion_of(), silent, normal(), normal(1), (normal(2), normal(3)), t=0, weight=0.5, noise=normal)


@pytest.mark.parametrize("schedule", [COSINE, ZERO], ids=["cosine", "zero terminal"])
def test_for_an_estimate_that_never_changes_the_walk_down_is_the_walk_up_reversed(schedule):
    """Level by level, to rounding, but for the last step down: that heads for the estimate itself. From a level without
    signal it is so too, since the noise that was there is known."""
    diffusion, x0 = diffusion_of(10, schedule), normal()
    options = {"keep_in_range": unbounded}

    def network(x_t, t, text):
        return 0 * x_t + 0.3

    up = list(invert(diffusion, network, x0, **options))
    assert [(step.index, step.t, step.num_steps) for step in up] == [(i, i - 1, 10) for i in range(10)]
    down = list(diffusion.sample(network, up[-1].x_t, noise=normal, sampler="ddim", **options))
    for there, back in zip(
        [x0, *(step.x_t for step in up[1:-1])], reversed([step.x_t for step in down[:-1]]), strict=True
    ):
        torch.testing.assert_close(back, there)
    torch.testing.assert_close(down[-1].x_t, 0 * x0 + 0.3)


def there_and_back(gaussian_clips, num_steps):
    diffusion = GaussianDiffusion(schedule=space(make_schedule("linear", 1000), "trailing", num_steps), prediction="v")
    network, x0 = gaussian_clips.network(diffusion), gaussian_clips.mean + gaussian_clips.std * normal()
    *_, top = invert(diffusion, network, x0, keep_in_range=unbounded)
    *_, bottom = diffusion.sample(network, top.x_t, noise=normal, keep_in_range=unbounded)
    z = (x0 - gaussian_clips.mean) / gaussian_clips.std
    astray = (top.x_t - gaussian_clips.noised(diffusion.schedule, z, num_steps - 1)).abs().max().item()
    return astray, (bottom.x_t - x0).abs().max().item()


def test_finer_steps_come_back_closer(gaussian_clips):
    """Gaussian clips, whose exact flow is known: twice the steps, about half the error of the noise that is found, and
    still less of the clip that comes back."""
    coarse, fine, finer = (there_and_back(gaussian_clips, num_steps) for num_steps in (50, 100, 200))
    assert finer[0] < 0.6 * fine[0] < 0.36 * coarse[0]
    assert finer[1] < 0.6 * fine[1] < 0.36 * coarse[1]
    assert finer[1] < 0.05


def test_inverting_listens_to_the_options_of_an_answer():
    """The text reaches the network, the estimate is kept in range, and no gradient is kept."""
    heard, text = [], {"is_null": torch.tensor([False, False])}

    def network(x_t, t, given):
        heard.append((t.tolist(), given))
        return 5 + 0 * x_t.requires_grad_()

    steps = list(invert(diffusion_of(4), network, normal(), text=text))
    told = diffusion_of(4).schedule.told.tolist()
    assert [t[0] for t, _ in heard] == [told[0], *told[:3]]
    assert all(given is text for _, given in heard)
    assert all(step.x0.equal(torch.ones(SHAPE).double()) for step in steps)


@pytest.mark.parametrize("place", [0, 1])
def test_an_interpolation_ends_at_either_clip_as_its_inversion_comes_back(place, gaussian_clips):
    diffusion = GaussianDiffusion(schedule=space(make_schedule("linear", 1000), "trailing", 200), prediction="v")
    network, clips = (
        gaussian_clips.network(diffusion),
        [gaussian_clips.mean + gaussian_clips.std * normal(s) for s in (0, 1)],
    )
    *_, last = interpolate(diffusion, network, *clips, weight=float(place), keep_in_range=unbounded)
    assert (last.x_t - clips[place]).abs().max() < 0.08 < (last.x_t - clips[1 - place]).abs().mean()


def test_halfway_between_two_clips_stands_one_that_is_as_lively_as_they(gaussian_clips):
    """Where the mean of both pixel by pixel has only 1 / sqrt(2) of their spread."""
    diffusion = GaussianDiffusion(schedule=space(make_schedule("linear", 1000), "trailing", 100), prediction="v")
    clips = [gaussian_clips.mean + gaussian_clips.std * normal(seed) for seed in (0, 1)]
    network = gaussian_clips.network(diffusion)
    *_, last = interpolate(diffusion, network, *clips, weight=0.5, keep_in_range=unbounded)
    both = torch.stack(clips).mean(0)
    assert torch.corrcoef(torch.stack((last.x_t.flatten(), both.flatten())))[0, 1] > 0.99
    assert last.x_t.std().item() == pytest.approx(gaussian_clips.std, rel=0.08)
    assert both.std().item() < 0.8 * gaussian_clips.std


def test_an_interpolation_walks_down_from_between_the_noises_of_both_clips():
    diffusion, heard, text = diffusion_of(5), [], {"is_null": torch.tensor([False, False])}

    def network(x_t, t, given):
        heard.append((x_t, t[0].item(), given))
        return 0.5 * x_t

    steps = list(interpolate(diffusion, network, normal(), normal(1), weight=0.25, text=text))
    tops = [list(invert(diffusion, network, normal(seed), text=text))[-1].x_t for seed in (0, 1)]
    told = diffusion.schedule.told.tolist()
    assert heard[10][0].equal(slerp(*tops, 0.25))
    assert [t for _, t, _ in heard[10:15]] == told[::-1]
    assert all(given is text for *_, given in heard)
    assert [(step.index, step.t, step.num_steps) for step in steps] == [(i, 4 - i, 5) for i in range(5)]


@pytest.mark.parametrize("weight", [0.0, 0.25, 0.5, 1.0])
def test_between_two_noises_of_one_length_lie_noises_of_that_length(weight):
    a, b = (noise / noise.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1, 1) for noise in (normal(), normal(1)))
    between = slerp(a, b, weight)
    torch.testing.assert_close(between.flatten(1).norm(dim=1), torch.ones(2).double())
    angle, whole = ((x.flatten(1) * a.flatten(1)).sum(1).clamp(-1, 1).arccos() for x in (between, b))
    torch.testing.assert_close(angle, weight * whole, rtol=0, atol=1e-7)


def test_slerp_ends_at_either_noise_and_goes_in_a_line_between_like_ones():
    a, b = normal(), normal(1)
    torch.testing.assert_close(slerp(a, b, 0.0), a)
    torch.testing.assert_close(slerp(a, b, 1.0), b)
    torch.testing.assert_close(slerp(a, 2 * a, 0.25), 1.25 * a)
    assert slerp(a.float(), b.float(), 0.5).dtype == torch.float32


def test_halfway_between_two_noises_is_of_full_strength_where_a_line_is_not():
    a, b = (torch.randn(1, 3, 8, 32, 32, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert slerp(a, b, 0.5).std().item() == pytest.approx(1, abs=0.02)
    assert torch.lerp(a, b, 0.5).std().item() == pytest.approx(0.5**0.5, abs=0.02)


def test_the_clean_end_is_one_step_below_timestep_0():
    assert next(invert(diffusion_of(), silent, normal())).t == CLEAN
