"""How much signal and how much noise a clip carries at each timestep.

All tables and coefficients are float64 on the CPU. `spread` brings a coefficient to a clip's dtype and device at the
moment of use, so that a run in float64 is exact and one in float32 rounds each coefficient once.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, Self

import torch
from torch import Tensor

from t2v.diffusion.choose import choose
from t2v.errors import SettingsError

CLEAN = -1  # the timestep after the last
MIN_VARIANCE = 1e-20  # keeps the logarithm of no variance at all finite


class Level(NamedTuple):
    """The scales of x_t = alpha x0 + sigma noise."""

    alpha: Tensor
    sigma: Tensor


class Posterior(NamedTuple):
    """The Gaussian q(x_s | x_t, x0) of one step from t to s = t - 1, as coefficients."""

    x0_weight: Tensor
    x_t_weight: Tensor
    variance: Tensor

    def mean(self, x0: Tensor, x_t: Tensor) -> Tensor:
        """The mean for clips x0 and x_t, b c f h w."""
        return spread(self.x0_weight, x0) * x0 + spread(self.x_t_weight, x_t) * x_t


@dataclass(frozen=True, eq=False)
class Schedule:
    """A noise process: one level for each timestep. Each table: num_timesteps, on the CPU.

    betas: share of the variance that step t replaces by noise, in [0, 1]; float64
    alphas_cumprod: share of the clip's variance that is left at t, falling, in [0, 1); float64
    told: what the network is told at t: whole numbers or fractions
    end: share of the clip's variance after the last step back: 1, or less where the walk ends at a noised level
    """

    betas: Tensor
    alphas_cumprod: Tensor
    told: Tensor
    end: float = 1.0

    @classmethod
    def from_betas(cls, betas: Tensor) -> Self:
        """Build the tables. betas: num_timesteps, in (0, 1]; 1 only as the last. Ho et al. 2020, eq. 4.

        Raises SettingsError for other betas.
        """
        betas = betas.double()
        alphas_cumprod = (1 - betas).cumprod(0)
        # Not written with <, so that nan is refused too.
        if not (betas > 0).all() or not (betas[:-1] < 1).all() or not betas[-1] <= 1:
            raise SettingsError(
                f"betas must be above 0 and under 1 (the last may be 1), not {betas.min():.3g} to {betas.max():.3g}"
            )
        return cls(betas, alphas_cumprod, torch.arange(len(betas)))

    @property
    def num_timesteps(self) -> int:
        return len(self.betas)

    @property
    def alphas_cumprod_prev(self) -> Tensor:
        """alphas_cumprod one step cleaner: num_timesteps, float64."""
        return torch.cat((torch.tensor([self.end], dtype=torch.float64), self.alphas_cumprod[:-1]))

    @property
    def noise_ratio(self) -> Tensor:
        """sigma / alpha at each timestep: num_timesteps, float64. The "sigmas" of Karras et al. 2022."""
        return ((1 - self.alphas_cumprod) / self.alphas_cumprod).sqrt()

    def level(self, t: int | Tensor) -> Level:
        """Signal and noise at t; at CLEAN those at the end, and at num_timesteps noise alone.

        t: whole numbers in [-1, num_timesteps] of any shape; the result has that shape
        """
        kept = self._kept(t)
        return Level(kept.sqrt(), (1 - kept).sqrt())

    def posterior(self, t: int | Tensor) -> Posterior:
        """One step back from t.

        t: whole numbers in [0, num_timesteps) of any shape; the result has that shape
        Ho et al. 2020, eq. 6 and 7. Finite where alpha is 0 at t.
        """
        t = torch.as_tensor(t).cpu()
        kept, kept_next, beta = self._kept(t), self._kept(t - 1), self.betas[t]
        x0_weight = kept_next.sqrt() * beta / (1 - kept)
        x_t_weight = (1 - beta).sqrt() * (1 - kept_next) / (1 - kept)
        return Posterior(x0_weight, x_t_weight, beta * (1 - kept_next) / (1 - kept))

    def tell(self, t: Tensor, like: Tensor) -> Tensor:
        """What the network is told of clips at t (b), on the device of `like`: whole numbers, or at least float32."""
        told = self.told[t.cpu()]
        if told.is_floating_point():
            told = told.to(torch.promote_types(like.dtype, torch.float32))
        return told.to(like.device)

    def at_levels(self, alphas_cumprod: Tensor, told: Tensor, *, end: float = 1.0) -> "Schedule":
        """The process that visits these levels instead. Its betas say what noise replaces between two of them.

        alphas_cumprod, told: n, falling; end: as in the class
        Nichol & Dhariwal 2021, eq. 19.
        """
        kept_next = torch.cat((torch.tensor([end], dtype=torch.float64), alphas_cumprod[:-1]))
        return replace(self, betas=1 - alphas_cumprod / kept_next, alphas_cumprod=alphas_cumprod, told=told, end=end)

    def snr(self, t: int | Tensor) -> Tensor:
        """Signal-to-noise ratio alpha**2 / sigma**2 at t, as `level` takes it."""
        kept = self._kept(t)
        return kept / (1 - kept)

    @cached_property
    def _table(self) -> Tensor:
        # Pure noise follows the last timestep; the end comes last, where index -1 finds it.
        return torch.cat((self.alphas_cumprod, torch.tensor([0.0, self.end], dtype=torch.float64)))

    def _kept(self, t: int | Tensor) -> Tensor:
        return self._table[torch.as_tensor(t).cpu()]


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


def linspace(num_timesteps: int, *, start: float = 1e-4, end: float = 0.02) -> Tensor:
    """Betas that rise in a line, the same line for any number: fewer timesteps leave more of the clip.

    Ho et al. 2020, section 4, unscaled.
    """
    return torch.linspace(start, end, num_timesteps, dtype=torch.float64)


def scaled_linear(num_timesteps: int, *, start: float = 0.0015, end: float = 0.0195) -> Tensor:
    """Betas whose square roots rise in a line. Rombach et al. 2022 (latent diffusion), whose code says "linear"."""
    return torch.linspace(start**0.5, end**0.5, num_timesteps, dtype=torch.float64) ** 2


def cosine(num_timesteps: int, *, offset: float = 0.008, max_beta: float = 0.9999) -> Tensor:
    """Betas whose signal falls as a squared cosine.

    max_beta: keeps some signal in the noisiest level. The default is that of lucidrains' video diffusion, our
    ancestor; Nichol & Dhariwal themselves use 0.999 (`cosine_0.999`).
    Nichol & Dhariwal 2021, eq. 17.
    """
    progress = torch.linspace(0, num_timesteps, num_timesteps + 1, dtype=torch.float64) / num_timesteps
    kept = torch.cos((progress + offset) / (1 + offset) * (math.pi / 2)) ** 2
    return _betas_between(kept, max_beta)


def sigmoid(num_timesteps: int, *, start: float = -3.0, end: float = 3.0, max_beta: float = 0.999) -> Tensor:
    """Betas whose signal falls as a sigmoid seen from `start` to `end`. Jabri et al. 2022, section 3."""
    progress = torch.linspace(0, num_timesteps, num_timesteps + 1, dtype=torch.float64) / num_timesteps
    return _betas_between(-(start + progress * (end - start)).sigmoid() + 1 / (1 + math.exp(-end)), max_beta)


def _betas_between(kept: Tensor, max_beta: float) -> Tensor:
    """Betas from the shares that are left at the ends of each step: n + 1 of them, of any scale."""
    return (1 - kept[1:] / kept[:-1]).clamp(max=max_beta)


SCHEDULES: dict[str, Callable[[int], Tensor]] = {
    "cosine": cosine,
    "cosine_0.999": lambda num_timesteps: cosine(num_timesteps, max_beta=0.999),
    "linear": linear,
    "linspace": linspace,
    "scaled_linear": scaled_linear,
    "sigmoid": sigmoid,
}

# What the network is told of timestep t of num_timesteps.
TELLINGS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "index": lambda t, num_timesteps: t,
    "thousand": lambda t, num_timesteps: t * (1000 / num_timesteps),
    "fraction": lambda t, num_timesteps: t / num_timesteps,
}


def make_schedule(
    name: str,
    num_timesteps: int,
    *,
    log_snr_shift: float = 0.0,
    zero_terminal_snr: bool = False,
    tell: str = "index",
) -> Schedule:
    """A named schedule, changed as asked. Raises SettingsError for an unknown name.

    log_snr_shift: added to log(alpha**2 / sigma**2) at every timestep; below 0 is noisier
    zero_terminal_snr: rescale so that nothing of the clip is left at the last timestep
    tell: "index" tells the network t, "thousand" t as if there were 1000 timesteps, "fraction" t / num_timesteps
    """
    schedule = Schedule.from_betas(choose(SCHEDULES, name, "schedule")(num_timesteps))
    told = choose(TELLINGS, tell, "way to tell the timestep")(schedule.told.double(), num_timesteps)
    schedule = replace(schedule, told=schedule.told if tell == "index" else told)
    if log_snr_shift:
        schedule = shift_log_snr(schedule, log_snr_shift)
    return rescale_to_zero_snr(schedule) if zero_terminal_snr else schedule


def shift_log_snr(schedule: Schedule, shift: float) -> Schedule:
    """Add `shift` to log(alpha**2 / sigma**2) at every timestep. Hoogeboom et al. 2023, eq. 7."""
    return schedule.at_levels((schedule.alphas_cumprod.logit() + shift).sigmoid(), schedule.told, end=schedule.end)


def rescale_to_zero_snr(schedule: Schedule) -> Schedule:
    """Move alpha down and stretch it, so that it is 0 at the last timestep and as before at the first.

    Lin et al. 2024, algorithm 1.
    """
    alpha = schedule.alphas_cumprod.sqrt()
    alpha = (alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])
    return schedule.at_levels(alpha**2, schedule.told, end=schedule.end)
