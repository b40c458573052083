"""GaussianDiffusion joins schedule, prediction, loss, guidance, threshold and sampler."""

import pytest
import torch

from t2v.config import DiffusionSettings
from t2v.diffusion.gaussian import GaussianDiffusion
from t2v.diffusion.losses import LOSSES
from t2v.diffusion.prediction import PREDICTIONS
from t2v.diffusion.samplers import SAMPLERS
from t2v.diffusion.schedule import spread
from t2v.errors import SettingsError

SHAPE = (2, 3, 2, 4, 4)


def normal(seed=0, dtype=torch.float64):
    return torch.randn(*SHAPE, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def perfect(diffusion, x0):
    """The network that knows the clip and answers what training would have asked of it."""

    def network(x_t, t, text):
        level = diffusion.schedule.level(t)
        alpha, sigma = spread(level.alpha, x_t), spread(level.sigma, x_t)
        return diffusion.prediction.target(x0, (x_t - alpha * x0) / sigma, alpha, sigma)

    return network


def silent(x_t, t, text):
    return torch.zeros_like(x_t)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_perfect_network_draws_its_clip(schedule, prediction, sampler):
    diffusion = GaussianDiffusion(num_timesteps=100, schedule=schedule, prediction=prediction)
    x0 = normal().clamp(-1, 1)
    steps = list(diffusion.sample(perfect(diffusion, x0), normal(1), noise=normal, num_steps=10, sampler=sampler))
    assert len(steps) == 10
    torch.testing.assert_close(steps[-1].x_t, x0)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_perfect_network_has_no_loss(prediction, loss):
    diffusion = GaussianDiffusion(prediction=prediction, loss=loss)
    x0 = normal()
    losses = diffusion.losses(perfect(diffusion, x0), x0, torch.tensor([30, 800]), normal(1))
    torch.testing.assert_close(losses, torch.zeros(2, dtype=torch.float64))


def test_losses_are_one_mean_per_clip():
    x0, noise = normal(), normal(1)
    losses = GaussianDiffusion(loss="l2").losses(silent, x0, torch.tensor([0, 999]), noise)
    torch.testing.assert_close(losses, (noise**2).mean(dim=(1, 2, 3, 4)))


def test_the_network_hears_timesteps_and_text():
    heard = []

    def network(x_t, t, text):
        heard.append((t, text))
        return x_t

    diffusion, t, text = GaussianDiffusion(), torch.tensor([5, 6]), {"is_null": torch.tensor([True, False])}
    diffusion.losses(network, normal(), t, normal(1), text)
    list(diffusion.sample(network, normal(), noise=normal, text=text, times=[7]))
    assert heard[0][0].equal(t)
    assert heard[1][0].equal(torch.tensor([7, 7]))
    assert heard[1][0].dtype == torch.long
    assert heard[0][1] is heard[1][1] is text


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_results_follow_the_dtype_of_the_clips(prediction, dtype):
    diffusion = GaussianDiffusion(num_timesteps=50, prediction=prediction)
    x0, t = normal(dtype=dtype), torch.tensor([3, 40])
    assert diffusion.add_noise(x0, x0, t).dtype == dtype
    assert diffusion.losses(silent, x0, t, x0).dtype == torch.promote_types(dtype, torch.float32)
    for sampler in SAMPLERS:
        steps = diffusion.sample(silent, x0, noise=lambda step: normal(dtype=dtype), num_steps=3, sampler=sampler)
        assert {step.x_t.dtype for step in steps} == {dtype}


def test_a_half_precision_network_is_judged_in_float32():
    losses = GaussianDiffusion().losses(
        lambda x_t, t, text: torch.zeros_like(x_t, dtype=torch.bfloat16),
        normal(dtype=torch.float32),
        torch.tensor([3, 40]),
        normal(1, dtype=torch.float32),
    )
    torch.testing.assert_close(losses, normal(1, dtype=torch.float32).abs().mean(dim=(1, 2, 3, 4)))


def test_sampling_keeps_no_graph_and_training_does():
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)
    diffusion = GaussianDiffusion()

    def network(x_t, t, text):
        return x_t * weight

    assert diffusion.losses(network, normal(), torch.tensor([3, 40]), normal(1)).requires_grad
    assert not any(step.x_t.requires_grad for step in diffusion.sample(network, normal(), noise=normal, num_steps=2))
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("weight, nearest", [(0.0, 0), (1.0, 1)])
def test_interpolation_ends_at_either_clip(weight, nearest):
    """A network that reads the clip off x_t by its sign finds the one that was mixed in alone."""
    diffusion = GaussianDiffusion(num_timesteps=100, prediction="x0")
    clips = (torch.ones(SHAPE), -torch.ones(SHAPE))
    noises = (normal(1, torch.float32), normal(2, torch.float32))
    *_, last = diffusion.interpolate(
        lambda x_t, t, text: x_t.mean(dim=(1, 2, 3, 4), keepdim=True).sign().expand(SHAPE),
        *clips,
        noises,
        t=60,
        weight=weight,
        noise=lambda step: normal(step, torch.float32),
    )
    assert last.num_steps == 60
    assert last.x_t.equal(clips[nearest])


@pytest.mark.parametrize("part", ["schedule", "prediction", "loss"])
def test_an_unknown_part_is_named_with_those_that_exist(part):
    with pytest.raises(SettingsError, match=f"unknown {part} 'none such'; there are .*, "):
        GaussianDiffusion(**{part: "none such"})


@pytest.mark.parametrize("wrong", [{"sampler": "none such"}, {"threshold": "none such"}, {"num_steps": 1001}])
def test_sampling_refuses_before_the_first_step(wrong):
    with pytest.raises(SettingsError):
        GaussianDiffusion().sample(silent, normal(), noise=normal, **wrong)


def test_it_is_built_from_the_settings():
    settings = DiffusionSettings()
    diffusion = GaussianDiffusion(**settings.model_dump())
    assert len(diffusion.schedule.betas) == settings.num_timesteps
