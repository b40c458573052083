"""RMS norm, scale, shift and SiLU: what follows every convolution of a block. Activations are `b f h w c`."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from einops import rearrange
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

# Features taken at a time on the way back: few enough to stay in a CPU's cache, or to be little beside a GPU's memory.
PIECE = 2**17
GPU_PIECE = 2**24


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
        x, d_out, into = (each.flatten(1, -2) for each in (x, d_out, d_x))
        for clips, pixels in _pieces(x):
            here, d_here, into_here = (each[clips, pixels] for each in (x, d_out, into))
            d_gain_here, d_shift_here = _fill_gradient(into_here, here, d_here, gain[clips], shift[clips])
            d_gain[clips] += d_gain_here
            d_shift[clips] += d_shift_here
        return d_x, d_gain.to(gain.dtype), d_shift.to(shift.dtype)


def _pieces(x: Tensor) -> Iterator[tuple[slice, slice]]:
    """Clips and pixels to take together: a part of a large clip, or several small ones. x: b p c."""
    num_clips, num_pixels, dim = x.shape
    pixels_at_once = max(1, (PIECE if x.device.type == "cpu" else GPU_PIECE) // dim)
    clips_at_once = max(1, pixels_at_once // num_pixels)
    for clip in range(0, num_clips, clips_at_once):
        for pixel in range(0, num_pixels, pixels_at_once):
            yield slice(clip, clip + clips_at_once), slice(pixel, pixel + pixels_at_once)


def _fill_gradient(d_x: Tensor, x: Tensor, d_out: Tensor, gain: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Write the gradient at p pixels of b clips into d_x, b p c, and return those of gain and shift, b c, in float32
    at least.

    x, d_out: b p c; gain, shift: b c
    """
    x, d_out, gain, shift = (each.to(_summed(x)) for each in (x, d_out, gain, shift))
    inverse = _inverse_rms(x)
    normal = x * inverse
    d_scaled = torch.ops.aten.silu_backward(d_out, torch.addcmul(shift[:, None], normal, gain[:, None]))
    d_each_gain = d_scaled * normal
    # The norm undoes what would only lengthen the features: that part of the change along `normal` counts for nothing.
    lengthening = (d_each_gain @ gain[..., None]) / x.shape[-1]
    d_x.copy_(torch.addcmul(d_scaled * gain[:, None], normal, lengthening, value=-1).mul_(inverse))
    return d_each_gain.sum(1), d_scaled.sum(1)


def _summed(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)
