"""Other originals agree where they compute the same: OpenAI's improved diffusion and Diffusers."""

import math
from itertools import islice

import pytest
import torch

from t2v.diffusion.gaussian import GaussianDiffusion
from t2v.diffusion.prediction import PREDICTIONS
from t2v.diffusion.schedule import SCHEDULES, Schedule, cosine, spread

DTYPES = [torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES)
def test_noising_and_posterior_of_improved_diffusion_are_met(golden, monkeypatch, dtype):
    case = golden("sample_improved", "q_cos50")
    monkeypatch.setitem(SCHEDULES, "capped", lambda num_timesteps: cosine(num_timesteps, max_beta=0.999))
    diffusion = GaussianDiffusion(num_timesteps=50, schedule="capped")
    x0, x_t, noise = (case.shared(name, dtype) for name in ("x_start", "x_t", "noise"))
    rows = case["t"]
    case.check("q_sample", torch.stack([diffusion.add_noise(x0, noise, t) for t in rows]))
    posteriors = [diffusion.schedule.posterior(t, t - 1) for t in rows]
    case.check("post_mean", torch.stack([posterior.mean(x0, x_t) for posterior in posteriors]))
    torch.testing.assert_close(torch.stack([p.variance for p in posteriors]), case["post_variance_f64"])


def eps_network(x, t, text):
    angle = spread(math.pi * t.to(x) / 2000, x)
    return x * angle.sin() + 0.1 * angle.cos() * (2 * x + _channel(x)).sin()


def v_network(x, t, text):
    return 0.3 * (1.5 * x + _channel(x) + 0.002 * spread(t.to(x), x)).sin()


def _channel(x):
    return torch.arange(x.shape[1]).to(x).reshape(1, -1, 1, 1, 1)


DIFFUSERS = {
    "ddim_eps_10": {},
    "ddim_v_10": {},
    "ddim_eta1_eps_10": {"eta": 1.0},
    "ddim_trailing_v_10": {},
    "ddim_zerosnr_trailing_v_20_eta1": {"eta": 1.0},
    "ddpm_linear_eps_20": {"sampler": "ddpm", "threshold": "static"},
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", DIFFUSERS)
def test_diffusers_samplers_are_met(golden, monkeypatch, name, dtype):
    case = golden("sample_diffusers", name)
    steps = diffusers_steps(case, golden, monkeypatch, dtype, case["timesteps"].long().tolist(), **DIFFUSERS[name])
    case.check("final", list(steps)[-1].x_t, atol_f64=1e-8)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_walk_can_stop_at_a_noised_level(golden, monkeypatch, dtype):
    """Diffusers' set_alpha_to_one=False ends at timestep 0: ten steps of a walk that could go on to the clean clip."""
    case = golden("sample_diffusers", "ddim_alpha_not_one_offset1_eps_10")
    steps = diffusers_steps(case, golden, monkeypatch, dtype, [*case["timesteps"].long().tolist(), 0])
    case.check("final", list(islice(steps, 10))[-1].x_t, atol_f64=1e-8)


def diffusers_steps(case, golden, monkeypatch, dtype, times, **options):
    betas = cosine(1000, max_beta=0.999)
    if case.args.get("cfg", {}).get("rescale_betas_zero_snr"):
        betas = golden("sample_diffusers", "rescale_zero_snr_linear")["betas_out_f64"]
    elif case.args.get("betas") == "linear":
        betas = SCHEDULES["linear"](1000)
    monkeypatch.setitem(SCHEDULES, "given", lambda num_timesteps: betas)
    noise = case.shared("step_noise", dtype)
    prediction = case.args["pred"]
    return GaussianDiffusion(schedule="given", prediction=prediction).sample(
        {"eps": eps_network, "v": v_network}[prediction],
        case.shared("noise", dtype),
        noise=lambda step: noise[step],
        times=times,
        **{"threshold": "none", **options},
    )


@pytest.mark.parametrize("name", ["velocity_cosine_0_999", "velocity_cosine_250_750"])
def test_velocity_is_that_of_diffusers(golden, name):
    case = golden("sample_diffusers", name)
    x0 = case.shared("x_start", torch.float32)
    noise = case.shared("noise", torch.float32)
    level = Schedule.from_betas(cosine(1000, max_beta=0.999)).level(torch.tensor(case.args["ts"]))
    v = PREDICTIONS["v"].target(x0, noise, spread(level.alpha, x0), spread(level.sigma, x0))
    torch.testing.assert_close(v, case["velocity"], rtol=0, atol=1e-5)
