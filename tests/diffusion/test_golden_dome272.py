"""dome272's tutorial code, whose figures our process meets: noising, and ancestral walks with guidance.

Its walk differs from the usual one in three ways: noise as wide as beta (`fixed_large`), no threshold (`unbounded`),
and no visit of timestep 0. It stops one step early, and its last step adds no noise.
"""

from itertools import islice

import pytest
import torch

from t2v.diffusion import GaussianDiffusion
from t2v.diffusion.guidance import Guidance
from t2v.diffusion.schedule import Schedule, linspace, make_schedule, spread
from t2v.diffusion.threshold import unbounded
from t2v.sampling import to_uint8

DTYPES = [torch.float32, torch.float64]
ATOL = 2e-5  # stated for the whole file in float32


def network(x, t, text):
    answer = 0.9 * x * (0.03 * spread(t.to(x), x)).sin() + 0.15 * (2 * x).sin()
    if text is None:
        return answer
    named = spread((text["pooled"][:, 0] + 1) * ~text["is_null"], x)
    return answer + 0.1 * named * x.cos()


def text_of(case, dtype):
    """The labels as captions of one feature, where the case has them."""
    if not case.args.get("cond", True):
        return None
    labels = case.shared("labels")
    return {"pooled": labels[:, None].to(dtype), "is_null": torch.zeros_like(labels, dtype=torch.bool)}


def pictures(case, name, dtype):
    """Shared pictures as clips of one frame."""
    return case.shared(name, dtype).unsqueeze(-3)


@pytest.mark.golden("dome272", "cond_*", "uncond_*")
@pytest.mark.parametrize("dtype", DTYPES)
def test_guided_walks_end_where_dome272_ends(golden_case, dtype):
    case, noise = golden_case, pictures(golden_case, "noise", dtype)
    num_steps = len(case["t_order"])
    fresh = [*noise[1:num_steps], torch.zeros_like(noise[0])]
    diffusion = GaussianDiffusion(
        schedule=Schedule.from_betas(linspace(num_steps + 1, end=case.args.get("beta_end", 0.02))),
        variance="fixed_large",
    )
    walk = diffusion.sample(
        network,
        noise[0],
        noise=lambda step: fresh[step],
        text=text_of(case, dtype),
        sampler="ddpm",
        guidance=Guidance(scale=case.args["cfg_scale"] or 1),  # its 0 asks plainly, where ours is the null text alone
        keep_in_range=unbounded,
    )
    steps = list(islice(walk, num_steps))
    assert [step.t for step in steps] == case["t_order"].tolist()
    seen = {num_steps: noise[0], **{step.t - 1: step.x_t for step in steps}}
    kept = torch.stack([seen[t] for t in case["kept_t"].tolist()]).squeeze(-3)
    torch.testing.assert_close(kept, case["x_at_kept_t"].to(dtype), rtol=0, atol=ATOL)
    case.check("x_final_before_clamp", steps[-1].x_t.squeeze(-3))
    image = to_uint8(steps[-1].x_t).squeeze(-4).movedim(-1, 1)  # rounds, where the original cuts off
    assert (image.int() - case["image_uint8"].int()).abs().max() <= 1


@pytest.mark.golden("dome272", "noise_images_*")
@pytest.mark.parametrize("dtype", DTYPES)
def test_noised_pictures_are_met(golden_case, dtype):
    diffusion = GaussianDiffusion(schedule=make_schedule("linspace", 1000))
    x0, noise = pictures(golden_case, "x0", dtype), pictures(golden_case, "noise", dtype)[0]
    x_t = diffusion.add_noise(x0, noise, torch.tensor(golden_case.args["ts"])).squeeze(-3)
    torch.testing.assert_close(noise.squeeze(-3), golden_case["eps"].to(dtype), rtol=0, atol=0)
    torch.testing.assert_close(x_t, golden_case["x_t"].to(dtype), rtol=0, atol=ATOL)
