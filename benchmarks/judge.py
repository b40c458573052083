"""How often the judge is right on true clips, clean and damaged, and what it takes them for when it is not.

    python benchmarks/judge.py --num-clips 2000 --sizes 64 32

For every family, size and kind of damage: the share read rightly of each attribute with its 95% interval (Wilson), the
share of all attributes at once, how often something was "unknown", the commonest errors, and clips judged per second of
CPU time. Clips come from a seed that no data set uses.
"""

import argparse
import io
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from t2v.data.worlds import FAMILIES, draw_world
from t2v.evaluation.intervals import wilson
from t2v.evaluation.judge import READERS, judge
from t2v.evaluation.reading import UNKNOWN, Reading, agrees

Frames = NDArray[np.uint8]
SEED = 97


def noisy(frames: Frames, rng: np.random.Generator) -> Frames:
    return to_levels(frames + rng.normal(0, 0.03 * 255, frames.shape))


def blurred(frames: Frames, rng: np.random.Generator) -> Frames:
    """By half a pixel: a kernel of variance 1/4 in each direction."""
    smooth = frames.astype(float)
    for axis in (1, 2):
        smooth = 0.75 * smooth + 0.125 * (shifted(smooth, 1, axis) + shifted(smooth, -1, axis))
    return to_levels(smooth)


def shifted(values: NDArray[Any], step: int, axis: int) -> NDArray[Any]:
    length = values.shape[axis]
    return np.take(values, np.clip(np.arange(length) + step, 0, length - 1), axis=axis)


def jpeg(frames: Frames, rng: np.random.Generator) -> Frames:
    files = [io.BytesIO() for _ in frames]
    for frame, file in zip(frames, files, strict=True):
        Image.fromarray(frame).save(file, "JPEG", quality=75)
    return np.stack([np.asarray(Image.open(file)) for file in files])


def tinted(frames: Frames, rng: np.random.Generator) -> Frames:
    """The whole clip a little brighter or darker, and each channel by a little more."""
    return to_levels(frames + 255 * (rng.uniform(-0.04, 0.04) + rng.uniform(-0.02, 0.02, 3)))


def speckled(frames: Frames, rng: np.random.Generator) -> Frames:
    """Five pixels of each frame are of any colour."""
    spoiled = frames.copy()
    for frame in spoiled:
        rows, columns = rng.integers(0, len(frame), (2, 5))
        frame[rows, columns] = rng.integers(0, 256, (5, 3))
    return spoiled


def everything(frames: Frames, rng: np.random.Generator) -> Frames:
    return speckled(noisy(tinted(blurred(frames, rng), rng), rng), rng)


def to_levels(values: NDArray[Any]) -> Frames:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


DAMAGES: dict[str, Callable[[Frames, np.random.Generator], Frames]] = {
    "clean": lambda frames, rng: frames,
    "noise 0.03": noisy,
    "blur 0.5 px": blurred,
    "JPEG 75": jpeg,
    "tint": tinted,
    "speckles": speckled,
    "everything": everything,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-clips", type=int, default=2000, help="of each family at each size")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 32])
    parser.add_argument("--num-frames", type=int, default=10)
    parser.add_argument("--fps", type=float, default=8.0)
    names = [name for name in READERS if name in FAMILIES]
    parser.add_argument("--families", nargs="+", choices=names, default=names)
    parser.add_argument("--damages", nargs="+", choices=list(DAMAGES), default=list(DAMAGES))
    asked = parser.parse_args()
    print(f"{asked.num_clips} clips each, {asked.num_frames} frames at {asked.fps:g} a second, seed {SEED}")
    for family in asked.families:
        for size in asked.sizes:
            tallies = {damage: Tally() for damage in asked.damages}
            for index in range(asked.num_clips):
                clip = draw_world(
                    SEED, index, size=size, num_frames=asked.num_frames, fps=asked.fps, families=(family,)
                )
                for damage, tally in tallies.items():
                    tally.add(DAMAGES[damage](clip.frames, np.random.default_rng([SEED, index])), clip.facts)
            print(f"\n{family} at {size} x {size}\n")
            print("\n".join(table(tallies)), flush=True)


class Tally:
    """What was right, what was wrong, and what it was taken for."""

    def __init__(self) -> None:
        self.num_clips = 0
        self.right: Counter[str] = Counter()
        self.unknown = 0
        self.errors: Counter[str] = Counter()
        self.seconds = 0.0

    def add(self, frames: Frames, facts: dict[str, Any]) -> None:
        started = time.process_time()
        reading = judge(frames)
        self.seconds += time.process_time() - started
        verdicts = agrees(reading, facts)
        self.num_clips += 1
        self.right.update([*(name for name, right in verdicts.items() if right), *["all"] * all(verdicts.values())])
        self.unknown += any(UNKNOWN in seen for seen in reading.subjects)
        self.errors.update(
            error for name, right in verdicts.items() if not right for error in mistaken(name, reading, facts)
        )


def mistaken(name: str, reading: Reading, facts: dict[str, Any]) -> Iterator[str]:
    """What was there and what was seen, for one attribute; of the traits of subjects those that differ."""
    if reading.family != facts["family"]:
        if name == "family":
            yield f"{facts['family']} as {reading.family}"
    elif name in facts:
        yield f"{name} {facts[name]} as {getattr(reading, name, reading.others.get(name))}"
    else:
        there = Counter(str(subject[name]) for subject in facts["subjects"])
        seen = Counter(str(getattr(subject, name)) for subject in reading.subjects)
        lost, gained = (", ".join(sorted(more)) or "nothing" for more in (there - seen, seen - there))
        yield f"{name} {lost} as {gained}"


def table(tallies: dict[str, Tally]) -> Iterator[str]:
    names = [name for name, _ in next(iter(tallies.values())).right.most_common() if name != "all"]
    columns = [*sorted(names), "all"]
    yield f"| damage | {' | '.join(columns)} | with unknown | clips a second |"
    yield f"| --- |{' --- |' * (len(columns) + 2)}"
    for damage, tally in tallies.items():
        shares = [f"{100 * tally.right[name] / tally.num_clips:.2f}" for name in columns]
        spans = [wilson(tally.right[name], tally.num_clips) for name in columns]
        cells = [
            f"{share} ({100 * low:.1f}-{100 * high:.1f})" for share, (low, high) in zip(shares, spans, strict=True)
        ]
        rate = tally.num_clips / max(tally.seconds, 1e-9)
        yield f"| {damage} | {' | '.join(cells)} | {100 * tally.unknown / tally.num_clips:.2f} | {rate:.0f} |"
    yield ""
    for damage, tally in tallies.items():
        worst = "; ".join(f"{error} ({count})" for error, count in tally.errors.most_common(6))
        yield f"{damage}: {worst or 'no errors'}"


if __name__ == "__main__":
    main()
