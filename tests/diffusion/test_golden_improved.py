"""Improved diffusion, whose figures our process meets: noising, losses, the bound, walks, respacing and resampling."""

import pytest
import torch

from t2v.diffusion import GaussianDiffusion
from t2v.diffusion.distributions import normal_cdf, normal_kl, pixel_log_likelihood
from t2v.diffusion.likelihood import bits_per_dim, bound_terms, prior_bits
from t2v.diffusion.schedule import make_schedule, spread
from t2v.diffusion.spacing import space
from t2v.diffusion.steps import mean_of, upward
from t2v.diffusion.threshold import static, unbounded
from t2v.diffusion.timesteps import LossSecondMoment, timestep_at
from t2v.diffusion.variance import VARIANCES

DTYPES = [torch.float32, torch.float64]
LOSSES = {"MSE": "l2", "RESCALED_MSE": "l2", "KL": "kl", "RESCALED_KL": "rescaled_kl"}
PREDICTIONS = {"EPSILON": "eps", "START_X": "x0", "PREVIOUS_X": "previous"}
SAMPLERS = {"p": "ddpm", "ddim": "ddim"}

MEANS = {
    "EPSILON": lambda x, t, channel: 0.9 * x * (1 - (-0.005 * t).exp()) + 0.15 * (2 * x + channel).sin() + 0.05,
    "START_X": lambda x, t, channel: (1.3 * x + 0.3 * (0.01 * t + channel).cos()).tanh(),
    "PREVIOUS_X": lambda x, t, channel: 0.99 * x - 0.01 * (2 * x + channel).sin(),
}


def network_of(case):
    """The network of a case, which says values for the variance too where that is learned."""
    said, variance = MEANS[case.args["mean"]], case.args["var"]

    def network(x, t, text):
        t, channel = spread(t, x), torch.arange(x.shape[1]).to(x).reshape(1, -1, 1, 1, 1)
        values = (1.7 * x + 0.002 * t + 0.5 * channel).sin()
        learned = {"LEARNED": [values - 3], "LEARNED_RANGE": [values]}.get(variance, [])
        return torch.cat((said(x, t, channel), *learned), dim=1)

    return network


def respaced(schedule, counts):
    """SpacedDiffusion(space_timesteps(num_timesteps, counts)): a single count is our `even`."""
    counts = counts if isinstance(counts, str) else ",".join(map(str, counts))
    return space(schedule, "even", int(counts)) if counts.isdigit() else space(schedule, counts, 1)


def schedule_of(case):
    name, tell = case.args["diffusion"], "thousand" if case.args.get("rescale") else "index"
    if name.startswith("cos"):
        return make_schedule("cosine_0.999", int(name.removeprefix("cos")), tell=tell)
    linear = make_schedule("linear", 1000, tell=tell)
    return linear if name == "lin1000" else respaced(linear, name.removeprefix("sp"))


def process_of(case):
    schedule, loss = schedule_of(case), case.args.get("loss", "MSE")
    return GaussianDiffusion(
        schedule=schedule,
        prediction=PREDICTIONS[case.args["mean"]],
        variance=case.args["var"].lower(),
        loss=LOSSES[loss],
        bound_weight=1 / 1000 if loss == "RESCALED_MSE" else 1 / schedule.num_timesteps,
    )


def keep_of(case):
    return static if case.args.get("clip", True) else unbounded


def check(case, field, value):
    """Hold a field against the figures, in frame 0 where they end there, at the least tolerance if none is stated."""
    about = case.about["fields"][field]
    value = value[..., 0, :, :] if value.ndim == case[field].ndim + 1 else value
    case.check(field, value, atol=about.get("suggested_atol_f32", max(2e-6 * about["max_abs"], 1e-7)))


