"""How probable clips are to a model: the variational bound on their likelihood, in bits per dimension."""

import math
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from t2v.diffusion.distributions import normal_kl
from t2v.diffusion.gaussian import GaussianDiffusion, Keep
from t2v.diffusion.guidance import Network, Text
from t2v.diffusion.prediction import Scales, noise_in
from t2v.diffusion.schedule import spread
from t2v.diffusion.steps import Noise
from t2v.diffusion.threshold import static
from t2v.errors import SettingsError


class BoundTerm(NamedTuple):
    """What one timestep adds to the bound. All but t: b.

    bits: per dimension; x0_error, noise_error: mean squared errors of the clean clip and of the noise
    """

    t: int
    bits: Tensor
    x0_error: Tensor
    noise_error: Tensor


class BitsPerDim(NamedTuple):
    """An estimate for each clip, and the standard error that comes from looking at some timesteps only: b each.

    The square of that error is right in the mean or too large, as it does not count how few timesteps a stratum has
    besides the two. Where one stratum says most of it, as the cleanest may, twice the error holds in 70% of cases only.
    """

    bits: Tensor
    standard_error: Tensor


def prior_bits(diffusion: GaussianDiffusion, x0: Tensor) -> Tensor:
    """What is left to tell of clips x0 (b c f h w) at the noisiest level: b, bits per dimension.

    Ho et al. 2020, eq. 5, L_T.
    """
    level = diffusion.schedule.level(diffusion.num_timesteps - 1)
    zero = torch.zeros((), dtype=x0.dtype, device=x0.device)
    mean, log_variance = spread(level.alpha, x0) * x0, spread(2 * level.sigma.log(), x0)
    return normal_kl(mean, log_variance, zero, zero).flatten(1).mean(1) / math.log(2)


@torch.no_grad()
def bound_terms(
    diffusion: GaussianDiffusion,
    network: Network,
    x0: Tensor,
    times: Iterable[int],
    *,
    noise: Noise,
    text: Text | None = None,
    keep_in_range: Keep = static,
    own_error: float | None = None,
) -> Iterator[BoundTerm]:
    """The bound's terms at these timesteps, one after the other.

    x0: b c f h w, 8-bit pixels in [-1, 1]; noise: count of terms before -> standard normal values like x0
    keep_in_range: as in `GaussianDiffusion.sample`
    own_error: mean squared error of the clean clip that the network says where it is shown next to no noise, as
        `repeat_error` finds it; its answers are then mixed with what it is shown (`mixed_with_shown`). None: they are
        taken as they are
    """
    for index, time in enumerate(times):
        t = torch.full((len(x0),), time)
        drawn = noise(index)
        x_t = diffusion.add_noise(x0, drawn, t)
        seen = diffusion.denoise(network, x_t, t, text, keep_in_range=keep_in_range)
        scales = Scales.of(diffusion.schedule, t, x_t)
        if own_error is not None:
            seen = seen._replace(x0=keep_in_range(mixed_with_shown(seen.x0, x_t, scales, own_error)), mean=None)
        eps = noise_in(x_t, seen.x0, scales)
        yield BoundTerm(
            time,
            diffusion.bound_term(seen, x0, t),
            ((seen.x0 - x0) ** 2).flatten(1).mean(1),
            ((eps - drawn) ** 2).flatten(1).mean(1),
        )


def mixed_with_shown(x0: Tensor, x_t: Tensor, scales: Scales, own_error: float) -> Tensor:
    """The clean clip from two measurements of it, weighed by how exact they are: the network's, and x_t itself.

    What a network says through patches has an error of its own, own_error, however little noise it is shown; that of
    x_t / alpha is (sigma / alpha)^2. So mixed it is the skip of Karras et al. 2022, section 5, own_error being their
    sigma_data^2.
    x0: b c f h w, as the network has it
    """
    noise_power = scales.sigma**2
    return (noise_power * x0 + own_error * scales.alpha * x_t) / (noise_power + own_error * scales.alpha**2)


@torch.no_grad()
def repeat_error(
    diffusion: GaussianDiffusion, network: Network, x0: Tensor, *, noise: Tensor, text: Text | None = None
) -> float:
    """Mean squared error of the clean clips that the network says where it is shown the least noise there is.

    x0: b c f h w in [-1, 1], which should not be clips whose likelihood is asked for; noise: standard normal, like x0
    """
    t = torch.zeros(len(x0), dtype=torch.long)
    seen = diffusion.denoise(network, diffusion.add_noise(x0, noise, t), t, text)
    return float((seen.x0 - x0).square().mean())


def bits_per_dim(diffusion: GaussianDiffusion, network: Network, x0: Tensor, *, noise: Noise, **options: Any) -> Tensor:
    """The bound over the whole chain, the noisiest timestep first: b. One answer of the network for each timestep.

    x0, noise and options as in `bound_terms`. Ho et al. 2020, eq. 5.
    """
    times = range(diffusion.num_timesteps - 1, -1, -1)
    terms = bound_terms(diffusion, network, x0, times, noise=noise, **options)
    return prior_bits(diffusion, x0) + sum(term.bits for term in terms)


def estimated_bits_per_dim(
    diffusion: GaussianDiffusion,
    network: Network,
    x0: Tensor,
    *,
    noise: Noise,
    num_strata: int,
    generator: torch.Generator,
    **options: Any,
) -> BitsPerDim:
    """The bound from 2 num_strata + 1 timesteps: the first, whose term is unlike the others, and two of each stratum.

    Two, since their difference tells how far the estimate may be off. The strata are equal parts of the timesteps.
    num_strata: 1 to (num_timesteps - 1) / 2; the other arguments as in `bound_terms`
    Raises SettingsError for another number of strata.
    """
    others = diffusion.num_timesteps - 1
    if not 1 <= num_strata <= others // 2:
        raise SettingsError(f"num_strata must be 1 to {others // 2} with {others + 1} timesteps, not {num_strata}")
    edges = [1 + others * place // num_strata for place in range(num_strata + 1)]
    sizes = torch.tensor([high - low for low, high in pairwise(edges)])
    drawn = [low + torch.randperm(high - low, generator=generator)[:2] for low, high in pairwise(edges)]
    times = [0, *torch.cat(drawn).tolist()]
    bits = [term.bits for term in bound_terms(diffusion, network, x0, times, noise=noise, **options)]
    pairs = torch.stack(bits[1:]).unflatten(0, (num_strata, 2))
    sizes = sizes.to(pairs)[:, None]
    return BitsPerDim(
        bits=prior_bits(diffusion, x0) + bits[0] + (sizes * pairs.mean(1)).sum(0),
        standard_error=((sizes * (pairs[:, 0] - pairs[:, 1]) / 2) ** 2).sum(0).sqrt(),
    )
