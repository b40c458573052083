"""What every sampler is made of: what it is told, the step it yields, and the move from one level to the next."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor

from t2v.diffusion.schedule import Level, Schedule, spread

Noise = Callable[[int], Tensor]


class Denoised(NamedTuple):
    """What the network's answer means, in the terms a sampler understands. All: b c f h w.

    x0: the clean clip as estimated at t
    x_t: the noised clips that the network saw; those passed in, save where an edit put known pixels in
    log_variance: of x one step cleaner; may be of one value a clip
    mean: of x one step cleaner, where the parameterization itself gives it
    eps: the noise in x_t, where it is not to be read from x_t and x0
    """

    x0: Tensor
    x_t: Tensor
    log_variance: Tensor
    mean: Tensor | None = None
    eps: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Step:
    """One step taken: the x_t it arrived at, and the clean clip it was heading for.

    index: counts from 0; t: the timestep of the walked schedule that the step came from
    """

    index: int
    num_steps: int
    t: int
    x_t: Tensor
    x0: Tensor


Denoise = Callable[[Tensor, int], Denoised]


class Sampler(Protocol):
    """See samplers.py."""

    def __call__(
        self, denoise: Denoise, x: Tensor, schedule: Schedule, noise: Noise, *, start: int, eta: float
    ) -> Iterator[Step]: ...


def toward(
    x0: Tensor,
    seen: Denoised,
    schedule: Schedule,
    t: int,
    *,
    eta: float = 0.0,
    noise: Noise | None = None,
    index: int = 0,
) -> Tensor:
    """One step down from t in the direction of x0: the noise in x_t is kept, but for the part that eta renews.

    Written with the noise as (x_t - alpha x0) / sigma, so that a threshold on x0 changes the noise too and the step is
    finite where alpha is 0; unless the noise itself is given. Song et al. 2021, eq. 12.
    """
    level, following = schedule.level(t), schedule.level(t - 1)
    fresh = eta**2 * schedule.posterior(t).variance
    # Where alpha is 0 and eta 1 all noise is fresh, and rounding may take what is kept just below 0.
    kept = (following.sigma**2 - fresh).clamp(min=0).sqrt()
    if seen.eps is None:
        ratio = kept / level.sigma
        x = spread(ratio, x0) * seen.x_t + spread(following.alpha - level.alpha * ratio, x0) * x0
    else:
        x = spread(following.alpha, x0) * x0 + spread(kept, x0) * seen.eps
    if noise is not None and fresh > 0:
        x = x + spread(fresh.sqrt(), x) * noise(index)
    return x


def noise_seen(seen: Denoised, level: Level) -> Tensor:
    """The noise in x_t as the estimate of the clean clip leaves it."""
    return (seen.x_t - spread(level.alpha, seen.x0) * seen.x0) / spread(level.sigma, seen.x0)


def upward(seen: Denoised, schedule: Schedule, t: int) -> Tensor:
    """One step up from t: the same clean clip with the same noise at the next level. The reverse of `toward`.

    From the clean end, x_t is taken for one at timestep 0. Song et al. 2021, eq. 14.
    """
    following = schedule.level(t + 1)
    eps = noise_seen(seen, schedule.level(max(t, 0))) if seen.eps is None else seen.eps
    return spread(following.alpha, seen.x0) * seen.x0 + spread(following.sigma, seen.x0) * eps


def mean_of(seen: Denoised, schedule: Schedule, t: int | Tensor) -> Tensor:
    """The mean of x one step cleaner, as the network sees it."""
    return schedule.posterior(t).mean(seen.x0, seen.x_t) if seen.mean is None else seen.mean
