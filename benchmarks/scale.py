"""Data sets of 200, 2,000 and 20,000 clips: what they cost in time and memory, as a folder and as shards.

    OMP_NUM_THREADS=1 python benchmarks/scale.py [--counts 200 2000 20000] [--folder KEPT]

Small GIFs of moving squares are made once and kept below --folder, if one is given. Each figure is taken in a process
of its own: the cache built and opened again, shards packed and opened, and 20 batches drawn from either; peak memory is
what the process held beside mapped files. imageio alone (imread of every file, then the same square and size) is timed
on the same files, without a cache as it has none.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # what is imported counts in what is measured
    from t2v.data.pixels import Pixels

COUNTS = (200, 2_000, 20_000)
SIDE, NUM_FRAMES = 96, 20
SHARD_BYTES = 16 << 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--folder", type=Path, help="where clips are kept from one start to the next")
    parser.add_argument("--imageio-at-most", type=int, default=2_000, help="files that imageio is timed on")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        way, clips, cache, number = asked.one
        print(json.dumps(WAYS[way](Path(clips), Path(cache), int(number))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        top = asked.folder or Path(temporary)
        for count in asked.counts:
            measure(top / str(count), count, asked.imageio_at_most)


def measure(clips: Path, count: int, imageio_at_most: int) -> None:
    if not clips.exists():
        make_clips(clips, count)
        time.sleep(3)  # a file that was only just written is not relied on
    size = sum(path.stat().st_size for path in clips.iterdir())
    print(f"\n{count:,} clips of {NUM_FRAMES} frames of {SIDE}x{SIDE}, {size >> 20} MB", flush=True)
    with tempfile.TemporaryDirectory(dir=clips.parent) as made:
        cache, shards = Path(made, "cache"), Path(made, "shards")
        ways = {
            "imageio alone": ("imageio", clips, min(count, imageio_at_most)),
            "folder, cache built": ("load", clips, count),
            "folder, opened again": ("load", clips, count),
            "shards packed": ("pack", clips, count),
            "shards, first opened": ("open", shards, count),
            "shards, opened again": ("open", shards, count),
            "batches of the folder": ("draw", clips, 320),
            "batches of the shards": ("draw", shards, 320),
        }
        for name, (way, source, number) in ways.items():
            if source == shards:
                time.sleep(3 if name.endswith("first opened") else 0)
            took = in_process(way, source, cache, number)
            rate = f"{number / took['seconds']:10,.0f} clips/s"
            print(
                f"  {name:<24}{took['seconds']:9.2f} s{rate}  CPU {took['cpu']:8.2f} s  peak {took['peak_mb']:6.0f} MB "
                f"(before {took['before_mb']:.0f})",
                flush=True,
            )


def in_process(way: str, source: Path, cache: Path, number: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", way, str(source), str(cache), str(number)]
    told: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return told


def make_clips(folder: Path, count: int) -> None:
    """GIFs that differ, each of a square that moves over noise."""
    from t2v.data.gif import encode

    folder.mkdir(parents=True)
    for number in range(count):
        draw = np.random.default_rng(number)
        palette = draw.integers(0, 256, (16, 3), dtype=np.uint8)
        frames = np.tile(palette[draw.integers(0, 8, (12, 12))].repeat(8, 0).repeat(8, 1), (NUM_FRAMES, 1, 1, 1))
        for index, frame in enumerate(frames):
            at = (number + 3 * index) % (SIDE - 24)
            frame[at : at + 24, at : at + 24] = palette[8 + number % 8]
        (folder / f"{number:06}.gif").write_bytes(encode(frames, frame_ms=50, comment=None))
        (folder / f"{number:06}.txt").write_text(f"square {number % 500} of colour {number % 8}")


def pixels() -> "Pixels":
    from t2v.data.pixels import Pixels

    return Pixels(num_frames=10, size=64, channels=3, background="white", fit="crop")


@contextmanager
def measured(told: dict[str, float]) -> Iterator[None]:
    """Seconds, seconds of CPU here and in ended children, and the most memory held beside files."""
    before = held_mb()
    peak, done = [before], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], held_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    started, cpu = time.perf_counter(), cpu_seconds()
    try:
        yield
    finally:
        told |= {"seconds": time.perf_counter() - started, "cpu": cpu_seconds() - cpu}
        done.set()
        watcher.join()
        told |= {"peak_mb": max(peak[0], held_mb()), "before_mb": before}


def held_mb() -> float:
    """Memory of this process that no file stands behind."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:  # no Linux: the most ever held, with files
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))


def cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def load(source: Path, cache: Path, number: int) -> dict[str, float]:
    from t2v.data.folder import load_clips

    told: dict[str, float] = {}
    with measured(told):
        assert len(load_clips(source, pixels(), cache=cache).records) == number
    return told


def pack(source: Path, cache: Path, number: int) -> dict[str, float]:
    from t2v.data.pack import pack_folder

    told: dict[str, float] = {}
    with measured(told):
        pack_folder(source, cache.with_name("shards"), max_bytes=SHARD_BYTES)
    return told


def open_shards(source: Path, cache: Path, number: int) -> dict[str, float]:
    from t2v.data.shards import find_shards, load_shards

    told: dict[str, float] = {}
    with measured(told):
        assert len(load_shards(find_shards(source), pixels(), cache=cache).records) == number
    return told


def draw(source: Path, cache: Path, number: int) -> dict[str, float]:
    """20 batches, with opening what they are drawn from."""
    import torch

    from t2v.data.folder import load_clips
    from t2v.data.shards import find_shards, load_shards
    from t2v.training.batches import MappedClips, TrainingClips, draw_batch

    torch.randn(1)
    told: dict[str, float] = {}
    with measured(told):
        shards = find_shards(source)
        loaded = load_shards(shards, pixels(), cache=cache) if shards else load_clips(source, pixels(), cache=cache)
        clips = TrainingClips(MappedClips(loaded.frames), [()] * len(loaded.frames), (), None)
        if clips.stream is not None:
            clips.stream.follow((clips.index(seed=0, drawn_before=k) for k in range(number)), ahead=32)
        batch = number // 20
        for step in range(20):
            draw_batch(
                clips,
                seed=0,
                step=step,
                places=range(batch),
                global_batch=batch,
                num_timesteps=1000,
                flip_prob=0.5,
                drop_prob=0.0,
            )
        if clips.stream is not None:
            clips.stream.close()
    return told


def imageio(source: Path, cache: Path, number: int) -> dict[str, float]:
    """All frames read, then the same moments made square and small, as few lines as people write."""
    import imageio.v3 as iio
    from PIL import Image

    told: dict[str, float] = {}
    chosen = (np.arange(10) + 0.5) * NUM_FRAMES / 10
    kept = []
    with measured(told):
        for path in sorted(source.glob("*.gif"))[:number]:
            frames = iio.imread(path, mode="RGB")
            kept.append(
                np.stack(
                    [
                        np.asarray(Image.fromarray(frames[index]).resize((64, 64), Image.Resampling.HAMMING))
                        for index in chosen.astype(int)
                    ]
                )
            )
    return told


WAYS: dict[str, Callable[[Path, Path, int], dict[str, float]]] = {
    "load": load,
    "pack": pack,
    "open": open_shards,
    "draw": draw,
    "imageio": imageio,
}


if __name__ == "__main__":
    main()
