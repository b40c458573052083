"""Where the network is: the timestep of a clip, and the place of a frame among its frames."""

import math
from typing import NamedTuple

import torch
from einops import rearrange
from rotary_embedding_torch import RotaryEmbedding
from torch import Tensor, nn

MAX_ROTARY_DIM = 32  # features of an attention head that turn with time; the rest of a wider head stands still


class FramePositions(NamedTuple):
    """What temporal attention knows about the order of frames, computed once for a whole pass.

    rotation: f d/2, complex: the turn of each pair of features of a head at each frame
    bias: 1 or b, 1, heads, f, f: added to the logits; query frame before key frame
    """

    rotation: Tensor
    bias: Tensor

    def focus_present(self, mask: Tensor) -> "FramePositions":
        """Hide the other frames from every frame of the masked clips, as if each were a clip of one frame.

        mask: b, bool. Ho et al. 2022 (Video Diffusion Models), joint training on video and images.
        """
        others = ~torch.eye(self.bias.shape[-1], dtype=torch.bool, device=mask.device)
        hidden = mask[:, None, None, None, None] & others
        return self._replace(bias=torch.where(hidden, -math.inf, self.bias))

    def of_heads(self, heads: int) -> "FramePositions":
        """What an attention of so many heads, at most those of the bias, needs of it: the first."""
        return self._replace(bias=self.bias[:, :, :heads])


def sinusoidal(t: Tensor, *, dim: int, dtype: torch.dtype) -> Tensor:
    """Sines and cosines of the timestep at dim / 2 frequencies from 1 down to 1/10000.

    t: b, fractions allowed. Returns b dim, in `dtype`. Vaswani et al. 2017, section 3.5.
    """
    num_frequencies = dim // 2
    exponents = torch.arange(num_frequencies, device=t.device, dtype=dtype) / (num_frequencies - 1)
    angles = t.to(dtype)[:, None] * torch.exp(-math.log(10000) * exponents)
    return torch.cat((angles.sin(), angles.cos()), dim=-1)


def rotary_frequencies(dim_head: int) -> Tensor:
    """Radians per frame by which each pair of features of an attention head turns.

    Returns dim_head / 2, float32; zero for the pairs beyond MAX_ROTARY_DIM. Su et al. 2021, eq. 15.
    """
    # Also for a network on the meta device, whose arithmetic makes torch import its compiler: 2 s for a few numbers.
    with torch.device("cpu"):
        frequencies = RotaryEmbedding(min(MAX_ROTARY_DIM, dim_head)).freqs.detach()
    return nn.functional.pad(frequencies, (0, dim_head // 2 - len(frequencies)))


def frame_rotation(frequencies: Tensor, num_frames: int) -> Tensor:
    """Turn of each pair of features at each frame. frequencies: p. Returns f p, complex, at least complex64."""
    dtype = torch.promote_types(frequencies.dtype, torch.float32)
    frames = torch.arange(num_frames, device=frequencies.device, dtype=dtype)
    angles = frames[:, None] * frequencies.to(dtype)
    return torch.polar(torch.ones_like(angles), angles)


def rotate(features: Tensor, rotation: Tensor) -> Tensor:
    """Turn neighbouring pairs of features as the points of a plane. Su et al. 2021, eq. 34.

    features: ... d, last stride 1; rotation: ... d/2, complex; both broadcast. Returns ... d, real, at least float32.
    """
    # One complex product instead of the library's rotate-half: a tenth of the time on a CPU.
    pairs = rearrange(features.to(rotation.real.dtype), "... (p two) -> ... p two", two=2)
    return torch.view_as_real(torch.view_as_complex(pairs) * rotation).flatten(-2)


def distance_bucket(relative: Tensor, *, num_buckets: int = 32, max_distance: int = 32) -> Tensor:
    """Number of the bucket for a signed distance: exact when near, logarithmic when far, one half for each sign.

    relative: any shape, whole numbers, key's place minus query's. Returns whole numbers in [0, num_buckets).
    Raffel et al. 2020 (T5), section 2.1.
    """
    per_sign = num_buckets // 2
    num_exact = per_sign // 2
    distance = relative.abs()
    # Float32 even in a float64 network: bucket borders must not move with the precision.
    octaves = torch.log(distance.clamp_min(1).float() / num_exact) / math.log(max_distance / num_exact)
    far = (num_exact + (octaves * (per_sign - num_exact)).long()).clamp_max(per_sign - 1)
    return torch.where(distance < num_exact, distance, far) + per_sign * (relative > 0)


class RelativePositionBias(nn.Module):
    """A learned logit for each head and bucketed distance between two frames."""

    def __init__(self, heads: int, *, num_buckets: int = 32, max_distance: int = 32) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_buckets, heads))
        self.max_distance = max_distance

    def forward(self, num_frames: int) -> Tensor:
        """Returns heads f f, query frame before key frame."""
        frames = torch.arange(num_frames, device=self.weight.device)
        buckets = distance_bucket(
            frames[None, :] - frames[:, None], num_buckets=len(self.weight), max_distance=self.max_distance
        )
        return self.weight[buckets].permute(2, 0, 1)