@pytest.mark.golden("improved_diffusion", "q_*")
@pytest.mark.parametrize("dtype", DTYPES)
def test_noising_and_its_posterior_are_met(golden_case, dtype):
    case, schedule = golden_case, schedule_of(golden_case)
    x0, x_t, noise = (case.shared(name, dtype) for name in ("x_start", "x_t", "noise"))
    diffusion = GaussianDiffusion(schedule=schedule)
    levels, posteriors = schedule.level(case["t"]), [schedule.posterior(t) for t in case["t"]]
    log_variance = [VARIANCES["fixed_small"].log_variance(schedule, t, x0).flatten() for t in case["t"]]
    check(case, "q_sample", torch.stack([diffusion.add_noise(x0, noise, t) for t in case["t"]]))
    check(case, "q_mean", torch.stack([diffusion.add_noise(x0, torch.zeros_like(x0), t) for t in case["t"]]))
    check(case, "q_variance", (levels.sigma**2).to(dtype))
    check(case, "q_log_variance", (2 * levels.sigma.log()).to(dtype))
    check(case, "post_mean", torch.stack([posterior.mean(x0, x_t) for posterior in posteriors]))
    check(case, "post_variance", torch.stack([posterior.variance for posterior in posteriors]).to(dtype))
    check(case, "post_log_variance", torch.stack(log_variance))


@pytest.mark.golden("improved_diffusion", "pmv_*")
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_a_network_says_of_the_step_is_met(golden_case, dtype):
    case, diffusion, network = golden_case, process_of(golden_case), network_of(golden_case)
    x_t, changed = case.shared("x_t", dtype), case.args.get("denoised_fn")
    for name, bound in {"clip": static, "noclip": unbounded}.items():
        keep = (lambda x0, bound=bound: bound(0.5 * x0 + 0.1)) if changed else bound
        seen = [diffusion.denoise(network, x_t, t, keep_in_range=keep) for t in case["t"]]
        means = [mean_of(at, diffusion.schedule, t) for at, t in zip(seen, case["t"], strict=True)]
        for field, values in {f"mean_{name}": means, f"pred_xstart_{name}": [at.x0 for at in seen]}.items():
            if field in case:
                check(case, field, torch.stack(values))
    log_variance = torch.stack([at.log_variance for at in seen])
    if not diffusion.learns_variance:
        log_variance = log_variance.flatten(1)
    variance = log_variance.exp()
    if case.args["var"] == "FIXED_SMALL":  # there the original gives 0 for the last step beside a logarithm that is not
        variance = diffusion.schedule.posterior(case["t"]).variance.to(dtype)
    check(case, "log_variance", log_variance)
    check(case, "variance", variance)


@pytest.mark.golden("improved_diffusion", "loss_*")
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_loss_and_what_it_teaches_are_met(golden_case, dtype):
    case, diffusion, network = golden_case, process_of(golden_case), network_of(golden_case)
    x0, noise = (case.shared(name, dtype) for name in ("x_start", "noise"))
    said = []

    def remembering(x_t, t, text):
        said.append(network(x_t, t, text).requires_grad_())
        return said[-1]

    losses = [diffusion.losses(remembering, x0, t, noise) for t in case["t"]]
    check(case, "loss", torch.stack([loss.total for loss in losses]))
    if "mse" in case:
        check(case, "mse", torch.stack([loss.distance for loss in losses]))
    if "vb" in case:
        share = diffusion.bound_weight * diffusion.num_timesteps
        check(case, "vb", torch.stack([share * loss.bound for loss in losses]))
    if "grad_model_output" in case:
        check(case, "grad_model_output", torch.autograd.grad(losses[1].total.mean(), said[1])[0])


@pytest.mark.golden("improved_diffusion", "vb_*")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("field", "keep"), [("output_clip", static), ("output_noclip", unbounded)])
def test_every_term_of_the_bound_is_met(golden_case, dtype, field, keep):
    case, diffusion, network = golden_case, process_of(golden_case), network_of(golden_case)
    x0, noise = (case.shared(name, dtype) for name in ("x_start", "noise"))
    terms = []
    for t in case["t"]:
        seen = diffusion.denoise(network, diffusion.add_noise(x0, noise, t), t, keep_in_range=keep)
        terms.append(diffusion.bound_term(seen, x0, t))
    check(case, field, torch.stack(terms))


@pytest.mark.golden("improved_diffusion", "prior_*")
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_the_noisiest_level_leaves_to_tell_is_met(golden_case, dtype):
    diffusion = GaussianDiffusion(schedule=schedule_of(golden_case))
    bits = prior_bits(diffusion, golden_case.shared("x_start", dtype))
    golden_case.check("prior_bpd", bits, atol_f64=1e-9 * float(bits.max()))


