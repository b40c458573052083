"""RMS norm, scale, shift and SiLU: what follows every convolution of a block. Activations are `b f h w c`."""

import math
from collections.abc import Callable
from typing import Any

import torch
from einops import rearrange
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

PIECE = 2**18  # features that a CPU takes at a time on the way back, so that they stay in its cache


def norm_scale_shift_silu(x: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
    """silu(gain * rms_normalize(x) + shift). x: b f h w c; gain, shift: b c. Returns b f h w c."""
    gain, shift = gain.expand(len(x), -1).to(x.dtype), shift.expand(len(x), -1).to(x.dtype)
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return _formula(x, gain, shift)
    compute: Callable[..., Tensor] = _KeepingInputs.apply
    return compute(x, gain, shift)


def rms_normalize(x: Tensor) -> Tensor:
    """Bring the features of every pixel to a root mean square of 1. x: ... c. Zhang and Sennrich 2019."""
    return x * _inverse_rms(x).to(x.dtype)


def _formula(x: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
    gain, shift = (rearrange(each, "b c -> b 1 1 1 c") for each in (gain, shift))
    return F.silu(torch.addcmul(shift, rms_normalize(x), gain))


def _inverse_rms(x: Tensor) -> Tensor:
    """x: ... c. Returns ... 1."""
    # The length is summed in float32 at least. The floor only keeps an all-zero pixel from becoming NaN.
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32))
    return math.sqrt(x.shape[-1]) / length.clamp_min(1e-12)


class _KeepingInputs(torch.autograd.Function):
    """The formula with a gradient that needs nothing but what was given.

    By itself the formula would keep three more tensors of the clip's size. To compute them once more, in pieces that
    stay in the cache, takes a CPU less time than to read them.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
        ctx.save_for_backward(x, gain, shift)
        return _formula(x, gain, shift)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, gain, shift = ctx.saved_tensors
        d_x = torch.empty_like(x, memory_format=torch.contiguous_format)
        d_gain, d_shift = (torch.zeros_like(gain, dtype=_summed(x)) for _ in range(2))
        num_pixels = max(1, PIECE // x.shape[-1]) if x.device.type == "cpu" else x[0, ..., 0].numel()
        for clip in range(len(x)):
            pieces = (each[clip].flatten(0, -2).split(num_pixels) for each in (x, d_out, d_x))
            for pixels, d_pixels, into in zip(*pieces, strict=True):
                d_gain_here, d_shift_here = _fill_gradient(into, pixels, d_pixels, gain[clip], shift[clip])
                d_gain[clip] += d_gain_here
                d_shift[clip] += d_shift_here
        return d_x, d_gain.to(gain.dtype), d_shift.to(shift.dtype)


def _fill_gradient(d_x: Tensor, x: Tensor, d_out: Tensor, gain: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Write the gradient at p pixels into d_x, p c, and return those of gain and shift, c, in float32 at least.

    x, d_out: p c; gain, shift: c
    """
    x, d_out, gain, shift = (each.to(_summed(x)) for each in (x, d_out, gain, shift))
    inverse = _inverse_rms(x)
    normal = x * inverse
    d_scaled = torch.ops.aten.silu_backward(d_out, torch.addcmul(shift, normal, gain))
    d_each_gain = d_scaled * normal
    # The norm undoes what would only lengthen the features: that part of the change along `normal` counts for nothing.
    lengthening = torch.mv(d_each_gain, gain)[:, None] / x.shape[-1]
    d_x.copy_(torch.addcmul(d_scaled * gain, normal, lengthening, value=-1).mul_(inverse))
    return d_each_gain.sum(0), d_scaled.sum(0)


def _summed(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)
