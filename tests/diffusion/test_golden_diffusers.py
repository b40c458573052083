"""Diffusers' schedulers, whose figures our samplers meet on the timesteps and levels that Diffusers walks."""

import math
from functools import partial

import pytest
import torch

from t2v.diffusion import GaussianDiffusion
from t2v.diffusion.prediction import PREDICTIONS, Scales
from t2v.diffusion.schedule import Schedule, cosine, linear, rescale_to_zero_snr, spread
from t2v.diffusion.spacing import space, visiting
from t2v.diffusion.threshold import dynamic, static, unbounded
from t2v.diffusion.weighting import loss_weight

DTYPES = [torch.float32, torch.float64]
SAMPLERS = {
    "DDIMScheduler": "ddim",
    "DDPMScheduler": "ddpm",
    "EulerDiscreteScheduler": "euler",
    "EulerAncestralDiscreteScheduler": "euler",
    "HeunDiscreteScheduler": "heun_everywhere",
    "UniPCMultistepScheduler": "unipc",
}
WALKS = ("ddim_*", "ddpm_*", "dpm*", "unipc_*", "euler_*", "heun_*")


def eps_network(x, t, text):
    angle = spread(math.pi * t.to(x) / 2000, x)
    return x * angle.sin() + 0.1 * angle.cos() * (2 * x + _channel(x)).sin()


def v_network(x, t, text):
    return 0.3 * (1.5 * x + _channel(x) + spread(0.002 * t.to(x), x)).sin()


def _channel(x):
    return torch.arange(x.shape[1]).to(x).reshape(1, -1, 1, 1, 1)


def schedule_of(case):
    config = case.about["full_config"]
    betas = linear(1000) if case.args.get("betas") == "linear" else cosine(1000, max_beta=0.999)
    schedule = Schedule.from_betas(betas)
    return rescale_to_zero_snr(schedule) if config.get("rescale_betas_zero_snr") else schedule


def spacing_of(case):
    """Our name of the spacing that a Diffusers scheduler takes with this configuration."""
    config, cls = case.about["full_config"], case.args["cls"]
    if config.get("use_karras_sigmas"):
        return "karras" if cls == "HeunDiscreteScheduler" else "karras_rounded"
    if config["timestep_spacing"] == "linspace":
        return "linspace_rounded" if cls in ("DPMSolverMultistepScheduler", "UniPCMultistepScheduler") else "linspace"
    return config["timestep_spacing"]


def sampler_of(case):
    config = case.about["full_config"]
    if case.args["cls"] != "DPMSolverMultistepScheduler":
        return SAMPLERS[case.args["cls"]]
    return f"dpmpp_{config['solver_order']}m"


def eta_of(case):
    stochastic = case.about["full_config"].get("algorithm_type") == "sde-dpmsolver++"
    ancestral = case.args["cls"] == "EulerAncestralDiscreteScheduler"
    return 1.0 if stochastic or ancestral else case.args.get("step_kw", {}).get("eta", 0.0)


def keep_of(case):
    config = case.about["full_config"]
    if config.get("thresholding"):
        return partial(dynamic, percentile=config["dynamic_thresholding_ratio"], most=config["sample_max_value"])
    return static if config.get("clip_sample") else unbounded


def walked(case):
    """The process at the levels that the case walks."""
    schedule, config = schedule_of(case), case.about["full_config"]
    if config.get("steps_offset"):
        return visiting(schedule, case["timesteps"].long().flip(0), end=float(schedule.alphas_cumprod[0]))
    return space(schedule, spacing_of(case), case.args["steps"])


def x_T_of(case, dtype):
    """Diffusers starts Euler and Heun from noise as wide as the first sigma, without the unit that the clip adds."""
    noise = case.shared("noise", dtype)
    if not case.args["cls"].startswith(("Euler", "Heun")):
        return noise
    widest = case["sigmas_f64"][0]
    return noise * float(widest / (1 + widest**2).sqrt())


@pytest.mark.golden("diffusers_samplers", *WALKS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_sampler_ends_where_diffusers_ends(golden_case, dtype):
    case, prediction = golden_case, golden_case.args["pred"]
    noise = case.shared("step_noise", dtype)
    steps = list(
        GaussianDiffusion(schedule=walked(case), prediction=prediction).sample(
            {"eps": eps_network, "v": v_network}[prediction],
            x_T_of(case, dtype),
            noise=lambda step: noise[step],
            sampler=sampler_of(case),
            eta=eta_of(case),
            keep_in_range=keep_of(case),
            own_noise=case.args["cls"] == "DDIMScheduler",
        )
    )
    case.check("final", steps[-1].x_t, atol_f64=1e-8)


@pytest.mark.golden("diffusers_samplers", *WALKS)
def test_levels_and_timesteps_are_those_of_diffusers(golden_case):
    case = golden_case
    schedule = walked(case)
    calls = 2 if case.args["cls"] == "HeunDiscreteScheduler" else 1
    told = repeated(schedule.told.double().flip(0), calls)
    exact = "timesteps_f64" in case
    torch.testing.assert_close(
        told, case["timesteps_f64" if exact else "timesteps"], rtol=1e-9, atol=1e-9 if exact else 1e-4
    )
    if "sigmas_f64" in case:
        ratio = torch.cat((repeated(schedule.noise_ratio.flip(0), calls), torch.zeros(1)))
        torch.testing.assert_close(ratio, case["sigmas_f64"], rtol=1e-9, atol=0)


def repeated(values, times):
    """All but the first as often as the network is called there."""
    return torch.cat((values[:1], values[1:].repeat_interleave(times)))


@pytest.mark.golden("diffusers_samplers", "rescale_zero_snr_*")
def test_rescaling_to_zero_terminal_snr_is_met(golden_case):
    schedule = rescale_to_zero_snr(Schedule.from_betas(golden_case["betas_in"]))
    assert schedule.alphas_cumprod[-1] == 0
    golden_case.check("alphas_cumprod_out", schedule.alphas_cumprod, atol_f64=1e-12)
    golden_case.check("betas_out", schedule.betas, atol_f64=1e-12)


@pytest.mark.golden("diffusers_samplers", "min_snr_*")
@pytest.mark.parametrize("prediction", ["eps", "v", "x0"])
def test_min_snr_weights_are_met(golden_case, prediction):
    schedule = Schedule.from_betas(linear(1000))
    zero = golden_case.args["zero"]
    if zero:
        schedule = rescale_to_zero_snr(schedule)
    weight = loss_weight("min_snr", prediction, schedule.snr(golden_case["timesteps"]), golden_case.args["gamma"])
    if zero and prediction == "eps":  # 0 / 0 at the last: a prediction that cannot go with this schedule
        golden_case.check("weight_eps_nan_last", weight[:-1].float(), atol=1e-5)
    elif zero:
        golden_case.check(f"weight_{prediction}", weight.float(), atol=1e-4)
    else:
        golden_case.check(f"weight_{prediction}", weight)


@pytest.mark.golden("diffusers_samplers", "velocity_*")
def test_velocity_and_noising_are_met(golden_case):
    x0, noise = (golden_case.shared(name, torch.float32) for name in ("x_start", "noise"))
    t = torch.tensor(golden_case.args["ts"])
    diffusion = GaussianDiffusion(schedule=Schedule.from_betas(cosine(1000, max_beta=0.999)))
    v = PREDICTIONS["v"].target(x0, noise, Scales.of(diffusion.schedule, t, x0))
    golden_case.check("velocity", v, atol=1e-5)
    golden_case.check("add_noise", diffusion.add_noise(x0, noise, t), atol=1e-5)
