"""The classic network (lucidrains, MIT) is reproduced to rounding: outputs, guidance, focus and gradients."""

import pytest
import torch

from t2v.diffusion import GaussianDiffusion
from t2v.diffusion.guidance import guide
from t2v.diffusion.schedule import make_schedule
from t2v.model.lucidrains import our_name, state_from_trainer, unet_weights
from t2v.model.unet3d import Unet3D

DTYPES = [torch.float32, torch.float64]
# A call of the network each; those after the first come with text, null text, guidance, focus, or a trainer's weights.
CALLS = ("nocond_*", "bert_*", "forward_*", "cond_scale_*", "focus_*", "prob_focus_*", "trainer_pt_*")


def weights_of(case):
    if "weights" in case.args:
        checkpoint = torch.load(case.file.folder / "lucidrains_trainer_model-7.pt", weights_only=True)
        return state_from_trainer(checkpoint, ema=case.args["weights"] == "ema").state
    suffix = f"_{case.args['model']}" if "model" in case.args else ""
    return case.weights(f"lucidrains_unet{suffix}")


def network_of(case, dtype):
    settings, state = unet_weights(weights_of(case))
    network = Unet3D(**settings)
    network.load_state_dict(state)
    return network.to(dtype)


def text_of(case, network, dtype):
    if network.cond_dim is None:
        return None
    pooled = case.shared("cond_bert" if network.cond_dim == 768 else "cond", dtype)
    everywhere = case.args.get("null_cond_prob") == 1
    is_null = torch.tensor(case.args.get("null_mask", [everywhere] * len(pooled)))
    return {"pooled": pooled, "is_null": is_null}


def mask_of(case):
    if case.args.get("prob_focus_present") == 1:
        return torch.tensor([True, True])
    return torch.tensor(case.args["focus"]) if "focus" in case.args else None


@pytest.mark.golden("lucidrains_unet_io", *CALLS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_outputs_are_met(golden_case, dtype):
    case, network = golden_case, network_of(golden_case, dtype)
    mask = mask_of(case)

    def ask(x, t, text):
        # Guidance asks for all clips twice in one batch.
        focus = None if mask is None else mask.repeat(len(x) // len(mask))
        return network(x, t, text, focus_present_mask=focus)

    scale = case.args.get("cond_scale", 1.0)
    with torch.no_grad():
        out = guide(ask, case.shared("x", dtype), case.shared("time"), text_of(case, network, dtype), scale=scale)
    case.check("out", out)


@pytest.mark.golden("lucidrains_unet_io", "grad_*")
@pytest.mark.parametrize("dtype", DTYPES)
def test_loss_and_every_gradient_are_met(golden_case, dtype):
    case, network = golden_case, network_of(golden_case, dtype)
    x0, noise = case.shared("x_start", dtype), case.shared("noise", dtype)
    diffusion = GaussianDiffusion(schedule=make_schedule("cosine", 1000), loss=case.args["loss_type"])
    text = text_of(case, network, dtype)
    loss = diffusion.losses(network, x0, case.shared("time"), noise, text).total.mean()
    loss.backward()
    case.check("loss", loss.detach())

    parameters = dict(network.named_parameters())
    learned = case["has_grad"].tolist()
    names = [name for name, learns in zip(case.about["param_names"], learned, strict=True) if learns]
    assert sorted(map(our_name, names)) == sorted(parameters)

    def measured(measure):
        # The original's rotary frequencies never learn; their figures are zeros.
        values = torch.zeros(len(learned), dtype=dtype)
        values[case["has_grad"]] = torch.stack([measure(parameters[our_name(name)].grad) for name in names])
        return values

    case.check("grad_norm", measured(torch.linalg.vector_norm))
    case.check("grad_sum", measured(torch.sum))
    case.check("grad_absmax", measured(lambda grad: grad.abs().max()))
    case.check("grad_init_conv_weight", network.init_conv.weight.grad[:, :, None])
    case.check("grad_rel_pos_bias", network.relative_bias.weight.grad)
