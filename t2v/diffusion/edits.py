"""Clips made from clips by the mathematics alone: known pixels kept, clips varied, mixed, turned back into noise."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from t2v.diffusion.gaussian import GaussianDiffusion
from t2v.diffusion.guidance import Network
from t2v.diffusion.schedule import CLEAN, spread
from t2v.diffusion.steps import Noise, Step, toward, upward


def keeping(diffusion: GaussianDiffusion, known: Tensor, mask: Tensor, noise: Noise) -> Callable[[Tensor, int], Tensor]:
    """For `sample(put_in=...)`: before each answer the known pixels stand in x_t, noised to its level.

    known: b c f h w in [-1, 1]; mask: broadcasts over it, 1 where a pixel is known and 0 where it is to be drawn, so
    that parts of frames, whole frames or both can be given; noise: timestep -> standard normal values like `known`
    The result itself holds the known pixels only nearly; put them in once more at the end where they must be exact.
    Lugmayr et al. 2022 (RePaint), eq. 8, without going back; Rombach et al. 2022, code.
    """

    def put_in(x_t: Tensor, t: int) -> Tensor:
        noised = diffusion.add_noise(known, noise(t), torch.full((len(known),), t))
        return mask * noised + (1 - mask) * x_t

    return put_in


def vary(
    diffusion: GaussianDiffusion, network: Network, x0: Tensor, noise_in: Tensor, *, start: int, **options: Any
) -> Iterator[Step]:
    """Noise clips to timestep `start` and draw them again from there: higher keeps less of them.

    x0, noise_in: b c f h w; options: those of `GaussianDiffusion.sample`
    Meng et al. 2022 (SDEdit), algorithm 1.
    """
    noised = diffusion.add_noise(x0, noise_in, torch.full((len(x0),), start))
    return diffusion.sample(network, noised, start=start, **options)


def mix(
    diffusion: GaussianDiffusion,
    network: Network,
    x1: Tensor,
    x2: Tensor,
    noises: tuple[Tensor, Tensor],
    *,
    t: int,
    weight: float,
    **options: Any,
) -> Iterator[Step]:
    """Draw clips between two: noise both to timestep t, mix them, and walk back from there.

    x1, x2 and noises, one for each: b c f h w; t: in [1, num_timesteps), higher keeps less of the two
    weight: 0 is x1, 1 is x2; options: those of `GaussianDiffusion.sample`
    Ho et al. 2020, figure 8.
    """
    levels = torch.full((len(x1),), t)
    mixed = torch.lerp(diffusion.add_noise(x1, noises[0], levels), diffusion.add_noise(x2, noises[1], levels), weight)
    # Mixing averages some of the noise away, so the walk starts one level lower.
    return diffusion.sample(network, mixed, start=t - 1, **options)


@torch.no_grad()
def invert(diffusion: GaussianDiffusion, network: Network, x0: Tensor, **options: Any) -> Iterator[Step]:
    """Walk clean clips up to noise, so that ddim without fresh noise walks about the same way down again.

    Yields every step; the last x_t stands at the last timestep, ready for `sample`. Finer steps come back closer, and
    so does an estimate that nothing changes: give keep_in_range=unbounded to both ways, and no or the same guidance.
    x0: b c f h w in [-1, 1]; options: those of `GaussianDiffusion.denoise`, such as text and scale
    Song et al. 2021, section 4.3; Dhariwal & Nichol 2021, appendix F.
    """
    x = x0
    for index, t in enumerate(range(CLEAN, diffusion.num_timesteps - 1)):
        # What a network says of clean clips it was never trained on; the cleanest level comes next to it.
        seen = diffusion.denoise(network, x, torch.full((len(x),), max(t, 0)), **options)
        x = upward(seen, diffusion.schedule, t)
        yield Step(index, diffusion.num_timesteps, t, x, seen.x0)


def interpolate(
    diffusion: GaussianDiffusion, network: Network, x1: Tensor, x2: Tensor, *, weight: float, **options: Any
) -> Iterator[Step]:
    """Draw clips between two without any chance: turn both back into noise, mix that, and walk down again.

    x1, x2: b c f h w in [-1, 1]; weight: 0 is x1, 1 is x2; options: those of `GaussianDiffusion.denoise`
    Yields the steps of the way down. Song et al. 2021, section 5.3.
    """
    ends = []
    for x0 in (x1, x2):
        *_, last = invert(diffusion, network, x0, **options)
        ends.append(last.x_t)
    x = slerp(ends[0], ends[1], weight)
    with torch.no_grad():
        for index, t in enumerate(range(diffusion.num_timesteps - 1, CLEAN, -1)):
            seen = diffusion.denoise(network, x, torch.full((len(x),), t), **options)
            x = toward(seen.x0, seen, diffusion.schedule, t)
            yield Step(index, diffusion.num_timesteps, t, x, seen.x0)


def slerp(a: Tensor, b: Tensor, weight: float) -> Tensor:
    """Between two noises along the sphere they lie on, clip by clip, where a straight line would leave too little.

    a, b: b c f h w; weight: 0 is a, 1 is b
    Shoemake 1985; Song et al. 2021, appendix D.5.
    """
    between = torch.cosine_similarity(a.flatten(1), b.flatten(1), dim=1).clamp(-1, 1).arccos()
    # As the angle goes to 0 so do all three sines; their ratios go to those of the angles.
    nearly = between < 1e-4
    ratio_a = torch.where(nearly, 1 - weight, ((1 - weight) * between).sin() / between.sin())
    ratio_b = torch.where(nearly, weight, (weight * between).sin() / between.sin())
    return spread(ratio_a, a) * a + spread(ratio_b, b) * b
