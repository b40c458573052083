"""Draw one meaning in several wordings and many seeds, with the nearest training clip under each sample.

    python benchmarks/box_sheet.py CLIPS docs/box-fireworks.png --checkpoint runs/box

CLIPS is the folder that the checkpoint was trained on. Prints how many samples show lights bursting on a dark sky, by
a rule on pixels, and how close samples come to training clips beside how close training clips come to each other.
"""

import argparse
from pathlib import Path

import numpy as np
from einops import reduce

from t2v.config import GenerationSettings
from t2v.data.folder import load_clips
from t2v.data.pixels import Pixels
from t2v.service import GenerationService
from t2v.training.samples import contact_sheet

WORDINGS = ("fireworks at night", "fireworks in the night sky", "colourful fireworks light up the dark sky")
NUM_SEEDS = 20
SHOWN_FRAME = 6
DARK = 0.25  # the median pixel of a night sky is below this
BRIGHT = 0.5  # a spark is above this in its strongest channel


def main() -> None:
    """Draw, compare, write the sheet and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("sheet", type=Path)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--num-steps", type=int, default=GenerationSettings().num_steps)
    options = parser.parse_args()

    service = GenerationService.load(options.checkpoint)
    data = service.header.recipe.data
    trained = load_clips(options.clips, Pixels.of(data, service.header.recipe.limits)).frames
    seen = small(np.stack(trained))
    rows, labels, closeness = [], [], []
    for wording in WORDINGS:
        drawn = [draw(service, wording, seed, options.num_steps) for seed in range(NUM_SEEDS)]
        nearest = [nearest_clip(small(clip[None]), seen) for clip in drawn]
        closeness += [distance for _, distance in nearest]
        count = sum(is_fireworks_by_night(clip) for clip in drawn)
        print(f"{wording!r}: {count} of {NUM_SEEDS} by the rule")
        rows += [
            np.stack([clip[SHOWN_FRAME] for clip in drawn]),
            np.stack([trained[index, SHOWN_FRAME] for index, _ in nearest]),
        ]
        labels += [f"{wording}, seeds 0 to {NUM_SEEDS - 1}", "the nearest training clip of each"]
    contact_sheet(np.stack(rows), labels).save(options.sheet)
    among = [nearest_clip(seen[k : k + 1], np.delete(seen, k, axis=0))[1] for k in range(0, len(seen), 50)]
    print(f"distance to the nearest training clip: samples {np.median(closeness):.4f} (least {min(closeness):.4f}),")
    print(f"training clips among themselves {np.median(among):.4f} (least {min(among):.4f})")


def draw(service: GenerationService, prompt: str, seed: int, num_steps: int) -> np.ndarray:
    """One clip: uint8 f h w c."""
    settings = GenerationSettings(prompt=prompt, seed=seed, num_steps=num_steps)
    (clip,) = [clip for step in service.generate(settings) for clip in step.finished]
    return clip.frames


def small(clips: np.ndarray) -> np.ndarray:
    """Clips as they are compared: n f h w c, uint8, at a quarter of their size, flattened to n d in [0, 1]."""
    return reduce(clips.astype(np.float32) / 255, "n f (h p) (w q) c -> n (f h w c)", "mean", p=4, q=4)


def nearest_clip(clip: np.ndarray, others: np.ndarray) -> tuple[int, float]:
    """Index of the nearest of `others` (n d) and its mean squared distance. clip: 1 d."""
    distances = np.square(others - clip).mean(axis=1)
    return int(distances.argmin()), float(distances.min())


def is_fireworks_by_night(clip: np.ndarray) -> bool:
    """Whether sparks flare up and change on a sky that stays dark. clip: uint8 f h w c."""
    strongest = clip.max(axis=-1) / 255
    lit = (strongest > BRIGHT).mean(axis=(1, 2))
    return bool(np.median(strongest) < DARK and 0.01 < lit.max() < 0.5 and lit.max() - lit.min() > 0.005)


if __name__ == "__main__":
    main()
