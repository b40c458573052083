"""The one generation loop: noise that belongs to a clip and its step, and the classic loop met to rounding."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import t2v.sampling
from t2v.config import GenerationSettings
from t2v.diffusion import GaussianDiffusion
from t2v.model import Unet3D
from t2v.model.lucidrains import unet_weights
from t2v.sampling import sample_clips, to_uint8

GOLDEN = Path(__file__).parent / "golden"
SHAPE = (3, 2, 4, 4)


class Recorder(torch.nn.Module):
    """A network that keeps what it was asked and sees a part of what it is given."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(0.1))
        self.asked = []

    def forward(self, x, t, text=None):
        self.asked.append((x.clone(), t.tolist(), text))
        return self.weight * x


def sampled(num_clips, *, network=None, seed=1, pooled=None, negative=None, **settings):
    steps = sample_clips(
        network or Recorder(),
        GaussianDiffusion(num_timesteps=50),
        pooled=pooled,
        negative=negative,
        num_clips=num_clips,
        shape=SHAPE,
        seed=seed,
        settings=GenerationSettings(**({"num_steps": 4} | settings)),
    )
    return list(steps)


def results(steps):
    return torch.cat([step.x_t for step in steps if step.is_last])


def test_the_noise_of_a_clip_depends_on_seed_and_place_alone():
    def noise(num_clips, **settings):
        network = Recorder()
        steps = sampled(num_clips, network=network, **settings)
        return [x for x, _, _ in network.asked[:: len(steps) // num_clips]]

    first = noise(3)
    for clip, alone in zip(first, noise(2, num_steps=9, sampler="ddpm"), strict=False):
        assert torch.equal(clip, alone)
    every = [*first, *noise(3, seed=2)]
    assert not any(torch.equal(a, b) for place, a in enumerate(every) for b in every[:place])
    values = torch.cat(every)
    assert abs(values.mean()) < 0.1 and abs(values.std() - 1) < 0.1


def test_every_step_of_the_ancestral_sampler_has_noise_of_its_own():
    steps = sampled(1, sampler="ddpm", num_steps=3)
    diffusion = GaussianDiffusion(num_timesteps=50)
    start = [torch.randn(SHAPE, generator=t2v.sampling.generator("sample", 1, 0, step)) for step in (-1, 0, 1)]
    again = diffusion.sample(
        Recorder(), start[0][None], noise=lambda step: start[step + 1][None], num_steps=3, sampler="ddpm"
    )
    for step, other in zip(steps, again, strict=True):
        assert torch.equal(step.x_t, other.x_t)


def test_every_choice_of_a_walk_is_heard():
    walks = [{}, {"eta": 0.5}, {"eta": 1.0}, {"threshold": "none"}, {"num_steps": 5}, {"sampler": "ddpm"}]
    clips = [results(sampled(1, **walk)) for walk in walks]
    for place, clip in enumerate(clips[:-1]):
        assert not any(torch.allclose(clip, other) for other in clips[:place])
    torch.testing.assert_close(clips[-1], clips[2])  # ddim with all its noise renewed is ddpm


def test_groups_share_a_pass_and_draw_the_same_clips(monkeypatch):
    """What a GPU does: the same noise, several clips at once."""
    one_by_one = results(sampled(5, sampler="ddpm"))
    monkeypatch.setitem(t2v.sampling.GROUPS, "cpu", 2)
    steps = sampled(5, sampler="ddpm")
    assert [step.clips for step in steps if step.is_last] == [range(0, 2), range(2, 4), range(4, 5)]
    torch.testing.assert_close(results(steps), one_by_one)


def test_each_clip_hears_its_own_text_and_the_negative_one():
    pooled, negative = torch.arange(6.0).reshape(2, 3), torch.full((3,), -1.0)
    network = Recorder()
    sampled(2, network=network, pooled=pooled, negative=negative, guidance_scale=3, num_steps=1)
    for clip, (x, _, text) in enumerate(network.asked):
        assert torch.equal(x[0], x[1])
        assert torch.equal(text["pooled"], torch.stack((pooled[clip], negative)))
        assert text["is_null"].tolist() == [False, False]


def test_without_a_negative_text_the_learned_null_takes_its_place():
    network = Recorder()
    sampled(1, network=network, pooled=torch.ones(1, 3), guidance_scale=3, num_steps=1)
    assert network.asked[0][2]["is_null"].tolist() == [False, True]


def test_without_text_the_network_is_asked_plainly():
    network = Recorder()
    sampled(1, network=network, guidance_scale=3)
    assert [(len(x), t, text) for x, t, text in network.asked] == [(1, [t], None) for t in (49, 36, 24, 11)]


def test_pixels_are_rounded_to_the_nearest_and_kept_in_range():
    x = torch.tensor([-9, -1, -0.999, 0, 0.5, 1, 9]).reshape(1, 1, 7, 1, 1)
    assert to_uint8(x).flatten().tolist() == [0, 0, 0, 128, 191, 255, 255]
    grid = torch.arange(256).reshape(1, 1, 1, 16, 16)
    assert torch.equal(to_uint8(grid / 127.5 - 1)[0, 0, ..., 0], grid[0, 0, 0].to(torch.uint8))
    assert to_uint8(torch.zeros(2, 3, 4, 5, 6)).shape == (2, 4, 5, 6, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_classic_loop_with_the_classic_network_is_met(monkeypatch, dtype):
    """lucidrains/video-diffusion-pytorch 0.7 (MIT): its own network, its own noise, 20 steps, dynamic thresholding."""
    name, file = "unet_nocond_dyn1_scale2.0", "sample_lucidrains_unet"
    about = json.loads((GOLDEN / f"{file}.cases.json").read_text())["cases"][name]
    with np.load(GOLDEN / f"{file}.npz") as arrays:
        noise = torch.from_numpy(arrays["shared/noise_unet"]).to(dtype)
        expected = torch.from_numpy(arrays[f"{name}/final_unnormalized"])
        expected_f64 = torch.from_numpy(arrays[f"{name}/final_unnormalized_f64"])
    settings, weights = unet_weights(load_file(GOLDEN / "unet_lucidrains_nocond.safetensors"))
    network = Unet3D(**settings)
    network.load_state_dict(weights)
    monkeypatch.setattr(t2v.sampling, "_noise", lambda shape, seed, clip, step: noise[step + 1, clip])
    steps = sample_clips(
        network.to(dtype),
        GaussianDiffusion(num_timesteps=20),
        pooled=None,
        num_clips=noise.shape[1],
        shape=noise.shape[2:],
        seed=0,
        settings=GenerationSettings(
            num_steps=20,
            sampler="ddpm",
            threshold="dynamic",
            percentile=0.9,
            guidance_scale=about["args"]["cond_scale"],
        ),
    )
    drawn = (results(steps) + 1) / 2
    field = about["fields"]["final_unnormalized"]
    if dtype == torch.float32:
        torch.testing.assert_close(drawn, expected, rtol=0, atol=field["suggested_atol_f32"])
    else:
        drawn = drawn[..., 0, :, :] if field.get("f64_twin") == "frame 0 only" else drawn
        torch.testing.assert_close(drawn, expected_f64, rtol=0, atol=1e-9)
