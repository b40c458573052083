"""The same prompt and seed through every sampler at 4, 8, 16 and 50 steps, as one picture and a table.

    python benchmarks/sampler_sheet.py --out docs/samplers.png

Prints a Markdown table: for each sampler and number of steps how often the network was asked, and how far the clip is
from where the probability flow leads (dpmpp_2m with 200 steps), as the root mean square over pixels of 0 to 255. ddpm
adds fresh noise and goes elsewhere, so for it that is no error.
"""

import argparse
from pathlib import Path
from typing import get_args

import numpy as np
from PIL import Image, ImageDraw

from t2v.config import GenerationSettings, SamplerName
from t2v.service import GenerationService

STEPS = (4, 8, 16, 50)
REFERENCE = {"sampler": "dpmpp_2m", "num_steps": 200}
SHOWN_FRAMES = (3, 5, 8)
SCALE = 2
LABEL_WIDTH, LABEL_HEIGHT, GAP = 110, 18, 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompt", default="fireworks at night")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--checkpoint", type=Path, help="a checkpoint (default: the model in the box)")
    parser.add_argument("--out", type=Path, default=Path("docs/samplers.png"))
    asked = parser.parse_args()
    service = GenerationService.load(asked.checkpoint)
    counted = CountedCalls(service)

    def clip(**choices: object) -> np.ndarray:
        settings = GenerationSettings(prompt=asked.prompt, seed=asked.seed, **choices)
        (finished,) = (clip for step in service.generate(settings) for clip in step.finished)
        return finished.frames

    reference = clip(**REFERENCE)
    names = get_args(SamplerName)
    clips = {}
    print(f"| sampler | {' | '.join(f'{steps} steps' for steps in STEPS)} |\n| --- |{' --- |' * len(STEPS)}")
    for name in names:
        cells = []
        for steps in STEPS:
            counted.calls = 0
            clips[name, steps] = clip(sampler=name, num_steps=steps)
            cells.append(f"{counted.calls} calls, off by {distance(clips[name, steps], reference):.1f}")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    sheet(clips, names).save(asked.out)
    print(
        f"\n{asked.out}: {asked.prompt!r}, seed {asked.seed}, frames {', '.join(map(str, SHOWN_FRAMES))} of each clip"
    )


class CountedCalls:
    """How often the service's network was asked."""

    def __init__(self, service: GenerationService) -> None:
        self.calls = 0
        service.network.register_forward_pre_hook(self._count)

    def _count(self, *_: object) -> None:
        self.calls += 1


def distance(clip: np.ndarray, reference: np.ndarray) -> float:
    """Root mean square difference of two clips, uint8 f h w c."""
    return float(np.sqrt(np.mean((clip.astype(float) - reference) ** 2)))


def sheet(clips: dict[tuple[str, int], np.ndarray], names: tuple[str, ...]) -> Image.Image:
    """A row for each sampler, a column for each number of steps, some frames of each clip side by side."""
    strips = {key: strip(frames) for key, frames in clips.items()}
    height, width, _ = next(iter(strips.values())).shape
    size = (LABEL_WIDTH + len(STEPS) * (width + GAP), LABEL_HEIGHT + len(names) * (height + GAP))
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    for column, steps in enumerate(STEPS):
        draw.text((LABEL_WIDTH + column * (width + GAP), 4), f"{steps} steps", fill="black")
    for row, name in enumerate(names):
        top = LABEL_HEIGHT + row * (height + GAP)
        draw.text((4, top + height // 2 - 5), name, fill="black")
        for column, steps in enumerate(STEPS):
            image.paste(Image.fromarray(strips[name, steps]), (LABEL_WIDTH + column * (width + GAP), top))
    return image


def strip(frames: np.ndarray) -> np.ndarray:
    """The shown frames of a clip in a row, enlarged. frames: uint8 f h w c."""
    white = np.full_like(frames[0, :, :1], 255)
    chosen = np.concatenate([part for frame in SHOWN_FRAMES for part in (frames[frame], white)][:-1], axis=1)
    return chosen.repeat(SCALE, axis=0).repeat(SCALE, axis=1)


if __name__ == "__main__":
    main()
