"""Walk from noise to a clip, one denoised estimate at a time.

A sampler is a generator `sampler(denoise, x, schedule, noise, *, start, eta)` that yields every step:

denoise: (x_t, t) -> Denoised; prediction type, guidance and threshold are folded into it
x: the noised clips at timestep `start`, b c f h w
schedule: the process to walk, every level of it from `start` down to 0 (see spacing.py)
noise: step -> standard normal values like x; asked only where a step adds noise
eta: share of the ancestral noise that a step adds, in [0, 1]; heard by those of HEAR_ETA

All but `ddpm` share one move, `toward`: keep the noise that x holds, scaled to the next level, and renew a part of it.
They differ in the estimate of the clean clip that they head for.
"""

import math
from collections.abc import Iterator

from torch import Tensor

from t2v.diffusion.multistep import dpmpp_2m, dpmpp_3m, unipc
from t2v.diffusion.schedule import Schedule, spread
from t2v.diffusion.steps import Denoise, Noise, Sampler, Step, mean_of, noise_seen, toward

WIDEST = 80.0  # sigma / alpha: where Karras et al. 2022 start


def ddpm(denoise: Denoise, x: Tensor, schedule: Schedule, noise: Noise, *, start: int, eta: float) -> Iterator[Step]:
    """Ancestral sampling: draw from the model's distribution of each step, with its variance; eta is not heard.

    Ho et al. 2020, algorithm 2; Nichol & Dhariwal 2021, section 4.
    """
    for index, t in enumerate(range(start, -1, -1)):
        seen = denoise(x, t)
        x = mean_of(seen, schedule, t)
        if t > 0 or schedule.end < 1:
            x = x + (0.5 * seen.log_variance).exp() * noise(index)
        yield Step(index, start + 1, t, x, seen.x0)


def ddim(denoise: Denoise, x: Tensor, schedule: Schedule, noise: Noise, *, start: int, eta: float) -> Iterator[Step]:
    """Keep the noise that x holds and scale it down; eta renews a part of it, and 1 makes this ddpm.

    Song et al. 2021, eq. 12 and 16.
    """
    for index, t in enumerate(range(start, -1, -1)):
        seen = denoise(x, t)
        x = toward(seen.x0, seen, schedule, t, eta=eta, noise=noise, index=index)
        yield Step(index, start + 1, t, x, seen.x0)


def euler(denoise: Denoise, x: Tensor, schedule: Schedule, noise: Noise, *, start: int, eta: float) -> Iterator[Step]:
    """Follow the probability flow in straight lines of x / alpha over sigma / alpha. Karras et al. 2022, algorithm 1.

    In a process that keeps the variance this is ddim without fresh noise, and with eta 1 Euler's ancestral variant.
    """
    return ddim(denoise, x, schedule, noise, start=start, eta=eta)


def heun(denoise: Denoise, x: Tensor, schedule: Schedule, noise: Noise, *, start: int, eta: float) -> Iterator[Step]:
    """Take euler's step, ask again where it leads, and take the mean of both slopes: two answers a step, save the last.

    No noise is added. From levels with hardly any signal (sigma over WIDEST alpha) the first slope stands alone: a
    step is so long there that a small change of slope would throw the clip out of all range.
    Karras et al. 2022, algorithm 1, second order.
    """
    return _heun(denoise, x, schedule, start=start, widest=WIDEST)


def heun_everywhere(
    denoise: Denoise, x: Tensor, schedule: Schedule, noise: Noise, *, start: int, eta: float
) -> Iterator[Step]:
    """heun with both slopes from every level that has any signal, as Diffusers takes it."""
    return _heun(denoise, x, schedule, start=start, widest=math.inf)


def _heun(denoise: Denoise, x: Tensor, schedule: Schedule, *, start: int, widest: float) -> Iterator[Step]:
    for index, t in enumerate(range(start, -1, -1)):
        seen = denoise(x, t)
        x = toward(seen.x0, seen, schedule, t)
        level, following = schedule.level(t), schedule.level(t - 1)
        ratio = level.sigma / level.alpha
        # Where the walk ends, noised or not, the network has no timestep to be told.
        if t > 0 and ratio <= widest and ratio.isfinite():
            # The slope of x / alpha over sigma / alpha is the noise. Its change, halved, is what the first one missed.
            change = noise_seen(denoise(x, t - 1), following) - noise_seen(seen, level)
            x = x + spread((following.sigma - following.alpha * ratio) / 2, x) * change
        yield Step(index, start + 1, t, x, seen.x0)


SAMPLERS: dict[str, Sampler] = {
    "ddim": ddim,
    "ddpm": ddpm,
    "dpmpp_2m": dpmpp_2m,
    "dpmpp_3m": dpmpp_3m,
    "euler": euler,
    "heun": heun,
    "heun_everywhere": heun_everywhere,
    "unipc": unipc,
}

# Which of them hear what only some can: the share of fresh noise, and the noise that the network said.
HEAR_ETA = ("ddim", "euler", "dpmpp_2m")
HEAR_OWN_NOISE = ("ddim", "euler")