@pytest.mark.golden("improved_diffusion", "bpd_*")
@pytest.mark.parametrize("dtype", DTYPES)
def test_bits_per_dimension_are_met(golden_case, dtype):
    case, diffusion, network = golden_case, process_of(golden_case), network_of(golden_case)
    x0, noise = case.shared("x_start", dtype), case.shared("loop_noise", dtype)
    options = {"noise": lambda index: noise[index + 1], "keep_in_range": keep_of(case)}
    terms = list(bound_terms(diffusion, network, x0, range(diffusion.num_timesteps - 1, -1, -1), **options))
    check(case, "total_bpd", bits_per_dim(diffusion, network, x0, **options))
    check(case, "prior_bpd", prior_bits(diffusion, x0))
    check(case, "vb", torch.stack([term.bits for term in terms], dim=1))
    check(case, "xstart_mse", torch.stack([term.x0_error for term in terms], dim=1))
    check(case, "mse", torch.stack([term.noise_error for term in terms], dim=1))


def each_clip(case, dtype, step):
    """step(x_t, t, fresh noise) of every clip at every timestep of the case: rows of t, b, c f h w."""
    x_t, fresh = case.shared("x_t", dtype), case.shared("step_noise", dtype)
    rows = [zip(x_t.split(1), row, fresh.split(1), strict=True) for row in case["t"]]
    return torch.stack([torch.cat([step(*clip) for clip in row]) for row in rows])


@pytest.mark.golden("improved_diffusion", "p_sample_*", "ddim_[!r]*")
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_step_down_is_met(golden_case, dtype):
    case, diffusion, network = golden_case, process_of(golden_case), network_of(golden_case)
    options = {"sampler": "ddim", "eta": case.args["eta"]} if "eta" in case.args else {"sampler": "ddpm"}

    def step(x_t, t, fresh):
        walk = diffusion.sample(
            network, x_t, noise=lambda index: fresh, start=int(t), keep_in_range=keep_of(case), **options
        )
        return next(walk).x_t

    check(case, "sample", each_clip(case, dtype, step))


@pytest.mark.golden("improved_diffusion", "ddim_reverse_*")
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_step_up_is_met(golden_case, dtype):
    case, diffusion, network = golden_case, process_of(golden_case), network_of(golden_case)

    def step(x_t, t, fresh):
        return upward(diffusion.denoise(network, x_t, t.reshape(1)), diffusion.schedule, int(t))

    check(case, "sample", each_clip(case, dtype, step))


@pytest.mark.golden("improved_diffusion", "ploop_*", "ddimloop_*")
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_whole_walk_is_met(golden_case, dtype):
    case, noise = golden_case, golden_case.shared("loop_noise", dtype)
    steps = list(
        process_of(case).sample(
            network_of(case),
            noise[0],
            noise=lambda step: noise[step + 1],
            sampler=SAMPLERS[case.args["kind"]],
            eta=case.args.get("eta", 0.0),
            keep_in_range=keep_of(case),
        )
    )
    assert len(steps) == int(case["steps"][-1]) + 1
    check(case, "traj", torch.stack([steps[index].x_t for index in case["steps"]]))


@pytest.mark.golden("improved_diffusion", "dll_*")
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_likelihood_of_pixels_is_that_of_float64_from_clips_of_any_precision(golden_case, dtype):
    x, mean, log_scale = (golden_case[field].to(dtype) for field in ("x", "means", "log_scales"))
    log_probs = pixel_log_likelihood(x, mean, log_scale)
    golden_case.check("log_probs", log_probs)
    reliable = golden_case["f32_reliable"]
    assert reliable.sum() > 100
    worst = (golden_case["log_probs"].double() - golden_case["log_probs_f64"])[reliable].abs().max()
    torch.testing.assert_close(
        log_probs[reliable], golden_case["log_probs"][reliable].double(), rtol=0, atol=float(10 * worst)
    )
    check(golden_case, "cdf_out", normal_cdf(golden_case["cdf_in"].to(dtype)))


@pytest.mark.golden("improved_diffusion", "kl_*")
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_divergence_of_two_gaussians_is_met(golden_case, dtype):
    mean1, log_variance1, mean2 = (golden_case[field].to(dtype) for field in ("mean1", "logvar1", "mean2"))
    number = torch.tensor([0.0, -1.5, 0.25], dtype=dtype)
    kl = {
        "standard": lambda: normal_kl(mean1, log_variance1, number[0], number[0]),
        "mixed": lambda: normal_kl(mean1, number[1], mean2, number[2]),
        "tensor": lambda: normal_kl(mean1, log_variance1, mean2, golden_case["logvar2"].to(dtype)),
    }
    check(golden_case, "kl", kl[golden_case.args["kind"]]())


