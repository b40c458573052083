"""The one generation loop: noise that belongs to a clip and its step, and the classic loop met to rounding."""

import pytest
import torch
from safetensors.torch import load_file

import t2v.sampling
from t2v.config import GenerationSettings
from t2v.diffusion import GaussianDiffusion
from t2v.diffusion.samplers import SAMPLERS
from t2v.diffusion.schedule import make_schedule
from t2v.diffusion.spacing import space
from t2v.model import Unet3D
from t2v.model.lucidrains import unet_weights
from t2v.model.text import TextFeatures
from t2v.sampling import sample_clips, to_uint8

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


class TextHearer(Recorder):
    """One whose answer is another where it hears a text."""

    def forward(self, x, t, text=None):
        heard = 0 if text is None else (~text["is_null"]).float().reshape(-1, 1, 1, 1, 1)
        return super().forward(x, t, text) + 0.3 * heard * (3 * x + 1).sin()


def texts(*num_tokens):
    """Features of texts of so many tokens: those of each are all of its number, from 0."""
    numbers = torch.arange(float(len(num_tokens)))
    mask = torch.arange(max(num_tokens)) < torch.tensor(num_tokens)[:, None]
    tokens = torch.where(mask[..., None], numbers[:, None, None], 0).expand(-1, -1, 3)
    return TextFeatures(numbers[:, None].expand(-1, 3), tokens, mask, torch.zeros_like(numbers).bool())


