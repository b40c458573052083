"""How widely the clip one step cleaner is spread around its mean: fixed by the schedule, or said by the network.

Each entry of VARIANCES gives the logarithm of the variance at timesteps t (b), ready to scale b c f h w.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from t2v.diffusion.schedule import MIN_VARIANCE, Schedule, spread


class LogVariance(Protocol):
    """values: what the network says of it, b c f h w; `fixed_` ones do not look at it. t: b, whole numbers."""

    def __call__(self, schedule: Schedule, t: Tensor, values: Tensor) -> Tensor: ...


class Variance(NamedTuple):
    """is_learned: whether the network gives a second half of channels for it."""

    log_variance: LogVariance
    is_learned: bool


def fixed_small(schedule: Schedule, t: Tensor, values: Tensor) -> Tensor:
    """That of the posterior: right where the data is one point. Where the last step has none, that of the step before.

    Ho et al. 2020, section 3.2; the last step is Nichol & Dhariwal's.
    """
    return spread(_posterior_log_variance(schedule)[t.cpu()], values)


def fixed_tiny(schedule: Schedule, t: Tensor, values: Tensor) -> Tensor:
    """That of the posterior, of which the last step has next to none: lucidrains' and Diffusers'."""
    return spread(schedule.posterior(t).variance.clamp(min=MIN_VARIANCE).log(), values)


def fixed_large(schedule: Schedule, t: Tensor, values: Tensor) -> Tensor:
    """That of the step towards noise, beta: right where the data is noise itself. The last step as in fixed_small.

    Ho et al. 2020, section 3.2.
    """
    log_variance = torch.cat((_posterior_log_variance(schedule)[:1], _log_beta(schedule)[1:]))
    return spread(log_variance[t.cpu()], values)


def learned(schedule: Schedule, t: Tensor, values: Tensor) -> Tensor:
    """The network says the logarithm itself. Nichol & Dhariwal 2021, section 3.1, first trial."""
    return values


def learned_range(schedule: Schedule, t: Tensor, values: Tensor) -> Tensor:
    """The network says where between fixed_small (-1) and beta (1) the logarithm lies.

    Nichol & Dhariwal 2021, eq. 15.
    """
    low = fixed_small(schedule, t, values)
    high = spread(_log_beta(schedule)[t.cpu()], values)
    return low + (values + 1) / 2 * (high - low)


def _posterior_log_variance(schedule: Schedule) -> Tensor:
    """num_timesteps, float64; finite at timestep 0, which has no variance where it ends at the clean clip."""
    variance = schedule.posterior(torch.arange(schedule.num_timesteps)).variance
    if variance[0] == 0 and len(variance) > 1:
        variance[0] = variance[1]
    return variance.clamp(min=MIN_VARIANCE).log()


def _log_beta(schedule: Schedule) -> Tensor:
    """num_timesteps, float64; finite where a walk visits a level twice, between which there is no step at all."""
    return schedule.betas.clamp(min=MIN_VARIANCE).log()


VARIANCES: dict[str, Variance] = {
    "fixed_small": Variance(fixed_small, is_learned=False),
    "fixed_tiny": Variance(fixed_tiny, is_learned=False),
    "fixed_large": Variance(fixed_large, is_learned=False),
    "learned": Variance(learned, is_learned=True),
    "learned_range": Variance(learned_range, is_learned=True),
}