@pytest.mark.golden("improved_diffusion", "space_*")
def test_the_timesteps_of_a_shorter_walk_are_met(golden_case):
    whole = make_schedule("cosine_0.999", golden_case.args["num_timesteps"])
    assert respaced(whole, golden_case.args["section_counts"]).told.tolist() == golden_case["timesteps"].tolist()


@pytest.mark.golden("improved_diffusion", "spaced_*")
def test_the_levels_of_a_shorter_walk_are_met(golden_case):
    case, name = golden_case, {"linear": "linear", "cosine": "cosine_0.999"}[golden_case.args["base"]]
    schedule = respaced(make_schedule(name, case.args["T"]), case.args["section_counts"])
    t = torch.arange(schedule.num_timesteps)
    log_variance = VARIANCES["fixed_small"].log_variance(schedule, t, torch.zeros(len(t), dtype=torch.float64))
    assert torch.equal(schedule.told, case["timestep_map"])
    torch.testing.assert_close(schedule.betas, case["betas"], rtol=1e-12, atol=0)
    # Ours are levels of the whole walk; the original multiplies 1 - beta up again, which is rounded where beta nears 1.
    torch.testing.assert_close(schedule.alphas_cumprod, case["alphas_cumprod"], rtol=1e-12, atol=1e-18)
    torch.testing.assert_close(schedule.posterior(t).variance, case["posterior_variance"], rtol=1e-10, atol=0)
    torch.testing.assert_close(log_variance, case["posterior_log_variance_clipped"], rtol=1e-10, atol=0)


@pytest.mark.golden("improved_diffusion", "wrapped_*", "rescale_timesteps_*")
def test_the_network_is_told_the_same_timesteps(golden_case):
    case, told = golden_case, []
    tell = "thousand" if case.args.get("rescale", True) else "index"
    schedule = make_schedule("cosine_0.999", case.args.get("T", 1000), tell=tell)
    if "section_counts" in case.args:
        schedule = respaced(schedule, case.args["section_counts"])

    def listening(x_t, t, text):
        told.append(t)
        return x_t

    GaussianDiffusion(schedule=schedule).denoise(listening, torch.zeros(len(case["t"]), 1, 1, 1, 1), case["t"])
    torch.testing.assert_close(told[0], case["t_seen_by_model"], rtol=0, atol=0, check_dtype=False)


@pytest.mark.golden("improved_diffusion", "uniform_*")
def test_draws_are_even_before_any_loss_is_known(golden_case):
    num_timesteps = golden_case.args["T"]
    sampler = LossSecondMoment(num_timesteps)
    torch.testing.assert_close(sampler.probabilities(), golden_case["p"])
    torch.testing.assert_close(sampler.weights(torch.arange(num_timesteps)), golden_case["importance_weights"])
    places = [(place + 0.5) / 1000 for place in range(1000)]
    drawn = torch.tensor([timestep_at(place, None, num_timesteps) for place in places]).bincount() / 1000
    torch.testing.assert_close(drawn.double(), golden_case["p"], rtol=0, atol=1e-7)


@pytest.mark.golden("improved_diffusion", "lsm_*")
def test_draws_follow_the_losses_as_they_come(golden_case):
    case = golden_case
    sampler = LossSecondMoment(case.args["T"], history=case.args["history"], even_share=case.args["uniform_prob"])
    for t, losses, weights, warm in zip(
        case["ts"], case["losses"], case["weights_after_each"], case["warmed_up_after_each"], strict=True
    ):
        sampler.update(t.tolist(), losses.tolist())
        assert sampler.is_warm == warm
        torch.testing.assert_close(sampler.probabilities(), weights / weights.sum(), rtol=1e-12, atol=0)
    assert torch.equal(sampler.losses, case["final_loss_history"])
    assert torch.equal(sampler.counts, case["final_loss_counts"])
    torch.testing.assert_close(sampler.probabilities(), case["final_p"], rtol=1e-12, atol=0)
    weights = sampler.weights(torch.arange(case.args["T"]))
    torch.testing.assert_close(weights, case["final_importance_weights"], rtol=1e-12, atol=0)
