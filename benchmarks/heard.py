"""Which words a model of the worlds hears: how much worse it foretells a clip whose caption has one of them changed.

    python benchmarks/heard.py runs/worlds --fact motion --clips 128

Clips of the worlds' shapes, one subject each, of seeds that no training set has. Each is noised and denoised twice with
the same noise: told its own caption, and told the same sentence with one fact turned into another (left into right, red
into green). The difference of the squared errors of the clean clip, over all clips, is 0 for a word that is not heard.
A change of motion is looked for in what moves, the difference from each pixel's mean over the frames; all else in the
whole clip. No clip is drawn and no judge asked: a word may be heard while shapes are still too blurred for one.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from itertools import count, islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from t2v.cli.main import set_up_process
from t2v.data.worlds import shape_captions, shapes
from t2v.data.worlds.canvas import Clock
from t2v.data.worlds.grammar import Voice
from t2v.diffusion.losses import l2, motion_error
from t2v.errors import T2VError
from t2v.service import GenerationService
from t2v.training.batches import to_float

OPPOSITES = {"left": "right", "up": "down", "grow": "shrink"}
OPPOSITES |= {other: one for one, other in OPPOSITES.items()}
FACTS = ("motion", "colour", "shape")
SEED = 2**20
AT_ONCE = 16
TOLD_MS = 125.0


def main() -> None:
    """Noise, denoise and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--fact", choices=FACTS, action="append", dest="facts", help="default: each of them")
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--levels", type=float, nargs="+", default=[-9, -7, -5], help="log of signal over noise, power")
    asked = parser.parse_args()
    set_up_process()
    try:
        service = GenerationService.load(asked.checkpoint, device="cpu", precision="fp32")
    except T2VError as error:
        parser.error(str(error))
    print("| fact | log-SNR | error | added by a wrong word | standard error |\n| --- | --- | --- | --- | --- |")
    for fact in asked.facts or FACTS:
        clips, own, changed = zip(*islice(pairs(fact, service), asked.clips), strict=True)
        x0 = to_float(torch.from_numpy(np.stack(clips)))
        for level in asked.levels:
            right, wrong = (errors(service, x0, captions, level, fact == "motion") for captions in (own, changed))
            added = wrong - right
            spread = added.std() / len(added) ** 0.5
            print(f"| {fact} | {level:g} | {right.mean():.4f} | {added.mean():+.5f} | {spread:.5f} |", flush=True)


def pairs(fact: str, service: GenerationService) -> Iterator[tuple[np.ndarray, str, str]]:
    """Clips with their caption, and the same with one fact changed."""
    data = service.header.recipe.data
    for index in count():
        scene = shapes.plan(np.random.default_rng([SEED, index, 0]))
        other = changed(scene, fact, np.random.default_rng([SEED, index, 1])) if len(scene.subjects) == 1 else None
        if other is None:
            continue
        own, wrong = (
            shape_captions.sentence(each, Voice(np.random.default_rng([SEED, index, 2]))) for each in (scene, other)
        )
        if own != wrong:
            clock = Clock(data.num_frames, 1000 / (service.header.frame_ms or TOLD_MS))
            yield shapes.draw(scene, clock, data.size), own, wrong


def changed(scene: shapes.Scene, fact: str, rng: np.random.Generator) -> shapes.Scene | None:
    """The scene with another colour, shape or the opposite motion; None where there is no opposite."""
    [subject] = scene.subjects
    if fact == "motion":
        if subject.motion not in OPPOSITES:
            return None
        other = replace(subject, motion=OPPOSITES[subject.motion])
    else:
        known = shapes.SHAPES if fact == "shape" else shapes.colours_on(scene.ground)
        others = [name for name in known if name != getattr(subject, fact)]
        other = replace(subject, **{fact: others[rng.integers(len(others))]})
    return replace(scene, subjects=(other,))


@torch.inference_mode()
def errors(service: GenerationService, x0: Tensor, captions: tuple[str, ...], level: float, of_motion: bool) -> Tensor:
    """Mean squared error of each clean clip seen through noise of a log-SNR: b. x0: b c f h w."""
    diffusion = service.diffusion
    signal = diffusion.schedule.alphas_cumprod.double()
    t = int((torch.logit(signal, eps=1e-12) - level).abs().argmin())
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(SEED + t))
    found = []
    for start in range(0, len(x0), AT_ONCE):
        here = slice(start, start + AT_ONCE)
        times = torch.full((len(x0[here]),), t)
        x_t = diffusion.add_noise(x0[here], noise[here], times)
        text = service.text(captions[here], num_frames=x0.shape[2])
        output = service.network(x_t, diffusion.schedule.tell(times, x_t), text)
        told = diffusion.read(output, x_t, times).x0
        found.append(motion_error(told, x0[here]) if of_motion else l2(told, x0[here]).flatten(1).mean(1))
    return torch.cat(found)


if __name__ == "__main__":
    main()
