"""How much signal and how much noise a clip carries at each timestep.

All tables and coefficients are float64 on the CPU. `spread` brings a coefficient to a clip's dtype and device at the
moment of use, so that a run in float64 is exact and one in float32 rounds each coefficient once.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor

from t2v.errors import SettingsError

CLEAN = -1  # the timestep after the last: no noise is left
MIN_VARIANCE = 1e-20  # the last step adds no noise at all, and its logarithm must stay finite


class Level(NamedTuple):
    """The scales of x_t = alpha x0 + sigma noise."""

    alpha: Tensor
    sigma: Tensor


class Posterior(NamedTuple):
    """The Gaussian q(x_s | x_t, x0) of one step from t to a cleaner s, as coefficients."""

    x0_weight: Tensor
    x_t_weight: Tensor
    variance: Tensor
    log_variance: Tensor

    def mean(self, x0: Tensor, x_t: Tensor) -> Tensor:
        """The mean for clips x0 and x_t, b c f h w."""
        return spread(self.x0_weight, x0) * x0 + spread(self.x_t_weight, x_t) * x_t


@dataclass(frozen=True, eq=False)
class Schedule:
    """The noise process: betas, and what follows from them. Each table: num_timesteps, float64.

    betas: share of the variance that step t replaces by noise, in (0, 1]
    alphas_cumprod: share of the clip's variance that is left at t
    alpha, sigma: their roots, so that x_t = alpha x0 + sigma noise
    """

    betas: Tensor
    alphas_cumprod: Tensor
    alpha: Tensor
    sigma: Tensor

    @classmethod
    def from_betas(cls, betas: Tensor) -> Self:
        """Build the tables. betas: num_timesteps, in (0, 1]. Ho et al. 2020, eq. 4."""
        betas = betas.double()
        alphas_cumprod = (1 - betas).cumprod(0)
        return cls(betas, alphas_cumprod, alphas_cumprod.sqrt(), (1 - alphas_cumprod).sqrt())

    def level(self, t: int | Tensor) -> Level:
        """Signal and noise at t; at CLEAN they are 1 and 0.

        t: whole numbers in [-1, num_timesteps) of any shape; the result has that shape
        """
        kept = self._kept(t)
        return Level(kept.sqrt(), (1 - kept).sqrt())

    def posterior(self, t: int | Tensor, t_next: int | Tensor) -> Posterior:
        """One step back from t to t_next, which need not be t - 1.

        t, t_next: whole numbers with -1 <= t_next < t < num_timesteps, of one shape; the result has that shape
        Ho et al. 2020, eq. 6 and 7, for the process that visits only these two levels (Nichol & Dhariwal 2021,
        eq. 19): beta is the share of the variance that noise replaces between them. Finite where alpha is 0 at t.
        """
        kept, kept_next = self._kept(t), self._kept(t_next)
        beta = 1 - kept / kept_next
        x0_weight = kept_next.sqrt() * beta / (1 - kept)
        x_t_weight = (kept / kept_next).sqrt() * (1 - kept_next) / (1 - kept)
        variance = beta * (1 - kept_next) / (1 - kept)
        return Posterior(x0_weight, x_t_weight, variance, variance.clamp(min=MIN_VARIANCE).log())

    def _kept(self, t: int | Tensor) -> Tensor:
        t = torch.as_tensor(t).cpu()
        return torch.where(t == CLEAN, 1.0, self.alphas_cumprod[t.clamp(min=0)])


def spread(coefficient: Tensor, like: Tensor) -> Tensor:
    """A coefficient per clip (b) or one for all (no axes), shaped to scale `like` (b ...) in its dtype and place."""
    return coefficient.to(like).reshape(-1, *[1] * (like.ndim - 1))


def linear(num_timesteps: int) -> Tensor:
    """Betas that rise in a line from 1e-4 to 0.02 at 1000 timesteps, scaled so that any number adds as much noise.

    Ho et al. 2020, section 4; the scaling is Nichol & Dhariwal's. Raises SettingsError where a beta would reach 1.
    """
    scale = 1000 / num_timesteps
    if scale * 0.02 >= 1:
        raise SettingsError(
            f"schedule linear cannot have {num_timesteps} timesteps: its last beta would be {scale * 0.02:.3g}, and"
            " it must stay under 1; take 21 or more, or schedule cosine"
        )
    return torch.linspace(scale * 1e-4, scale * 0.02, num_timesteps, dtype=torch.float64)


def cosine(num_timesteps: int, *, offset: float = 0.008, max_beta: float = 0.9999) -> Tensor:
    """Betas whose signal falls as a squared cosine.

    max_beta: keeps some signal in the noisiest level. The default is that of lucidrains' video diffusion, our
    ancestor; Nichol & Dhariwal themselves use 0.999.
    Nichol & Dhariwal 2021, eq. 17.
    """
    progress = torch.linspace(0, num_timesteps, num_timesteps + 1, dtype=torch.float64) / num_timesteps
    kept = torch.cos((progress + offset) / (1 + offset) * (math.pi / 2)) ** 2
    kept = kept / kept[0]
    return (1 - kept[1:] / kept[:-1]).clamp(max=max_beta)


SCHEDULES: dict[str, Callable[[int], Tensor]] = {"cosine": cosine, "linear": linear}
