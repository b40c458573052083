"""Lucidrains' video diffusion: its loop, step, interpolation and loss, with a stand-in and with its network."""

from functools import partial

import pytest
import torch

from t2v.diffusion import GaussianDiffusion
from t2v.diffusion.edits import mix
from t2v.diffusion.guidance import Guidance
from t2v.diffusion.schedule import make_schedule, spread
from t2v.diffusion.steps import mean_of
from t2v.diffusion.threshold import dynamic, static
from t2v.model import Unet3D
from t2v.model.lucidrains import unet_weights

DTYPES = [torch.float32, torch.float64]

pytestmark = pytest.mark.parametrize("dtype", DTYPES)


def analytic(x_t, t, text):
    """The stand-in for a network with which the figures were made."""
    channel = torch.arange(x_t.shape[1]).to(x_t).reshape(1, -1, 1, 1, 1)
    output = 0.9 * x_t * spread((0.075 * t.to(x_t)).sin(), x_t) + 0.15 * (2 * x_t + channel).sin()
    if text is None:
        return output
    heard = torch.where(text["is_null"], 0, text["pooled"][:, 0])
    return output + 0.2 * spread(heard, x_t) * x_t.cos()


def unet_of(case, dtype):
    suffix = {"cond": "", "nocond": "_nocond"}[case.args["model"]]
    settings, state = unet_weights(case.weights(f"lucidrains_unet{suffix}"))
    network = Unet3D(**settings)
    network.load_state_dict(state)
    return network.to(dtype)


def text_of(case, name, dtype):
    pooled = case.shared(name, dtype)
    return {"pooled": pooled, "is_null": torch.zeros(len(pooled), dtype=torch.bool)}


def keep_of(case):
    return partial(dynamic, percentile=case.args.get("percentile", 0.9)) if case.args["dyn"] else static


def process(num_timesteps, **options):
    return GaussianDiffusion(schedule=make_schedule("cosine", num_timesteps), variance="fixed_tiny", **options)


def check_loop(case, network, noise, text):
    steps = list(
        process(20).sample(
            network,
            noise[0],
            noise=lambda step: noise[step + 1],
            text=text,
            sampler="ddpm",
            guidance=Guidance(scale=case.args["cond_scale"]),
            keep_in_range=keep_of(case),
        )
    )
    case.check("final_unnormalized", (steps[-1].x_t + 1) / 2)
    gaps = case.about["traj_f32_minus_f64_max_per_kept_step"]
    for kept, index, gap in zip(case["traj"], case["steps"], gaps, strict=True):
        # The tolerances are made as those of the other figures are.
        atol = max(10 * gap, 2e-6 * kept.abs().max().item())
        torch.testing.assert_close(steps[index].x_t, kept, rtol=0, atol=atol, check_dtype=False)


@pytest.mark.golden("lucidrains_sample", "analytic_*")
def test_the_loop_is_met(golden_case, dtype):
    text = text_of(golden_case, "cond_ana", dtype) if golden_case.args["model"] == "analytic_cond" else None
    check_loop(golden_case, analytic, golden_case.shared("noise_ana", dtype), text)


@pytest.mark.golden("lucidrains_sample", "unet_*")
def test_the_loop_with_the_network_is_met(golden_case, dtype):
    network = unet_of(golden_case, dtype)
    text = None if network.cond_dim is None else text_of(golden_case, "cond_unet", dtype)
    check_loop(golden_case, network, golden_case.shared("noise_unet", dtype), text)


@pytest.mark.golden("lucidrains_sample", "pmv_*")
def test_mean_and_variance_of_a_step_are_met(golden_case, dtype):
    case, diffusion = golden_case, process(golden_case.args["T"])
    x_t, t = case.shared("noise_ana", dtype)[0], torch.tensor(case.args["ts"])
    text, scale = text_of(case, "cond_ana", dtype), case.args["cond_scale"]
    seen = diffusion.denoise(analytic, x_t, t, text, scale=scale, keep_in_range=keep_of(case))
    # The estimate at t=19 is divided by an alpha of 5e-4 before it is clipped, hence a float32 tolerance of its own.
    case.check("mean", mean_of(seen, diffusion.schedule, t), atol=None if case.args["dyn"] else 1e-4)
    case.check("variance", seen.log_variance.exp().flatten())
    case.check("log_variance", seen.log_variance.flatten())


@pytest.mark.golden("lucidrains_sample", "interpolate_*")
def test_interpolation_is_met(golden_case, dtype):
    case, noise = golden_case, golden_case.shared("noise_ana", dtype)
    x1, x2 = case.shared("x1", dtype), case.shared("x2", dtype)
    noises = tuple(case.shared("q_noise", dtype))
    level = {"t": case.args["t"], "weight": case.args["lam"]}
    steps = mix(process(20), analytic, x1, x2, noises, **level, noise=lambda step: noise[step], sampler="ddpm")
    case.check("out", list(steps)[-1].x_t)


@pytest.mark.golden("lucidrains_sample", "p_losses_*")
def test_noising_and_loss_are_met(golden_case, dtype):
    case, diffusion = golden_case, process(1000, loss=golden_case.args["loss_type"])
    x0, noise, t = case.shared("x1", dtype), case.shared("q_noise", dtype)[0], torch.tensor(case.args["ts"])
    case.check("q_sample", diffusion.add_noise(x0, noise, t))
    losses = diffusion.losses(analytic, x0, t, noise, text_of(case, "cond_ana", dtype))
    case.check("loss", losses.total.mean().reshape(1))
