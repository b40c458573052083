"""The only generation loop there is: network, text and diffusion make clips, step by step."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from t2v.config import GenerationSettings, Recipe
from t2v.diffusion import GaussianDiffusion
from t2v.diffusion.samplers import Step
from t2v.runtime import generator

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
    return GaussianDiffusion(**recipe.diffusion.model_dump())


def sample_clips(
    network: nn.Module,
    diffusion: GaussianDiffusion,
    *,
    pooled: Tensor | None,
    negative: Tensor | None = None,
    num_clips: int,
    shape: tuple[int, int, int, int],
    seed: int,
    settings: GenerationSettings,
    bf16: bool = False,
) -> Iterator[SamplingStep]:
    """Draw clips by the settings' sampler, steps, guidance and thresholding.

    pooled: num_clips d, one text vector a clip; None for an unconditional model
    negative: d, the text to steer away from; None for the learned null
    shape: c f h w of one clip

    The noise of clip k is a function of (seed, k), drawn on the CPU whatever the device.
    """
    device = next(network.parameters()).device
    group = GROUPS[device.type]
    for first in range(0, num_clips, group):
        clips = range(first, min(first + group, num_clips))
        text = None if pooled is None else _text(pooled[clips.start : clips.stop], device)
        other = None if negative is None else _text(negative.expand(len(clips), -1), device)

        def noise(step: int, clips: range = clips) -> Tensor:
            return torch.stack([_noise(shape, seed, clip, step) for clip in clips]).to(device)

        steps = diffusion.sample(
            network,
            noise(-1),
            noise=noise,
            text=text,
            negative=other,
            num_steps=settings.num_steps,
            sampler=settings.sampler,
            eta=settings.eta,
            guidance_scale=settings.guidance_scale,
            threshold=settings.threshold,
            percentile=settings.percentile,
        )
        for step in _stepwise(steps, device, bf16):
            yield SamplingStep(clips, step.index, step.num_steps, step.x_t, step.x0)


def to_uint8(x: Tensor) -> Tensor:
    """Clips ... c f h w in [-1, 1] as uint8 ... f h w c on the CPU."""
    frames = ((x.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return frames.movedim(-4, -1).cpu()


def _text(pooled: Tensor, device: torch.device) -> dict[str, Tensor]:
    return {"pooled": pooled.to(device), "is_null": torch.zeros(len(pooled), dtype=torch.bool, device=device)}


def _noise(shape: tuple[int, int, int, int], seed: int, clip: int, step: int) -> Tensor:
    return torch.randn(shape, generator=generator("sample", seed, clip, step))


def _stepwise(steps: Iterator[Step], device: torch.device, bf16: bool) -> Iterator[Step]:
    """Take each step without gradients and in the precision asked for, but leave both to the caller in between."""
    while True:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext():
            step = next(steps, None)
        if step is None:
            return
        yield step
