"""Attention over the pixels of a frame and over the frames of a pixel. Activations are `b f h w c`."""

from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from t2v.model.positions import FramePositions, rotate

SPATIAL_DIM_HEAD = 32


class PreNormResidual(nn.Module):
    """x + fn(norm(x)), with a layer norm over channels that learns a gain and no shift."""

    def __init__(self, dim: int, fn: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, bias=False)
        self.fn = fn

    def forward(self, x: Tensor, *args: Any) -> Tensor:
        """x: b f h w c; further arguments go to fn. Returns b f h w c."""
        change: Tensor = self.fn(self.norm(x), *args)
        return x + change


class TemporalAttention(nn.Module):
    """Every pixel attends to itself in the other frames of its clip."""

    def __init__(self, dim: int, *, heads: int, dim_head: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = dim_head**-0.5
        self.to_qkv = nn.Linear(dim, 3 * heads * dim_head, bias=False)
        self.to_out = nn.Linear(heads * dim_head, dim, bias=False)

    def forward(self, x: Tensor, positions: FramePositions) -> Tensor:
        """x: b f h w c. Returns b f h w c."""
        # The copy that brings frames together is made here, where a pixel has c features and not 3 * heads * dim_head.
        pixels = rearrange(x, "b f h w c -> b (h w) f c")
        q, k, v = rearrange(self.to_qkv(pixels), "b n f (s m d) -> s b n m f d", s=3, m=self.heads)
        q = rotate(q, positions.rotation * self.scale)
        k = rotate(k, positions.rotation)
        # Plain products: fused attention kernels are slow on thousands of sequences of ten frames.
        weights = softmax(q @ k.transpose(-1, -2) + positions.bias, dim=-1)
        x_out: Tensor = self.to_out(rearrange(weights.to(v.dtype) @ v, "b n m f d -> b n f (m d)"))
        return rearrange(x_out, "b (h w) f c -> b f h w c", h=x.shape[2])


class SpatialAttention(nn.Module):
    """Every pixel attends to all pixels of its frame."""

    def __init__(self, dim: int, *, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(dim, 3 * heads * SPATIAL_DIM_HEAD, bias=False)
        self.to_out = nn.Linear(heads * SPATIAL_DIM_HEAD, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x: b f h w c. Returns b f h w c."""
        q, k, v = rearrange(self.to_qkv(x), "b f h w (s m d) -> s (b f) m (h w) d", s=3, m=self.heads)
        out = F.scaled_dot_product_attention(q, k, v)
        return _to_frames(self.to_out(rearrange(out, "bf m n d -> bf n (m d)")), x)


class SpatialLinearAttention(nn.Module):
    """Attention over the pixels of a frame at a cost linear in their number.

    Shen et al. 2021 (Efficient Attention): softmax over features for queries, over pixels for keys.
    """

    def __init__(self, dim: int, *, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = SPATIAL_DIM_HEAD**-0.5
        self.to_qkv = nn.Linear(dim, 3 * heads * SPATIAL_DIM_HEAD, bias=False)
        self.to_out = nn.Linear(heads * SPATIAL_DIM_HEAD, dim)

    def forward(self, x: Tensor) -> Tensor:
        """x: b f h w c. Returns b f h w c."""
        q, k, v = rearrange(self.to_qkv(x), "b f h w (s m d) -> s (b f) m (h w) d", s=3, m=self.heads)
        context = softmax(k, dim=-2).transpose(-1, -2).to(v.dtype) @ v
        out = softmax(q, dim=-1).to(v.dtype) @ (context * self.scale)
        return _to_frames(self.to_out(rearrange(out, "bf m n d -> bf n (m d)")), x)


def softmax(logits: Tensor, *, dim: int) -> Tensor:
    """Softmax in float32 at least, as bfloat16 sums would lose the small weights."""
    return logits.softmax(dim, dtype=torch.promote_types(logits.dtype, torch.float32))


def _to_frames(pixels: Tensor, like: Tensor) -> Tensor:
    """(b f) (h w) c to b f h w c."""
    return pixels.view(like.shape)
