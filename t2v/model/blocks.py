"""The convolutional parts of the network, frame by frame. Activations are `b f h w c`.

Channels stand last because that is what a CPU likes: convolutions take the frames as channels-last images without a
copy, projections are plain matrix products, and norms read their features from consecutive memory.
"""

from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from t2v.model.norms import norm_scale_shift_silu


class FrameConv(nn.Conv2d):
    """A 2D convolution of every frame by itself."""

    def forward(self, x: Tensor) -> Tensor:
        """x: b f h w c. Returns b f h' w' c'."""
        return _on_frames(super().forward, x)


class FrameUpsample(nn.ConvTranspose2d):
    """A learned doubling of height and width, every frame by itself."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, dim, kernel_size=4, stride=2, padding=1)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """x: b f h w c. Returns b f 2h 2w c."""
        return _on_frames(super().forward, x)


def frame_downsample(dim: int) -> FrameConv:
    """A learned halving of height and width."""
    return FrameConv(dim, dim, kernel_size=4, stride=2, padding=1)


class Block(nn.Module):
    """Convolution, RMS norm over channels, scale and shift, SiLU."""

    def __init__(self, dim: int, dim_out: int) -> None:
        super().__init__()
        self.conv = FrameConv(dim, dim_out, kernel_size=3, padding=1)
        self.gain = nn.Parameter(torch.ones(dim_out))

    def forward(self, x: Tensor, scale_shift: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """x: b f h w c; scale, shift: b c', one of each per clip. Returns b f h w c'."""
        # Gain and scale are joined while they are small, so that the clip is read once and not twice.
        scale, shift = scale_shift or (torch.zeros_like(self.gain),) * 2
        return norm_scale_shift_silu(self.conv(x), self.gain * (scale + 1), shift)


class ResnetBlock(nn.Module):
    """Two blocks with a way past them; the embedding of time and text scales and shifts the first. Ho et al. 2022."""

    def __init__(self, dim: int, dim_out: int, *, embedding_dim: int | None = None) -> None:
        super().__init__()
        self.to_scale_shift = None if embedding_dim is None else nn.Linear(embedding_dim, 2 * dim_out)
        self.block1 = Block(dim, dim_out)
        self.block2 = Block(dim_out, dim_out)
        self.skip = nn.Identity() if dim == dim_out else nn.Linear(dim, dim_out)

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        """x: b f h w c; embedding: b d, for blocks built with embedding_dim. Returns b f h w c'."""
        scale_shift = None
        if self.to_scale_shift is not None and embedding is not None:
            scale, shift = self.to_scale_shift(F.silu(embedding)).chunk(2, dim=-1)
            scale_shift = scale, shift
        past: Tensor = self.skip(x)
        x = self.block2(self.block1(x, scale_shift))
        return x + past


def fold_squares(clip: Tensor, side: int) -> Tensor:
    """Squares of pixels as channels, without loss. clip: b c f (h side) (w side). Returns b f h w (c side side)."""
    return rearrange(clip, "b c f (h p) (w q) -> b f h w (c p q)", p=side, q=side)


def unfold_squares(x: Tensor, side: int) -> Tensor:
    """The clip that `fold_squares` was given."""
    return rearrange(x, "b f h w (c p q) -> b c f (h p) (w q)", p=side, q=side)


def zero(projection: nn.Module) -> None:
    """Have it say nothing at first."""
    for parameter in projection.parameters():
        nn.init.zeros_(parameter)


def _on_frames(convolve: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Show b f h w c as a batch of channels-last images and back; neither way copies."""
    images = convolve(rearrange(x, "b f h w c -> (b f) c h w"))
    return rearrange(images, "(b f) c h w -> b f h w c", b=len(x))
