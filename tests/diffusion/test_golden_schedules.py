"""The noise schedules of four originals and a tutorial: every table of theirs that follows from ours."""

import pytest
import torch

from t2v.diffusion.schedule import Schedule, cosine, linspace, make_schedule, scaled_linear
from t2v.diffusion.variance import VARIANCES
from t2v.errors import SettingsError

# Latent diffusion's names say other things than ours: its "linear" are squares of a line, its "sqrt_linear" a line.
SCHEDULES = {
    "improved_linear": lambda T, **_: make_schedule("linear", T),
    "improved_cosine": lambda T, **_: make_schedule("cosine_0.999", T),
    "lucidrains_cosine": lambda T, **_: make_schedule("cosine", T),
    "dome272_linear": lambda T, **_: make_schedule("linspace", T),
    "tutorial_linear": lambda T, start, end: Schedule.from_betas(linspace(T, start=start, end=end)),
    "compvis_linear": lambda T, linear_start, linear_end, **_: Schedule.from_betas(
        scaled_linear(T, start=linear_start, end=linear_end)
    ),
    "compvis_sqrt_linear": lambda T, linear_start, linear_end, **_: Schedule.from_betas(
        linspace(T, start=linear_start, end=linear_end)
    ),
    "compvis_cosine": lambda T, **_: Schedule.from_betas(cosine(T, max_beta=0.999)),
}
# All but improved diffusion's "linear" of 10 timesteps, which is none.
WHOLE = ("improved_linear_*00", "improved_cosine_*", "lucidrains_*", "dome272_*", "tutorial_*", "compvis_*")
# They differ at the last step back, which has no variance.
LOG_VARIANCES = {"improved": "fixed_small", "lucidrains": "fixed_tiny"}


def tables_of(schedule, original):
    """What the originals keep, by their names, from ours."""
    t = torch.arange(schedule.num_timesteps)
    level, posterior = schedule.level(t), schedule.posterior(t)
    log_variance = VARIANCES[LOG_VARIANCES.get(original, "fixed_small")].log_variance
    return {
        "beta": schedule.betas,
        "betas": schedule.betas,
        "alpha": 1 - schedule.betas,
        "sqrt_recip_alphas": (1 - schedule.betas).rsqrt(),
        "alpha_hat": schedule.alphas_cumprod,
        "alphas_cumprod": schedule.alphas_cumprod,
        "alphas_cumprod_prev": schedule.level(t - 1).alpha ** 2,
        "alphas_cumprod_next": schedule.level(t + 1).alpha ** 2,
        "sqrt_alphas_cumprod": level.alpha,
        "sqrt_one_minus_alphas_cumprod": level.sigma,
        "log_one_minus_alphas_cumprod": (1 - schedule.alphas_cumprod).log(),
        "sqrt_recip_alphas_cumprod": 1 / level.alpha,
        "sqrt_recipm1_alphas_cumprod": schedule.noise_ratio,
        "posterior_variance": posterior.variance,
        "posterior_log_variance_clipped": log_variance(schedule, t, level.alpha),
        "posterior_mean_coef1": posterior.x0_weight,
        "posterior_mean_coef2": posterior.x_t_weight,
    }


def check(field, ours, figure):
    """Hold a table against its figure, at the tolerance stated for the figure's precision."""
    if figure.dtype == torch.float64:
        # A beta is 1 less a ratio, which the originals form in different ways: it may differ by one rounding of the 1.
        rtol, atol = (1e-10, 0.0) if field.startswith(("log", "posterior")) else (1e-12, 1.2e-16)
    else:
        ours, rtol, atol = ours.float(), 2e-6, 1e-7
    torch.testing.assert_close(ours, figure, rtol=rtol, atol=atol, msg=lambda problem: f"{field}: {problem}")


@pytest.mark.golden("schedules", *WHOLE)
def test_every_table_is_met(golden_case):
    kind = golden_case.name.rsplit("_", 1)[0]
    tables = tables_of(SCHEDULES[kind](**golden_case.args), kind.split("_")[0])
    for field, figure in golden_case.under("").items():
        name = field.removesuffix("_f64")
        ours = tables[name]
        if kind == "tutorial_linear" and name == "sqrt_one_minus_alphas_cumprod":
            # Its float32 leaves 1 - 0.9999 three digits, so that only the squares can be held to the tolerance.
            ours, figure = ours**2, figure**2
        check(name, ours, figure)


@pytest.mark.golden("schedules", "improved_linear_10")
def test_too_few_timesteps_for_linear_are_refused_as_by_the_original(golden_case):
    """Its betas go past 1, and its process asserts that they do not."""
    betas = golden_case["betas"]
    check("betas", linspace(10, start=0.01, end=2.0), betas)
    with pytest.raises(SettingsError, match="betas must be above 0 and under 1"):
        Schedule.from_betas(betas)
    with pytest.raises(SettingsError, match="linear cannot have 10 timesteps: its last beta would be 2"):
        make_schedule("linear", golden_case.args["T"])
