"""At which noise a model of the worlds goes wrong: true clips, noised to a level and drawn on from there.

    python benchmarks/from_level.py checkpoints/worlds.safetensors --clips 16

Clips of the worlds' shapes, one subject each, of a seed that no training set has, each told its own caption with the
guidance of t2v generate. What a level has already settled is right when the walk begins below it; what falls from one
row to the next noisier one is lost between the two. The judge reads what every caption says: number, shape, colour and
motion. The first row begins at the last level, with noise alone.
"""

import argparse
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from one_subject import one_subject
from torch import Tensor

from t2v.cli.main import set_up_process
from t2v.config import GenerationSettings
from t2v.data.worlds import WorldClip
from t2v.diffusion.edits import vary
from t2v.diffusion.gaussian import GaussianDiffusion
from t2v.diffusion.guidance import Guidance
from t2v.diffusion.spacing import space
from t2v.errors import T2VError
from t2v.evaluation.judge import judge
from t2v.evaluation.reading import agrees
from t2v.runtime import generator
from t2v.sampling import to_uint8
from t2v.service import GenerationService
from t2v.training.batches import to_float

TOLD = ("number", "subject", "colour", "motion")  # by every caption; of size and backdrop many say nothing
SEED = 1
AT_ONCE = 4


def main() -> None:
    """Noise, draw on, judge and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument(
        "--levels", type=float, nargs="+", default=[-6, -5, -4, -3, -1.5, 0], help="log of signal over noise, power"
    )
    parser.add_argument("--sampler", default="unipc")
    parser.add_argument("--num-steps", type=int, default=16, help="of the whole walk")
    parser.add_argument("--eta", type=float, default=0.0)
    asked = parser.parse_args()
    set_up_process()
    try:
        service = GenerationService.load(asked.checkpoint, device="cpu", precision="fp32")
    except T2VError as error:
        parser.error(str(error))
    data = service.header.recipe.data
    clips = list(islice(one_subject(SEED, size=data.size, num_frames=data.num_frames), asked.clips))
    walk = service.diffusion.visiting(space(service.diffusion.schedule, "trailing", asked.num_steps))
    ratios = walk.schedule.snr(torch.arange(walk.num_timesteps)).log()
    starts = [walk.num_timesteps - 1] + [int((ratios - level).abs().argmin()) for level in asked.levels]
    print(f"| from a log-SNR of | {' | '.join(TOLD)} |\n| --- |{' --- |' * len(TOLD)}")
    for start in dict.fromkeys(starts):
        right = drawn_on(service, clips, walk, start, sampler=asked.sampler, eta=asked.eta)
        print(f"| {ratios[start]:.1f} | {' | '.join(f'{right[name]} of {len(clips)}' for name in TOLD)} |", flush=True)


@torch.inference_mode()
def drawn_on(
    service: GenerationService, clips: list[WorldClip], walk: GaussianDiffusion, start: int, **options: object
) -> Counter[str]:
    """How many clips are right in each attribute, once noised to a timestep of the walk and drawn from there."""
    right: Counter[str] = Counter()
    guidance = Guidance(scale=GenerationSettings().guidance_scale)
    for first in range(0, len(clips), AT_ONCE):
        here = clips[first : first + AT_ONCE]
        x0 = to_float(torch.from_numpy(np.stack([clip.frames for clip in here])))
        text = service.text([clip.captions[0] for clip in here], num_frames=x0.shape[2])

        def noise(step: int, first: int = first, shape: torch.Size = x0.shape) -> Tensor:
            return torch.randn(shape, generator=generator("from_level", first, step))

        steps = vary(
            walk, service.network, x0, noise(-1), start=start, noise=noise, text=text, guidance=guidance, **options
        )
        *_, last = steps
        for clip, frames in zip(here, to_uint8(last.x_t).numpy(), strict=True):
            right.update(name for name, is_right in agrees(judge(frames), clip.facts).items() if is_right)
    return right


if __name__ == "__main__":
    main()
