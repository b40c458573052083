"""Walk from noise to a clip, one denoised estimate at a time.

A sampler is a generator `sampler(denoise, x, times, schedule, noise, *, eta)` that yields every step:

denoise: (x_t, t, t_next) -> Denoised; prediction type, guidance and threshold are folded into it
x: the noised clips at times[0], b c f h w
times: timesteps to visit, falling; after the last the clip is clean
noise: step -> standard normal values like x; asked only where a step adds noise
eta: share of the ancestral noise that ddim adds, in [0, 1]
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor

from t2v.diffusion.schedule import CLEAN, Schedule, spread
from t2v.errors import SettingsError

Noise = Callable[[int], Tensor]


class Denoised(NamedTuple):
    """What the network's answer means, in the terms a sampler understands.

    x0: the clean clip as estimated at t, b c f h w
    mean, log_variance: of x at t_next, where the parameterization itself gives them
    """

    x0: Tensor
    mean: Tensor | None = None
    log_variance: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Step:
    """One step taken: the x_t it arrived at, and the clean clip it was heading for.

    index: counts from 0; t: where the step came from
    """

    index: int
    num_steps: int
    t: int
    x_t: Tensor
    x0: Tensor


Denoise = Callable[[Tensor, int, int], Denoised]


class Sampler(Protocol):
    """See the top of this file."""

    def __call__(
        self, denoise: Denoise, x: Tensor, times: Sequence[int], schedule: Schedule, noise: Noise, *, eta: float
    ) -> Iterator[Step]: ...


def spaced_times(num_timesteps: int, num_steps: int) -> list[int]:
    """num_steps timesteps, evenly spaced and falling, from the noisiest on.

    The walk starts from pure noise, so its first step must stand where training saw (nearly) pure noise: spacings
    that start lower tell the network of signal that is not there. Lin et al. 2024, section 3.3 ("trailing").
    Raises SettingsError unless 1 <= num_steps <= num_timesteps.
    """
    if not 1 <= num_steps <= num_timesteps:
        raise SettingsError(f"num_steps must be 1 to {num_timesteps}, the timesteps of training, not {num_steps}")
    return [num_timesteps * count // num_steps - 1 for count in range(num_steps, 0, -1)]


def ddpm(
    denoise: Denoise, x: Tensor, times: Sequence[int], schedule: Schedule, noise: Noise, *, eta: float
) -> Iterator[Step]:
    """Ancestral sampling: draw from the posterior of each step; eta is not heard.

    On a part of the timesteps the posterior is that of the process which visits only those.
    Ho et al. 2020, algorithm 2; Nichol & Dhariwal 2021, section 4.
    """
    for index, t, t_next in _pairs(times):
        denoised = denoise(x, t, t_next)
        posterior = schedule.posterior(t, t_next)
        x = posterior.mean(denoised.x0, x) if denoised.mean is None else denoised.mean
        if t_next != CLEAN:
            given = denoised.log_variance
            log_variance = spread(posterior.log_variance, x) if given is None else given
            x = x + (0.5 * log_variance).exp() * noise(index)
        yield Step(index, len(times), t, x, denoised.x0)


def ddim(
    denoise: Denoise, x: Tensor, times: Sequence[int], schedule: Schedule, noise: Noise, *, eta: float
) -> Iterator[Step]:
    """Keep the noise that x holds and scale it down; eta renews a part of it, and 1 makes this ddpm.

    Song et al. 2021, eq. 12 and 16, with the noise written as (x_t - alpha x0) / sigma. So a threshold on x0 changes
    the noise too, and the step is finite where alpha is 0.
    """
    for index, t, t_next in _pairs(times):
        x0 = denoise(x, t, t_next).x0
        level, following = schedule.level(t), schedule.level(t_next)
        fresh = eta**2 * schedule.posterior(t, t_next).variance
        # Where alpha is 0 and eta 1 all noise is fresh, and rounding may take what is kept just below 0.
        ratio = (following.sigma**2 - fresh).clamp(min=0).sqrt() / level.sigma
        x = spread(ratio, x) * x + spread(following.alpha - level.alpha * ratio, x) * x0
        if fresh > 0:
            x = x + spread(fresh.sqrt(), x) * noise(index)
        yield Step(index, len(times), t, x, x0)


def _pairs(times: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Index, timestep and the next one of every step."""
    return ((index, t, t_next) for index, (t, t_next) in enumerate(zip(times, [*times[1:], CLEAN], strict=True)))


SAMPLERS: dict[str, Sampler] = {"ddim": ddim, "ddpm": ddpm}
