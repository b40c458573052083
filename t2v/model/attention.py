"""Attention over the pixels of a frame and over the frames of a pixel. Activations are `b f h w c`."""

from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from t2v.model.positions import FramePositions, rotate

SPATIAL_DIM_HEAD = 32
# A CPU works piece by piece, each of about so many queries' features: what the cache holds need not go through memory.
PIECE = 2**19
# Up to so many weights of queries for keys are kept for the gradients, with their softmax in float32: 200 MB.
MAX_KEPT = 2**25


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
        to_q, to_k, to_v = self.to_qkv.weight.chunk(3)
        if x.shape[1] == 1:
            return self._attend_alone(x, to_v, positions.bias)
        to_q, to_k = (self._turned(weight, positions.rotation) for weight in (to_q * self.scale, to_k))
        if _takes_all_at_once(x):
            out = self._attend(rearrange(x, "b f h w c -> f (b h w) c"), to_q, to_k, to_v, positions.bias)
            return rearrange(out, "f (b h w) c -> b f h w c", b=len(x), h=x.shape[2])
        size = max(1, PIECE // (x.shape[1] * len(to_v)))
        clips = [
            torch.cat([self._attend(pixels, to_q, to_k, to_v, bias) for pixels in clip.split(size, dim=1)], dim=1)
            for clip, bias in zip(x.flatten(2, 3), positions.bias[:, None].expand(len(x), *[-1] * 5), strict=True)
        ]
        return torch.stack(clips).view(x.shape)

    def _attend_alone(self, x: Tensor, to_v: Tensor, bias: Tensor) -> Tensor:
        """Attend where there is one frame. x: b 1 h w c; to_v: (m d) c; bias: 1 or b, 1, m, 1, 1. Returns b 1 h w c."""
        # Its weight is 1 whatever the logit, so queries and keys need not be known. The bias stands in for them, as
        # processes that train together wait for a gradient of every weight.
        weight = rearrange(softmax(bias, dim=-1), "b 1 m 1 1 -> b 1 1 1 m 1")
        values = F.linear(x, to_v).unflatten(-1, (self.heads, -1))
        attended: Tensor = self.to_out((weight.to(values.dtype) * values).flatten(-2))
        return attended

    def _turned(self, weight: Tensor, rotation: Tensor) -> Tensor:
        """A projection followed by the turn of each frame, as one projection a frame: (m d) c to f c (m d).

        The turn is linear, and where it takes time there are fewer weights than pixels to turn.
        """
        weight = rearrange(weight, "(m d) c -> c m d", m=self.heads).contiguous()
        return rotate(weight, rotation[:, None, None]).flatten(2)

    def _attend(self, x: Tensor, to_q: Tensor, to_k: Tensor, to_v: Tensor, bias: Tensor) -> Tensor:
        """Attend at n pixels, frames in front so that no product copies what it reads.

        x: f n c; to_q, to_k: f c (m d); to_v: (m d) c; bias: 1 or the clips that the pixels are of, 1, m, f, f
        Returns f n c.
        """
        q, k, v = (
            rearrange(each, "f n (m d) -> f (n m) d", m=self.heads)
            for each in (torch.bmm(x, to_q.to(x.dtype)), torch.bmm(x, to_k.to(x.dtype)), F.linear(x, to_v))
        )
        # Plain products: fused attention kernels are slow on thousands of sequences of ten frames.
        logits = torch.bmm(q.transpose(0, 1), k.permute(1, 2, 0))
        logits = rearrange(logits, "(b n m) f g -> b n m f g", b=len(bias), m=self.heads) + bias
        weights = softmax(logits, dim=-1).to(v.dtype).flatten(0, 2)
        out = rearrange(torch.bmm(weights, v.transpose(0, 1)), "(n m) f d -> f n (m d)", m=self.heads)
        attended: Tensor = self.to_out(out)
        return attended


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
        out = attend(q, k, v)
        attended: Tensor = self.to_out(rearrange(out, "bf m n d -> bf n (m d)"))
        return attended.view(x.shape)


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
        frames = rearrange(x, "b f h w c -> (b f) (h w) c")
        size = len(frames) if _takes_all_at_once(x) else max(1, PIECE // (frames.shape[1] * self.to_out.in_features))
        return torch.cat([self._attend(piece) for piece in frames.split(size)]).view(x.shape)

    def _attend(self, x: Tensor) -> Tensor:
        """x: n p c, the pixels of some frames. Returns n p c."""
        to_q, to_k, to_v = self.to_qkv.weight.chunk(3)
        q = softmax(F.linear(x, to_q).unflatten(-1, (self.heads, -1)), dim=-1).flatten(-2)
        # Keys and values stand pixels last, in which order the sums over pixels read them.
        k, v = (
            torch.bmm(weight.expand(len(x), -1, -1), x.transpose(1, 2)).unflatten(1, (self.heads, -1))
            for weight in (to_k, to_v)
        )
        context = self.scale * softmax(k, dim=-1).to(v.dtype) @ v.transpose(-1, -2)
        # Both products that follow are linear; joined first they are small, and the clip is read once.
        joined = context @ rearrange(self.to_out.weight, "c (m d) -> m d c", m=self.heads).to(context.dtype)
        return torch.baddbmm(self.to_out.bias.to(context.dtype), q.to(context.dtype), joined.flatten(1, 2))


def attend(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention. Vaswani et al. 2017.

    On a CPU the fused kernel's gradients take bf16 3 to 9 times as long as plain products do.

    q: ... n d; k and v: ... m d; mask: of ... n m or broadcast to it, true where there is something to see
    Returns ... n d.
    """
    num_weights = q.shape[:-1].numel() * k.shape[-2]
    if q.dtype != torch.bfloat16 or q.device.type != "cpu" or num_weights > MAX_KEPT:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    logits = q.shape[-1] ** -0.5 * (q @ k.mT)
    if mask is not None:
        logits = logits.masked_fill(~mask, -torch.inf)
    return softmax(logits, dim=-1).to(v.dtype) @ v


def softmax(logits: Tensor, *, dim: int) -> Tensor:
    """Softmax in float32 at least, as bfloat16 sums would lose the small weights."""
    return logits.softmax(dim, dtype=torch.promote_types(logits.dtype, torch.float32))


def _takes_all_at_once(x: Tensor) -> bool:
    """Whether pieces would gain nothing: a GPU is best given all at once, and a compiler cuts by itself."""
    return x.device.type != "cpu" or torch.compiler.is_compiling()