def sampled(num_clips, *, network=None, guide=None, seed=1, text=None, negative=None, **settings):
    steps = sample_clips(
        network or Recorder(),
        GaussianDiffusion(schedule=make_schedule("cosine", 50)),
        text=text,
        negative=negative,
        guide=guide,
        num_clips=num_clips,
        shape=SHAPE,
        seed=seed,
        settings=GenerationSettings(**({"num_steps": 4, "sampler": "ddim"} | settings)),
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
    diffusion = GaussianDiffusion(schedule=make_schedule("cosine", 50))
    start = [torch.randn(SHAPE, generator=t2v.sampling.generator("sample", 1, 0, step)) for step in (-1, 0, 1)]
    walk = diffusion.visiting(space(diffusion.schedule, "trailing", 3))
    again = walk.sample(Recorder(), start[0][None], noise=lambda step: start[step + 1][None], sampler="ddpm")
    for step, other in zip(steps, again, strict=True):
        assert torch.equal(step.x_t, other.x_t)


def test_every_choice_of_a_walk_is_heard():
    text = texts(2)
    walks = [
        {},
        {"eta": 0.5},
        {"eta": 0.5, "temperature": 0.5},
        {"eta": 0.5, "noise_dropout": 0.5},
        {"threshold": "none"},
        {"threshold": "dynamic", "percentile": 0.5},
        {"own_noise": True},
        {"num_steps": 5},
        {"spacing": "3,2"},
        {"spacing": "linspace"},
        {"guidance_scale": 5},
        {"guidance_curve": "1,9"},
        {"guidance_low": 0.9},
        {"guidance_high": 0.9},
        {"guidance_rescale": 0.7},
        {"sampler": "ddpm"},
        *({"sampler": name} for name in SAMPLERS if name not in ("ddim", "ddpm", "euler")),
    ]
    clips = [results(sampled(1, network=TextHearer(), text=text, **({"num_steps": 6} | walk))) for walk in walks]
    for place, clip in enumerate(clips):
        alike = [walks[other] for other in range(place) if torch.allclose(clip, clips[other])]
        assert not alike, walks[place]


def test_samplers_that_are_one_and_the_same_draw_the_same():
    """ddim with all its noise renewed is ddpm, and euler's step is that of ddim."""
    torch.testing.assert_close(results(sampled(1, sampler="ddpm")), results(sampled(1, eta=1.0)))
    torch.testing.assert_close(results(sampled(1, sampler="euler")), results(sampled(1)))


def test_a_guide_is_asked_the_same_and_moved_away_from():
    network, guide = Recorder(), Recorder()
    guide.weight.data.fill_(0.05)
    text = texts(2)
    guided = results(sampled(1, network=network, guide=guide, text=text, guidance_scale=3, num_steps=1))
    for (x, t, text), (other_x, other_t, other_text) in zip(network.asked, guide.asked, strict=True):
        assert torch.equal(x, other_x) and t == other_t and torch.equal(text["pooled"], other_text["pooled"])
    stronger = Recorder()
    stronger.weight.data.fill_(0.05 + 3 * (0.1 - 0.05))
    torch.testing.assert_close(guided, results(sampled(1, network=stronger, num_steps=1)))


def test_groups_share_a_pass_and_draw_the_same_clips(monkeypatch):
    """What a GPU does: the same noise, several clips at once."""
    one_by_one = results(sampled(5, sampler="ddpm"))
    monkeypatch.setitem(t2v.sampling.GROUPS, "cpu", 2)
    steps = sampled(5, sampler="ddpm")
    assert [step.clips for step in steps if step.is_last] == [range(0, 2), range(2, 4), range(4, 5)]
    torch.testing.assert_close(results(steps), one_by_one)


def test_each_clip_hears_its_own_text_and_the_negative_one():
    text, negative = texts(2, 1), texts(3)._replace(pooled=torch.full((1, 3), -1.0))
    network = Recorder()
    sampled(2, network=network, text=text, negative=negative, guidance_scale=3, num_steps=1)
    for clip, (x, _, given) in enumerate(network.asked):
        assert torch.equal(x[0], x[1])
        assert torch.equal(given["pooled"], torch.stack((text.pooled[clip], negative.pooled[0])))
        assert given["is_null"].tolist() == [False, False]
        assert given["mask"].sum(dim=1).tolist() == [[2, 3], [1, 3]][clip]  # the shorter one is padded
        assert given["tokens"][given["mask"]].mean(dim=1).tolist() == [[0, 0, 0, 0, 0], [1, 0, 0, 0]][clip]


def test_without_a_negative_text_the_learned_null_takes_its_place():
    network = Recorder()
    sampled(1, network=network, text=texts(2), guidance_scale=3, num_steps=1)
    assert network.asked[0][2]["is_null"].tolist() == [False, True]


def test_without_text_the_network_is_asked_plainly():
    network = Recorder()
    sampled(1, network=network, guidance_scale=3)
    assert [(len(x), t, text) for x, t, text in network.asked] == [(1, [t], None) for t in (49, 37, 24, 11)]


def test_pixels_are_rounded_to_the_nearest_and_kept_in_range():
    x = torch.tensor([-9, -1, -0.999, 0, 0.5, 1, 9]).reshape(1, 1, 7, 1, 1)
    assert to_uint8(x).flatten().tolist() == [0, 0, 0, 128, 191, 255, 255]
    grid = torch.arange(256).reshape(1, 1, 1, 16, 16)
    assert torch.equal(to_uint8(grid / 127.5 - 1)[0, 0, ..., 0], grid[0, 0, 0].to(torch.uint8))
    assert to_uint8(torch.zeros(2, 3, 4, 5, 6)).shape == (2, 4, 5, 6, 3)


@pytest.mark.golden("lucidrains_sample", "unet_nocond_dyn1_scale2.0")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_classic_loop_with_the_classic_network_is_met(golden_case, golden_folder, monkeypatch, dtype):
    """lucidrains/video-diffusion-pytorch 0.7 (MIT): its own network, its own noise, 20 steps, dynamic thresholding."""
    noise = golden_case.shared("noise_unet", dtype)
    settings, weights = unet_weights(load_file(golden_folder / "lucidrains_unet_nocond.safetensors"))
    network = Unet3D(**settings)
    network.load_state_dict(weights)
    monkeypatch.setattr(
        t2v.sampling._Draws, "noise", lambda draws, step: noise[step + 1, [clip for _, clip in draws.keys]]
    )
    steps = sample_clips(
        network.to(dtype),
        GaussianDiffusion(schedule=make_schedule("cosine", 20)),
        text=None,
        num_clips=noise.shape[1],
        shape=noise.shape[2:],
        seed=0,
        settings=GenerationSettings(
            num_steps=20,
            sampler="ddpm",
            threshold="dynamic",
            percentile=0.9,
            guidance_scale=golden_case.args["cond_scale"],
        ),
    )
    golden_case.check("final_unnormalized", (results(steps) + 1) / 2)
