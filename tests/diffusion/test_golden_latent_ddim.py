"""Latent diffusion's DDIM sampler: its timesteps and levels, and where its walks end."""

from functools import cache

import pytest
import torch

from t2v.diffusion import GaussianDiffusion
from t2v.diffusion.edits import keeping
from t2v.diffusion.guidance import Guidance
from t2v.diffusion.noises import tempered
from t2v.diffusion.schedule import make_schedule, spread
from t2v.diffusion.spacing import space
from t2v.diffusion.steps import Denoised, toward
from t2v.diffusion.threshold import unbounded

DTYPES = [torch.float32, torch.float64]
# Our names for latent diffusion's.
SCHEDULES = {"linear": "scaled_linear", "cosine": "cosine_0.999"}
SPACINGS = {"uniform": "uniform", "quad": "quadratic"}


def network(x, t, text):
    """The stand-in for a network with which the figures were made."""
    output = 0.9 * x * spread(1 - (-0.005 * t.to(x)).exp(), x) + 0.15 * (2 * x).sin()
    return output if text is None else output + 0.15 * spread(text["pooled"][:, 0], x) * x.cos()


@cache
def make(name):
    return make_schedule(name, 1000)


def trained(case):
    return make(SCHEDULES[case.args.get("sched", "linear")])


def walked(case):
    num_steps = case.args.get("num_ddim") or case.args["S_steps"]
    return space(trained(case), SPACINGS[case.args.get("method", "uniform")], num_steps)


@cache
def fresh_noise(schedule, eta, dtype):
    """How much fresh noise each step adds, the cleanest step first."""
    nothing = torch.zeros(1, dtype=dtype)
    seen = Denoised(x0=nothing, x_t=nothing, log_variance=nothing)
    steps = range(schedule.num_timesteps)
    return torch.cat([toward(nothing, seen, schedule, t, eta=eta, noise=lambda _: nothing + 1) for t in steps])


def options_of(case, diffusion, dtype):
    """What `sample` is told of the case: text, guidance, fresh noise and known pixels."""
    args, fresh, q_noise = case.args, case.shared("step_noise", dtype), case.shared("q_noise", dtype)
    options = {
        "noise": tempered(lambda step: fresh[step], args.get("temperature", 1.0)),
        "guidance": Guidance(scale=args.get("scale", 1.0)),
    }
    if args.get("cond", True):
        options |= {
            "text": {"pooled": case.shared("cond", dtype)},
            "negative": {"pooled": case.shared("uncond", dtype)},
        }
    if args.get("mask"):
        known, mask = case.shared("x0", dtype), case.shared("mask", dtype)
        last = diffusion.num_timesteps - 1
        options["put_in"] = keeping(diffusion, known, mask, lambda t: q_noise[last - t])
    return options


@pytest.mark.golden("latent_ddim", "timesteps_*", "params_*", "sample_*", "quad_*", "subset_*")
def test_the_same_timesteps_are_visited(golden_case):
    assert walked(golden_case).told.tolist() == golden_case["ddim_timesteps"].tolist()


@pytest.mark.golden("latent_ddim", "params_*")
@pytest.mark.parametrize("dtype", DTYPES)
def test_levels_and_fresh_noise_of_every_step_are_met(golden_case, dtype):
    case, schedule = golden_case, walked(golden_case)
    case.check("alphas", schedule.alphas_cumprod.to(dtype))
    case.check("alphas_prev", schedule.alphas_cumprod_prev.to(dtype))
    case.check("sigmas", fresh_noise(schedule, case.args["eta"], dtype), atol_f64=1e-12)
    # Of these two there is no float64 twin.
    sigma = schedule.level(torch.arange(schedule.num_timesteps)).sigma
    case.check("sqrt_one_minus_alphas", sigma.to(dtype), atol=1e-6)
    case.check("sigmas_for_original_num_steps", fresh_noise(trained(case), case.args["eta"], dtype), atol=1e-6)


@pytest.mark.golden("latent_ddim", "sample_*", "quad_*", "subset_*")
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_walk_is_met(golden_case, dtype):
    case, diffusion = golden_case, GaussianDiffusion(schedule=walked(golden_case))
    x_T = case.shared("x_T", dtype)
    # Asked for 6 of 10 timesteps, the original takes the 5 cleanest.
    start = case.args["timesteps"] - 2 if "timesteps" in case.args else None
    options = options_of(case, diffusion, dtype) | {"keep_in_range": unbounded, "own_noise": True}
    steps = list(diffusion.sample(network, x_T, start=start, eta=case.args["eta"], **options))
    case.check("samples", steps[-1].x_t)
    for field, told in {"x_inter": [step.x_t for step in steps], "pred_x0": [step.x0 for step in steps]}.items():
        if field in case:
            values = torch.stack([x_T, *told])[case["kept"]]
            # Nothing is stated of the way there; estimates of clean clips are as large as 50 at its noisy end.
            case.check(field, values, atol=5e-6 * case.about["fields"][field]["max_abs"])
