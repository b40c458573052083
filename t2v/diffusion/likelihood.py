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
) -> Iterator[BoundTerm]:
    """The bound's terms at these timesteps, one after the other.

    x0: b c f h w, 8-bit pixels in [-1, 1]; noise: count of terms before -> standard normal values like x0
    keep_in_range: as in `GaussianDiffusion.sample`
    """
    for index, time in enumerate(times):
        t = torch.full((len(x0),), time)
        drawn = noise(index)
        x_t = diffusion.add_noise(x0, drawn, t)
        seen = diffusion.denoise(network, x_t, t, text, keep_in_range=keep_in_range)
        eps = noise_in(x_t, seen.x0, Scales.of(diffusion.schedule, t, x_t))
        yield BoundTerm(
            time,
            diffusion.bound_term(seen, x0, t),
            ((seen.x0 - x0) ** 2).flatten(1).mean(1),
            ((eps - drawn) ** 2).flatten(1).mean(1),
        )


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
