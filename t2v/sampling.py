"""The only generation loop there is: network, text and diffusion make clips, step by step."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from t2v.config import GenerationSettings, Recipe
from t2v.diffusion import GaussianDiffusion, Step
from t2v.diffusion.choose import choose
from t2v.diffusion.guidance import Guidance
from t2v.diffusion.noises import dropped, tempered
from t2v.diffusion.schedule import make_schedule
from t2v.diffusion.spacing import space
from t2v.diffusion.threshold import THRESHOLDS
from t2v.model.text import TextFeatures
from t2v.runtime import autocast, generator

# How many clips share a pass. On a CPU the last bits of a matrix product depend on how many rows it has, so a clip
# that is to be the same whatever else is asked for goes alone.
GROUPS = {"cpu": 1, "cuda": 8, "mps": 8}


@dataclass(frozen=True)
class SamplingStep:
    """One denoising step of a group of clips.

    clips: which clips of the request; index counts from 0 to num_steps - 1
    x_t, x0: b c f h w, the clips after the step and the step's estimate of them; after the last step x_t is the result
    """

    clips: range
    index: int
    num_steps: int
    x_t: Tensor
    x0: Tensor

    @property
    def is_last(self) -> bool:
        return self.index == self.num_steps - 1


def build_diffusion(recipe: Recipe) -> GaussianDiffusion:
    """The diffusion process that a recipe names."""
    asked = recipe.diffusion
    schedule = make_schedule(
        asked.schedule,
        asked.num_timesteps,
        log_snr_shift=asked.log_snr_shift,
        zero_terminal_snr=asked.zero_terminal_snr,
        tell=asked.tell,
    )
    return GaussianDiffusion(
        schedule=schedule,
        prediction=asked.prediction,
        variance=asked.variance,
        loss=asked.loss,
        weighting=asked.weighting,
        gamma=asked.weighting_gamma,
        bound_weight=asked.bound_weight,
        motion_weight=asked.motion_weight,
    )


def sample_clips(
    network: nn.Module,
    diffusion: GaussianDiffusion,
    *,
    text: TextFeatures | None,
    negative: TextFeatures | None = None,
    guide: nn.Module | None = None,
    num_clips: int,
    shape: tuple[int, int, int, int],
    seed: int,
    seeds: Sequence[int] | None = None,
    settings: GenerationSettings,
    interval_ms: float | None = None,
    precision: str = "fp32",
) -> Iterator[SamplingStep]:
    """Draw clips by the settings' sampler, steps, guidance and thresholding.

    text: of num_clips texts, one a clip; None for an unconditional model
    negative: of one text, to steer away from; None for the learned null
    guide: a weaker network to steer away from instead, which is told the same text
    shape: c f h w of one clip
    interval_ms: from frame to frame, of which networks are told that learned it; None tells them nothing
    precision: arithmetic of the networks, a name of config.PrecisionName but auto

    The noise of clip k is a function of (seed, k), drawn on the CPU whatever the device. With `seeds`, one a clip, each
    has the noise of the first clip of its own seed.
    """
    device = next(network.parameters()).device
    if shape[1] == 1:
        interval_ms = None  # training tells no interval of single frames
    walk = diffusion.visiting(space(diffusion.schedule, settings.spacing, settings.num_steps))
    guidance = Guidance(
        scale=settings.guidance_scales,
        low=settings.guidance_low,
        high=settings.guidance_high,
        rescale=settings.guidance_rescale,
        guide=guide,
    )
    if text is not None and negative is not None:
        # They go through the network side by side.
        longest = max(text.mask.shape[1], negative.mask.shape[1])
        text, negative = text.padded(longest), negative.padded(longest)
    keep_in_range = partial(choose(THRESHOLDS, settings.threshold, "threshold"), percentile=settings.percentile)
    for clips in _groups(num_clips, GROUPS[device.type]):
        keys = [(seed, clip) if seeds is None else (seeds[clip], 0) for clip in clips]
        draw = _Draws(shape, keys, device)
        steps = walk.sample(
            network,
            draw.noise(-1),
            noise=dropped(tempered(draw.noise, settings.temperature), settings.noise_dropout, coins=draw.coins),
            text=None if text is None else told(text.at(slice(clips.start, clips.stop)), interval_ms, device),
            negative=None if negative is None else told(negative.repeated(len(clips)), interval_ms, device),
            sampler=settings.sampler,
            eta=settings.eta,
            guidance=guidance,
            keep_in_range=keep_in_range,
            own_noise=settings.own_noise,
        )
        for step in _stepwise(steps, device, precision):
            yield SamplingStep(clips, step.index, step.num_steps, step.x_t, step.x0)


def told(text: TextFeatures, interval_ms: float | None, device: torch.device) -> dict[str, Tensor]:
    """What a network is told of clips: their texts, and the time from frame to frame where it is known."""
    given = text.as_input(device)
    if interval_ms is not None:
        given["interval"] = torch.full((len(text.pooled),), interval_ms, device=device)
    return given


@dataclass(frozen=True)
class _Draws:
    """The random numbers of a group of clips, each clip's a function of its seed, its number there and the step."""

    shape: tuple[int, int, int, int]
    keys: Sequence[tuple[int, int]]
    device: torch.device

    def noise(self, step: int) -> Tensor:
        """Standard normal, b c f h w; step -1 is what the walk starts from."""
        drawn = [torch.randn(self.shape, generator=generator("sample", *key, step)) for key in self.keys]
        return torch.stack(drawn).to(self.device)

    def coins(self, step: int) -> Tensor:
        """Uniform in [0, 1), b c f h w."""
        drawn = [torch.rand(self.shape, generator=generator("coins", *key, step)) for key in self.keys]
        return torch.stack(drawn).to(self.device)


def _groups(num_clips: int, size: int) -> Iterator[range]:
    return (range(first, min(first + size, num_clips)) for first in range(0, num_clips, size))


def to_uint8(x: Tensor) -> Tensor:
    """Clips ... c f h w in [-1, 1] as uint8 ... f h w c on the CPU."""
    frames = ((x.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return frames.movedim(-4, -1).cpu()


def _stepwise(steps: Iterator[Step], device: torch.device, precision: str) -> Iterator[Step]:
    """Take each step without gradients and in the precision asked for, but leave both to the caller in between."""
    while True:
        with torch.inference_mode(), autocast(precision, device):
            step = next(steps, None)
        if step is None:
            return
        yield step
