"""How the estimated clean clip is kept in [-1, 1] at each step."""

import math
from typing import Protocol

import torch
from torch import Tensor

from t2v.diffusion.schedule import spread


class Threshold(Protocol):
    """x0: b c f h w, any range; percentile: in (0, 1], heard by `dynamic` only. Returns a clip like x0."""

    def __call__(self, x0: Tensor, *, percentile: float = 0.9) -> Tensor: ...


def unbounded(x0: Tensor, *, percentile: float = 0.9) -> Tensor:
    """Leave the estimate as it is."""
    return x0


def static(x0: Tensor, *, percentile: float = 0.9) -> Tensor:
    """Clip to [-1, 1]."""
    return x0.clamp(-1, 1)


def dynamic(x0: Tensor, *, percentile: float = 0.9, most: float = math.inf) -> Tensor:
    """Clip each clip to its own range [-s, s] and scale that to [-1, 1]; s is at least 1.

    s is the `percentile` quantile of the clip's absolute values, so strong guidance saturates fewer pixels.
    most: bound on s, which Diffusers has and the paper has not
    Saharia et al. 2022 (Imagen), section 2.3.
    """
    limit = spread(_quantile(x0.abs().flatten(1), percentile).clamp(min=1, max=most), x0)
    return x0.clamp(-limit, limit) / limit


def _quantile(values: Tensor, share: float) -> Tensor:
    """The `share` quantile of each row of values (b n), linear between neighbours: b, at least float32.

    torch.quantile would refuse more than 2**24 values, a long clip, and it sorts them all: five times slower.
    """
    values = values.to(torch.promote_types(values.dtype, torch.float32))
    rank = share * (values.shape[1] - 1)
    below = values.kthvalue(math.floor(rank) + 1, dim=1).values
    above = values.kthvalue(math.ceil(rank) + 1, dim=1).values
    return below.lerp(above, rank - math.floor(rank))


THRESHOLDS: dict[str, Threshold] = {"static": static, "dynamic": dynamic, "none": unbounded}
