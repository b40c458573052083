"""What lies around the network: reading clips, drawing batches, and the way from the command to the first step.

    OMP_NUM_THREADS=1 python benchmarks/loading.py FOLDER [FOLDER ...]

Clips: decoded by t2v, by imageio alone (the same moments, the same square, Pillow's shrinking), and loaded through an
empty and a filled cache. Batches: drawing one beside a training step of a recipe, on made-up clips. Start: each
import and each thing that the first clip waits for, in processes of their own, and the whole command. All in
alternating rounds; medians are printed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import torch
from PIL import Image

from t2v.data.clip import frame_times
from t2v.data.folder import LoadedClips, load_clips
from t2v.data.pixels import Pixels
from t2v.reading import load_recipe
from t2v.runtime import Precision
from t2v.training.batches import TrainingClips, draw_batch
from t2v.training.choose import measure_cost

# Prints the seconds of each part of a start, as JSON.
START = """
import json, time
laps = {}
def lap(name):
    global since
    laps[name] = time.perf_counter() - since
    since = time.perf_counter()
since = time.perf_counter()
import t2v.cli.main; lap("commands and settings")
import torch; lap("torch")
import t2v.service; lap("the rest of t2v")
service = t2v.service.GenerationService.load(); lap("checkpoint and network")
if service.header.cond_dim is not None:
    service.encoder; lap("text encoder")
    service._encode("a cat"); lap("the first text")
    service._encode("a dog"); lap("a second text")
print(json.dumps(laps))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="*", help="folders of GIFs")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--num-frames", type=int, default=10)
    parser.add_argument("--recipe", default="tiny", help="of the training step")
    parser.add_argument("--prompt", default="fireworks at night")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    pixels = Pixels(num_frames=asked.num_frames, size=asked.size, channels=3, background="white", fit="crop")
    for folder in asked.folders:
        clips(folder, pixels, asked.rounds)
    batches(asked.recipe, asked.rounds)
    start(asked.prompt, asked.rounds)


def clips(folder: Path, pixels: Pixels, rounds: int) -> None:
    good = [record.path for record in load_clips(folder, pixels).records]

    def by_imageio() -> None:
        for path in good:
            read_by_imageio(path, pixels)

    with tempfile.TemporaryDirectory() as caches:
        number = iter(range(rounds))

        def load(cache: Path | None) -> LoadedClips:
            loaded = load_clips(folder, pixels, cache=cache)
            assert len(loaded.records) == len(good)
            return loaded

        def first() -> None:
            load(Path(caches, str(next(number))))

        def second() -> None:
            # Every pixel is touched, as an epoch would.
            assert sum(int(frames.sum()) for frames in load(Path(caches, "0")).frames)

        ways = {
            "t2v, decoded into memory": lambda: load(None),
            "imageio alone, one thread": by_imageio,
            "t2v, first start with a cache": first,
            "t2v, second start": second,
        }
        took = alternated(ways, rounds)
    what = f"{len(good)} clips as {pixels.num_frames} frames of {pixels.size}x{pixels.size}"
    print(f"\n{folder.parent.name}/{folder.name}: {what}")
    for name, seconds in took.items():
        ratio = took["imageio alone, one thread"] / seconds
        print(f"  {name:<32} {seconds:8.2f} s {len(good) / seconds:9.1f} clips/s {ratio:7.2f} x imageio")


def read_by_imageio(path: Path, pixels: Pixels) -> np.ndarray:
    """f h w 3, at the moments that t2v takes, in as few lines as people write."""
    with iio.imopen(path, "r", plugin="pillow") as file:
        frames = [np.asarray(frame) for frame in file.iter(mode="RGB")]
        frame_ms = [file.metadata(index=index).get("duration", 100) or 100 for index in range(len(frames))]
    chosen = {}
    for index in frame_times(frame_ms, pixels.num_frames).tolist():
        if index not in chosen:
            h, w = frames[index].shape[:2]
            side = min(h, w)
            top, left = (h - side) // 2, (w - side) // 2
            square = Image.fromarray(frames[index][top : top + side, left : left + side])
            chosen[index] = np.asarray(square.resize((pixels.size, pixels.size), Image.Resampling.HAMMING))
    return np.stack([chosen[index] for index in frame_times(frame_ms, pixels.num_frames).tolist()])


def batches(name: str, rounds: int) -> None:
    recipe = load_recipe(name)
    data, cond_dim = recipe.data, 384
    frames = torch.randint(0, 256, (64, data.num_frames, data.size, data.size, data.channels), dtype=torch.uint8)
    source = TrainingClips(frames, [(k,) for k in range(64)], [False] * 64, torch.randn(64, cond_dim))
    steps, draws = [], []
    for number in range(rounds):
        cost = measure_cost(
            recipe, cond_dim=cond_dim, num_prompts=1, device=torch.device("cpu"), precision=Precision("fp32", "")
        )
        steps.append(cost.seconds_per_step)
        started = time.perf_counter()
        for step in range(20):
            draw_batch(
                source,
                seed=0,
                step=20 * number + step,
                places=range(recipe.train.batch_size),
                global_batch=cost.clips_per_step,
                num_timesteps=recipe.diffusion.num_timesteps,
                flip_prob=data.flip_prob,
                drop_prob=recipe.text.drop_prob,
            )
        draws.append((time.perf_counter() - started) / 20 * recipe.train.accumulation)
    step_s, draw_s = statistics.median(steps), statistics.median(draws)
    print(f"\nrecipe {name}, {cost.clips_per_step} clips a step of {data.num_frames} x {data.size} x {data.size}")
    print(f"  step {step_s * 1e3:.0f} ms, its batch drawn in {draw_s * 1e3:.2f} ms: {draw_s / step_s:.2%}")


def start(prompt: str, rounds: int) -> None:
    command = [str(Path(sys.executable).with_name("t2v"))]
    parts: list[Mapping[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        out = ["--out", str(Path(folder, "clip.gif"))]
        took = alternated(
            {
                "t2v --help": lambda: quietly([*command, "--help"]),
                "parts": lambda: parts.append(json.loads(quietly([sys.executable, "-c", START]))),
                "t2v generate, one step": lambda: quietly([*command, "generate", prompt, "--num-steps", "1", *out]),
                "t2v generate": lambda: quietly([*command, "generate", prompt, *out]),
            },
            rounds,
        )
    print("\ncold start")
    for name in parts[0]:
        print(f"  {name:<32} {statistics.median(part[name] for part in parts):8.3f} s")
    for name in ("t2v --help", "t2v generate, one step", "t2v generate"):
        print(f"{name:<34} {took[name]:8.3f} s")


def quietly(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, env=dict(os.environ)).stdout


def alternated(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each way."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


if __name__ == "__main__":
    main()
