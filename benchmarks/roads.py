"""What each setting of the network's shape costs: parameters, time and memory of a training step.

    OMP_NUM_THREADS=1 python benchmarks/roads.py --dim 32 --size 32 --batch 2

A step is forward and backward in float32 on the CPU, without the optimizer. The variants take turns in every round, so
that a machine busy with other work slows all of them; ratios are of medians, to the original's. Memory is the most that
a process of its own held in its first step, less what it held before, gradients included.
"""

import argparse
import multiprocessing
import os
import statistics
import time
from typing import Any

import torch
from speed import most_held

from t2v.model import Unet3D

AGAIN = "checkpoint_activations"  # the one that is set on a network and does not shape it
VARIANTS: dict[str, dict[str, Any]] = {
    "original": {},
    "patch 2": {"patch": 2},
    "patch 4": {"patch": 4},
    "no linear attention": {"spatial_attn": "none"},
    "full at the lower two levels": {"spatial_attn": ("linear", "linear", "full", "full")},
    "full there, none above": {"spatial_attn": ("none", "none", "full", "full")},
    "one block a level": {"blocks": 1},
    "blocks 1 1 2 3": {"blocks": (1, 1, 2, 3)},
    "two heads": {"attn_heads": 2},
    "heads 1 2 4 8": {"attn_heads": (1, 2, 4, 8)},
    "over frames at the lower two": {"temporal_attn": (False, False, True, True)},
    "zero init": {"zero_init": True},
    "activations again": {AGAIN: True},
    "all attention at the lower two": {
        "spatial_attn": ("none", "none", "full", "full"),
        "temporal_attn": (False, False, True, True),
    },
}


class Steps:
    """Training steps of one variant on made-up clips."""

    def __init__(self, name: str, asked: argparse.Namespace) -> None:
        settings = dict(VARIANTS[name])
        again = settings.pop(AGAIN, False)
        torch.manual_seed(0)
        self.network = Unet3D(asked.dim, dim_mults=(1, 2, 4, 8), cond_dim=384, **settings)
        self.network.checkpoint_activations = again
        self.x_t, self.noise = torch.randn(2, asked.batch, 3, asked.frames, asked.size, asked.size)
        self.t = torch.randint(0, 1000, (asked.batch,))
        self.text = {"pooled": torch.randn(asked.batch, 384), "is_null": torch.zeros(asked.batch, dtype=torch.bool)}

    def take(self) -> float:
        """Returns its seconds."""
        started = time.perf_counter()
        (self.network(self.x_t, self.t, self.text) - self.noise).square().mean().backward()
        self.network.zero_grad()
        return time.perf_counter() - started

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.network.parameters())


def peak_mb(name: str, asked: argparse.Namespace) -> float:
    """Of the first step, in the process that calls it."""
    # What a first step loads is no part of it.
    Unet3D(8, dim_mults=(1,))(torch.randn(1, 3, 2, 8, 8), torch.zeros(1)).sum().backward()
    steps, before = Steps(name, asked), most_held()
    steps.take()
    return most_held() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS), metavar="NAME")
    parser.add_argument("--dim", type=int, default=32)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--frames", type=int, default=10)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    names = list(dict.fromkeys(["original", *asked.variants]))
    # glibc gives blocks over this size back as soon as they are free; otherwise its heap's gaps are counted too.
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"
    # First, as a process inherits the mark of what the one that started it held.
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        peaks = dict(zip(names, pool.starmap(peak_mb, [(name, asked) for name in names], chunksize=1), strict=True))
    steps = {name: Steps(name, asked) for name in names}
    for one in steps.values():
        one.take()
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(asked.rounds):
        for name, one in steps.items():
            seconds[name].append(one.take())

    print(
        f"dim {asked.dim}, {asked.size}x{asked.size}x{asked.frames}, batch {asked.batch}, {asked.rounds} rounds, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}\n"
    )
    print("| variant | parameters, M | s/step | to the original's | fastest | peak, MB | to the original's |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    usual = statistics.median(seconds["original"])
    for name in names:
        took = statistics.median(seconds[name])
        print(
            f"| {name} | {steps[name].num_parameters / 1e6:.2f} | {took:.3f} | {took / usual:.2f} | "
            f"{min(seconds[name]):.3f} | {peaks[name]:.0f} | {peaks[name] / peaks['original']:.2f} |"
        )


if __name__ == "__main__":
    main()
