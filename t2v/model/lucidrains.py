"""Reads the weights of lucidrains/video-diffusion-pytorch 0.7: their names, and the settings that their shapes tell."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from t2v.errors import CheckpointError
from t2v.model.positions import rotary_frequencies
from t2v.model.unet3d import Unet3D

DIFFUSION_PREFIX = "denoise_fn."
# GaussianDiffusion keeps its schedule as buffers; all of it follows from the number of timesteps.
SCHEDULE_BUFFERS = frozenset(
    {
        "alphas_cumprod",
        "alphas_cumprod_prev",
        "betas",
        "log_one_minus_alphas_cumprod",
        "posterior_log_variance_clipped",
        "posterior_mean_coef1",
        "posterior_mean_coef2",
        "posterior_variance",
        "sqrt_alphas_cumprod",
        "sqrt_one_minus_alphas_cumprod",
        "sqrt_recip_alphas_cumprod",
        "sqrt_recipm1_alphas_cumprod",
    }
)
ROTARY_KEY = re.compile(r"\.rotary_emb\.freqs$")
# Applied in this order to every name of theirs.
RENAMES = tuple(
    (re.compile(pattern), ours)
    for pattern, ours in (
        (r"^null_cond_emb$", "null_text"),
        (r"^time_rel_pos_bias\.relative_attention_bias\.", "relative_bias."),
        (r"^time_mlp\.1\.", "time_mlp.0."),
        (r"^time_mlp\.3\.", "time_mlp.2."),
        (r"^init_temporal_attn\.", "init_temporal."),
        (r"^mid_(spatial|temporal)_attn\.", r"mid_\1."),
        (r"^final_conv\.0\.", "final_block."),
        (r"^final_conv\.1\.", "final_conv."),
        (r"^(downs|ups)\.(\d+)\.0\.", r"\1.\2.block1."),
        (r"^(downs|ups)\.(\d+)\.1\.", r"\1.\2.block2."),
        (r"^(downs|ups)\.(\d+)\.2\.", r"\1.\2.spatial."),
        (r"^(downs|ups)\.(\d+)\.3\.", r"\1.\2.temporal."),
        (r"^downs\.(\d+)\.4\.", r"downsamples.\1."),
        (r"^ups\.(\d+)\.4\.", r"upsamples.\1."),
        (r"\.fn\.norm\.gamma$", ".norm.weight"),
        (r"\.fn\.fn(\.fn)?\.to_", ".fn.to_"),
        (r"\.mlp\.1\.", ".to_scale_shift."),
        (r"\.proj\.", ".conv."),
        (r"\.norm\.gamma$", ".gain"),
        (r"\.res_conv\.", ".skip."),
    )
)


class ForeignState(NamedTuple):
    """A state dict out of a foreign checkpoint, and the length of its schedule (None if it holds no schedule)."""

    state: Mapping[str, Tensor]
    num_timesteps: int | None


class ForeignUnet(NamedTuple):
    """The arguments that build a Unet3D, and the state dict that it loads."""

    settings: dict[str, Any]
    state: dict[str, Tensor]


def state_from_trainer(checkpoint: Mapping[str, Any], *, ema: bool = True) -> ForeignState:
    """Take the averaged (or the raw) weights out of what the original's Trainer saved.

    Raises CheckpointError for a mapping of another kind.
    """
    key = "ema" if ema else "model"
    state = checkpoint.get(key)
    if not isinstance(state, Mapping):
        held = ", ".join(sorted(str(name) for name in checkpoint)[:4]) or "nothing"
        raise CheckpointError(
            f"not a checkpoint of video-diffusion-pytorch's Trainer: {key!r} is missing; it has {held}"
        )
    return ForeignState(state=state, num_timesteps=len(state["betas"]) if "betas" in state else None)


def unet_weights(state: Mapping[str, Tensor]) -> ForeignUnet:
    """Translate the original's Unet3D, alone or inside its GaussianDiffusion.

    Raises CheckpointError naming the key that is missing, unknown or of a wrong shape.
    """
    state = _without_diffusion(state)
    settings = _settings(state)
    try:
        with torch.device("meta"):
            expected = Unet3D(**settings).state_dict()
    except ValueError as error:
        raise CheckpointError(f"these weights cannot be taken over: {error}") from None
    weights = {}
    for name, tensor in state.items():
        if ROTARY_KEY.search(name):
            _check_frequencies(name, tensor, dim_head=settings["attn_dim_head"])
            continue
        ours = our_name(name)
        if ours not in expected:
            raise CheckpointError(f"unknown weights {name!r}; t2v reads those of video-diffusion-pytorch 0.7")
        weights[ours] = _reshaped(name, tensor, expected[ours].shape)
    if settings["cond_dim"] is not None:
        # The original takes its text as it comes.
        weights["text_mean"] = torch.zeros(settings["cond_dim"])
        weights["text_std"] = torch.ones(settings["cond_dim"])
    missing = sorted(expected.keys() - weights.keys())
    if missing:
        raise CheckpointError(f"weights for {missing[0]!r} are missing ({len(missing)} in all)")
    return ForeignUnet(settings=settings, state=weights)


def our_name(name: str) -> str:
    """The name in Unet3D's state dict for a name in the original's."""
    for pattern, ours in RENAMES:
        name = pattern.sub(ours, name)
    return name


def _without_diffusion(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor):
            raise CheckpointError(f"{name!r} is not a tensor, so this is no state dict of video-diffusion-pytorch")
    if not any(name.startswith(DIFFUSION_PREFIX) for name in state):
        return dict(state)
    return {name.removeprefix(DIFFUSION_PREFIX): state[name] for name in state if name not in SCHEDULE_BUFFERS}


def _settings(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The arguments of Unet3D, read off the shapes."""
    init_dim, channels, _, kernel_size, _ = _shape(state, "init_conv.weight", ndim=5)
    _, dim = _shape(state, "time_mlp.1.weight", ndim=2)
    _, heads = _shape(state, "time_rel_pos_bias.relative_attention_bias.weight", ndim=2)
    qkv_dim, _ = _shape(state, "init_temporal_attn.fn.fn.fn.to_qkv.weight", ndim=2)
    num_levels = len({name.split(".")[1] for name in state if name.startswith("downs.")})
    widths = [_shape(state, f"downs.{i}.0.block1.proj.weight", ndim=5)[0] for i in range(num_levels)]
    return {
        "dim": dim,
        "cond_dim": _shape(state, "null_cond_emb", ndim=2)[1] if "null_cond_emb" in state else None,
        "out_dim": _shape(state, "final_conv.1.weight", ndim=5)[0],
        "dim_mults": tuple(width // dim for width in widths),
        "channels": channels,
        "attn_heads": heads,
        "attn_dim_head": qkv_dim // (3 * heads),
        "init_dim": init_dim,
        "init_kernel_size": kernel_size,
        "spatial_attn": "linear" if "downs.0.2.fn.fn.to_qkv.weight" in state else "none",
    }


def _shape(state: Mapping[str, Tensor], name: str, *, ndim: int) -> torch.Size:
    if name not in state:
        raise CheckpointError(f"weights {name!r} are missing; t2v reads those of video-diffusion-pytorch 0.7")
    if state[name].ndim != ndim:
        raise CheckpointError(f"weights {name!r} have shape {tuple(state[name].shape)}, not {ndim} dimensions")
    return state[name].shape


def _reshaped(name: str, tensor: Tensor, shape: torch.Size) -> Tensor:
    """Drop dimensions of 1: theirs are 3D convolutions over single frames, ours 2D convolutions and projections."""
    if [size for size in tensor.shape if size > 1] != [size for size in shape if size > 1]:
        raise CheckpointError(f"weights {name!r} have shape {tuple(tensor.shape)} where {tuple(shape)} was expected")
    return tensor.reshape(shape)


def _check_frequencies(name: str, frequencies: Tensor, *, dim_head: int) -> None:
    ours = rotary_frequencies(dim_head)[: len(frequencies)]
    if frequencies.shape != ours.shape or not torch.allclose(frequencies.float().cpu(), ours, rtol=1e-5):
        raise CheckpointError(f"{name!r} holds rotary frequencies that t2v does not compute")
