"""How probable real clips are to a model: bits per dimension, and its loss at each level of noise."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, NamedTuple

import torch
from torch import Tensor

from t2v.diffusion import GaussianDiffusion
from t2v.diffusion.guidance import Network
from t2v.diffusion.likelihood import bits_per_dim, estimated_bits_per_dim, repeat_error
from t2v.evaluate.real import RealClips
from t2v.runtime import autocast, generator
from t2v.service import GenerationService
from t2v.training.batches import to_float

NUM_STRATA = 25  # of two timesteps each
NUM_LEVELS = 10
AT_ONCE = 4  # clips that share timesteps, on every device: so a figure does not depend on the machine


class Level(NamedTuple):
    """Errors at one timestep, each the mean over clips.

    signal: share of the clip that is left there; loss: as training counts it; x0_error: mean squared, of the clean clip
    """

    t: int
    signal: float
    loss: float
    x0_error: float


@dataclass
class Likelihood:
    """What is known so far.

    sizes: clips of each few that share timesteps; bits: a mean for each few
    mixed_bits: of the network's answers mixed with what it was shown; losses, x0_errors: a row for each few
    """

    times: list[int]
    signals: list[float]
    num_asked: int
    sizes: list[int] = field(default_factory=list)
    bits: list[float] = field(default_factory=list)
    mixed_bits: list[float] = field(default_factory=list)
    losses: list[list[float]] = field(default_factory=list)
    x0_errors: list[list[float]] = field(default_factory=list)

    @property
    def num_clips(self) -> int:
        """Clips looked at."""
        return sum(self.sizes)

    @property
    def mean_bits(self) -> float:
        """Bits per dimension."""
        return fmean(self.bits, self.sizes)

    @property
    def mean_mixed_bits(self) -> float:
        """Bits per dimension of the answers mixed with what was shown."""
        return fmean(self.mixed_bits, self.sizes)

    @property
    def standard_error(self) -> float:
        """Of the bits: from looking at some clips and some timesteps. nan where a single group was looked at."""
        return self._standard_error(self.bits)

    @property
    def mixed_standard_error(self) -> float:
        """The same of the mixed ones."""
        return self._standard_error(self.mixed_bits)

    @property
    def levels(self) -> list[Level]:
        """From the least noise to the most."""
        tables = self.losses, self.x0_errors
        means = [[fmean(column, self.sizes) for column in zip(*rows, strict=True)] for rows in tables]
        return [Level(*level) for level in zip(self.times, self.signals, *means, strict=True)]

    def as_dict(self) -> dict[str, Any]:
        """All figures, as JSON can hold them."""
        if not self.bits:
            return {"clips": 0, "asked": self.num_asked}
        error, mixed_error = self.standard_error, self.mixed_standard_error
        return {
            "clips": self.num_clips,
            "asked": self.num_asked,
            "bits_per_dim": self.mean_bits,
            "standard_error": None if math.isnan(error) else error,
            "mixed_bits_per_dim": self.mean_mixed_bits,
            "mixed_standard_error": None if math.isnan(mixed_error) else mixed_error,
            "levels": [level._asdict() for level in self.levels],
        }

    def _standard_error(self, bits: list[float]) -> float:
        """Of the weighted mean, from how far the groups lie from it."""
        number = len(bits)
        if number < 2:
            return math.nan
        mean = fmean(bits, self.sizes)
        squares = ((size * (one - mean)) ** 2 for size, one in zip(self.sizes, bits, strict=True))
        return math.sqrt(sum(squares) * number / (number - 1)) / self.num_clips


def unmeasured(diffusion: GaussianDiffusion, num_clips: int) -> Likelihood:
    """A likelihood of which nothing is known yet, with the levels of noise that will be looked at."""
    num_timesteps = diffusion.num_timesteps
    num_levels = min(NUM_LEVELS, num_timesteps)
    times = [int((level + 0.5) / num_levels * num_timesteps) for level in range(num_levels)]
    signals = [float(diffusion.schedule.level(t).alpha) for t in times]
    return Likelihood(times, signals, num_clips)


def measure_likelihood(
    into: Likelihood, service: GenerationService, clips: RealClips, known: RealClips, seed: int
) -> Iterator[int]:
    """Look at a few clips after the other, with timesteps and noise that follow from the seed; yields how many.

    The bound is taken at 51 timesteps: the first, and two of each of 25 strata. Of a process that has no more, at all.
    known: clips of training, of which the first few tell how exactly the network repeats what it is shown; where there
        are none, the first few of those looked at do
    """
    own_error = _repeat_error(service, (known if len(known) else clips).first(AT_ONCE), seed)
    for start in range(0, len(clips), AT_ONCE):
        few = range(start, min(start + AT_ONCE, len(clips)))
        x0, text = _shown(service, clips, few)
        with torch.inference_mode(), autocast(service.precision.name, service.device):
            bits, mixed = _bits(service, x0, text, seed, few, own_error)
            errors = [_errors(service, x0, text, t, seed, few) for t in into.times]
        into.bits.append(float(bits.mean()))
        into.mixed_bits.append(float(mixed.mean()))
        into.losses.append([loss for loss, _ in errors])
        into.x0_errors.append([error for _, error in errors])
        into.sizes.append(len(few))
        yield len(few)


def _shown(service: GenerationService, clips: RealClips, few: range) -> tuple[Tensor, dict[str, Tensor] | None]:
    x0 = to_float(torch.stack([torch.from_numpy(clips.frames[place].copy()) for place in few])).to(service.device)
    return x0, service.text([clips.captions[place] for place in few], num_frames=x0.shape[2])


def _repeat_error(service: GenerationService, known: RealClips, seed: int) -> float:
    few = range(len(known))
    x0, text = _shown(service, known, few)
    noise = _noise(x0, seed, few, "repeat")
    with torch.inference_mode(), autocast(service.precision.name, service.device):
        return repeat_error(service.diffusion, service.network, x0, noise=noise, text=text)


def _bits(
    service: GenerationService, x0: Tensor, text: dict[str, Tensor] | None, seed: int, few: range, own_error: float
) -> tuple[Tensor, Tensor]:
    """Bits per dimension of each clip, of the network's answers as they are and mixed with what it was shown: b each.

    Both of the same answers, as these are what takes time.
    """
    answers: list[Tensor] = []

    def ask(x: Tensor, told: Tensor, text: dict[str, Tensor] | None) -> Tensor:
        answers.append(service.network(x, told, text))
        return answers[-1]

    plain = _bound(service, ask, x0, text, seed, few, None)
    repeated = iter(answers)
    return plain, _bound(service, lambda *_: next(repeated), x0, text, seed, few, own_error)


def _bound(
    service: GenerationService,
    network: Network,
    x0: Tensor,
    text: dict[str, Tensor] | None,
    seed: int,
    few: range,
    own_error: float | None,
) -> Tensor:
    diffusion = service.diffusion

    def noise(term: int) -> Tensor:
        return _noise(x0, seed, few, "bits", term)

    options: dict[str, Any] = {"noise": noise, "text": text, "own_error": own_error}
    if diffusion.num_timesteps <= 2 * NUM_STRATA:
        return bits_per_dim(diffusion, network, x0, **options)
    drawn = generator("evaluate timesteps", seed, few.start)
    return estimated_bits_per_dim(diffusion, network, x0, num_strata=NUM_STRATA, generator=drawn, **options).bits


def _errors(
    service: GenerationService, x0: Tensor, text: dict[str, Tensor] | None, time: int, seed: int, few: range
) -> tuple[float, float]:
    """The loss and the error of the clean clip at a timestep, from one answer of the network."""
    diffusion = service.diffusion
    t, noise = torch.full((len(x0),), time), _noise(x0, seed, few, "level", time)
    x_t = diffusion.add_noise(x0, noise, t)
    output = service.network(x_t, diffusion.schedule.tell(t, x_t), text).float()
    loss = diffusion.losses(lambda *_: output, x0, t, noise, text).total.mean()
    error = (diffusion.read(output, x_t, t).x0 - x0).square().mean()
    return float(loss), float(error)


def _noise(x0: Tensor, seed: int, few: range, *keys: int | str) -> Tensor:
    """Standard normal, like x0; each clip's a function of the seed, its place and the keys."""
    draws = [torch.randn(x0.shape[1:], generator=generator("evaluate", seed, place, *keys)) for place in few]
    return torch.stack(draws).to(x0.device)
