"""How fast the network is, beside the Unet3D and GaussianDiffusion of video-diffusion-pytorch 0.7.0 with equal weights.

    pip install --no-deps video-diffusion-pytorch==0.7.0 einops-exts==0.0.4
    python benchmarks/speed.py                    the table, some ten minutes
    python benchmarks/speed.py --profile          where our seconds go
    python benchmarks/speed.py --growth FILE.png  what frames, size and batch cost, as a table and a plot

The plot needs the extra `bench`.
Each side works in a process of its own, set up as each comes (ours as the `t2v` command sets itself up), with the same
number of threads, on the same inputs; they take turns, and the ratio is that of the medians. The original's settings:
dim 64, mults 1 2 4 8, text of 768. Outputs are compared as ||ours - theirs|| / ||theirs||. bf16 is tried where the
probe would take it.
"""

import argparse
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from peer import original_code

TEXT_DIM = 768
FORWARD, GUIDED, TRAINING = "forward", "guided sampling step", "training step"
GROWTH = {
    "frames": [(1, frames, 64) for frames in (8, 16, 32, 64)],
    "size": [(1, 10, size) for size in (32, 64, 96, 128)],
    "batch": [(batch, 10, 64) for batch in (1, 2, 4, 8)],
}

Work = Callable[[], Any]


@dataclass(frozen=True)
class Shape:
    """Of the clips: b, f and h = w."""

    batch: int
    frames: int
    size: int


def main() -> None:
    """Measure what is asked for and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=4, help="clips in the second training step")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--growth", type=Path, metavar="FILE.png")
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(asked.threads)
    with tempfile.TemporaryDirectory(prefix="t2v-speed-") as folder:
        weights = Path(folder) / "weights.pt"
        if asked.profile:
            with side("ours", weights, Shape(1, 10, 64)) as ours:
                print(ours("profile"))
        elif asked.growth:
            grow(asked.growth, weights, asked.rounds)
        else:
            compare(weights, asked)


def compare(weights: Path, asked: argparse.Namespace) -> None:
    """The table."""
    one = Shape(1, 10, 64)
    with side("peer", weights, one) as peer:
        peer("memory")  # once it answers, its weights are written
        with side("ours", weights, one) as ours:
            seconds, flops, machine = table(peer, ours, asked.rounds)
    many = Shape(asked.batch, 10, 64)
    with side("peer", weights, many) as peer, side("ours", weights, many) as ours:
        row(f"{TRAINING} of {asked.batch} clips", peer, ours, TRAINING, asked.rounds)
    peaks = {name: peak(name, weights, many) for name in ("peer", "ours", "lean")}
    for name in ("ours", "lean"):
        what = f"memory of a training step of {asked.batch} clips" + (", activations recomputed" * (name == "lean"))
        theirs, our = peaks["peer"], peaks[name]
        print(f"| {what} | {theirs:.0f} MB | {our:.0f} MB | {theirs / our:.2f} times less | | |")
    rate = flops / seconds / 1e9
    print(f"\nour forward: {flops / 1e9:.0f} GFLOP at {rate:.0f} GFLOP/s, {rate / machine['GFLOP/s, products']:.0%} of")
    print("what this machine reaches in matrix products of float32")


def table(peer: Work, ours: Work, rounds: int) -> tuple[float, int, dict[str, Any]]:
    """Print the rows that compare seconds. Returns those of our forward, its operations, and the machine."""
    machine = ours("machine")
    print("\n".join(f"{name}: {value}" for name, value in machine.items()))
    print(f"\n| what | theirs | ours | times as fast | {rounds} rounds | apart |\n|{' --- |' * 6}")
    seconds = row(FORWARD, peer, ours, FORWARD, rounds)
    for what in (GUIDED, TRAINING):
        row(what, peer, ours, what, rounds)
    if machine["bf16 is"] == "taken":
        row(f"{FORWARD}, ours in bf16", peer, ours, f"{FORWARD} bf16", rounds)
    return seconds, ours("flops"), machine


def row(what: str, peer: Work, ours: Work, work: str, rounds: int) -> float:
    """Alternate, and print one line. Returns our seconds."""
    seconds: dict[Work, list[float]] = {peer: [], ours: []}
    outputs: dict[Work, np.ndarray] = {}
    for turn in range(rounds + 1):
        for one in (peer, ours) if turn % 2 else (ours, peer):
            took, outputs[one] = one(work.removesuffix(" bf16") if one is peer else work)
            seconds[one] += [took] if turn else []
    each = [theirs / our for theirs, our in zip(seconds[peer], seconds[ours], strict=True)]
    apart = np.linalg.norm(outputs[ours] - outputs[peer]) / np.linalg.norm(outputs[peer])
    theirs, our = statistics.median(seconds[peer]), statistics.median(seconds[ours])
    spread = f"{min(each):.2f} to {max(each):.2f}"
    compared = f"{apart:.1e}" if work.startswith(FORWARD) else ""
    print(f"| {what} | {theirs:.2f} s | {our:.2f} s | {theirs / our:.2f} | {spread} | {compared} |", flush=True)
    return our


def grow(path: Path, weights: Path, rounds: int) -> None:
    """Print and plot our forward pass against frames, size and batch; 1.00 is linear growth from the smallest."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(GROWTH), figsize=(12, 3.6))
    for axis, (name, shapes) in zip(axes, GROWTH.items(), strict=True):
        values = [shape[("batch", "frames", "size").index(name)] for shape in shapes]
        # Frames and clips cost as much as there are of them, sides as their square.
        linear = [(value / values[0]) ** (2 if name == "size" else 1) for value in values]
        took = []
        for shape in shapes:
            with side("ours", weights, Shape(*shape)) as ours:
                took.append(statistics.median([ours(FORWARD)[0] for _ in range(rounds + 1)][1:]))
        print(f"\n| {name} | forward | over linear growth |\n| --- | --- | --- |")
        for value, seconds, share in zip(values, took, linear, strict=True):
            print(f"| {value} | {seconds:.3f} s | {seconds / took[0] / share:.2f} |", flush=True)
        axis.loglog(values, took, "o-", color="tab:orange", label="measured")
        axis.loglog(values, [took[0] * share for share in linear], ":", color="grey", label="in proportion")
        axis.set(xlabel=f"{name}{', pixels' * (name == 'size')}", ylabel="seconds, forward", xticks=values)
        axis.set_xticklabels(values)
        axis.minorticks_off()
        axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=90)


def peak(name: str, weights: Path, shape: Shape) -> float:
    """MB that two training steps take at most, beside what the process had with its libraries loaded."""
    with side(name, weights, shape) as worker:
        before = worker("memory before")
        for _ in range(2):
            worker(TRAINING)
        return float(worker("memory") - before)


@contextmanager
def side(name: str, weights: Path, shape: Shape) -> Iterator[Work]:
    """A process with one of the networks, as a function from a kind of work to what it gave."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(there, name, weights, shape), daemon=True)
    process.start()
    there.close()

    def ask(work: str) -> Any:
        here.send(work)
        try:
            given = here.recv()
        except EOFError:
            sys.exit(1)  # the process has said why
        return given

    try:
        yield ask
    finally:
        here.close()
        process.join()


def serve(connection: Connection, name: str, weights: Path, shape: Shape) -> None:
    """Work as asked: seconds and output for what is timed."""
    build = peer_works if name == "peer" else our_works
    works = build(weights, shape, lean=name == "lean")
    while True:
        try:
            what = connection.recv()
        except EOFError:
            return
        if not what.startswith((FORWARD, GUIDED, TRAINING)):
            connection.send(works[what]())
            continue
        started = time.perf_counter()
        output = works[what]()
        took = time.perf_counter() - started
        connection.send((took, output.float().numpy()))


def peer_works(weights: Path, shape: Shape, *, lean: bool) -> dict[str, Work]:
    """The original's network, diffusion, average and Adam, called as its Trainer does. Writes its weights."""
    import torch

    original = original_code()

    before = most_held()
    torch.manual_seed(0)
    network = original.Unet3D(dim=64, cond_dim=TEXT_DIM)
    if not weights.exists():
        torch.save(network.state_dict(), weights)
    diffusion = original.GaussianDiffusion(network, image_size=shape.size, num_frames=shape.frames)
    x, t, text = inputs(shape)
    averaged: list[Any] = []

    def train() -> Any:
        if not averaged:
            import copy

            averaged.extend((original.EMA(0.995), copy.deepcopy(diffusion), torch.optim.Adam(diffusion.parameters())))
        ema, average, optimizer = averaged
        loss = diffusion((x.clamp(-1, 1) + 1) / 2, cond=text)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        ema.update_model_average(average, diffusion)
        return loss.detach()

    return {
        FORWARD: torch.no_grad()(lambda: network(x, t, cond=text)),
        GUIDED: lambda: diffusion.p_sample(x, t, cond=text, cond_scale=2.0),
        TRAINING: train,
        "memory": most_held,
        "memory before": lambda: before,
    }


def our_works(weights: Path, shape: Shape, *, lean: bool) -> dict[str, Work]:
    """t2v's network with the original's weights, where there are any, its diffusion and what trains it."""
    from t2v.cli.main import set_up_process

    set_up_process()
    import torch

    from t2v.config import TrainSettings
    from t2v.diffusion import GaussianDiffusion
    from t2v.diffusion.guidance import Guidance
    from t2v.diffusion.schedule import make_schedule
    from t2v.model import Unet3D
    from t2v.model.lucidrains import unet_weights
    from t2v.training.clip_threads import ClipThreads, best_shares
    from t2v.training.ema import EMA
    from t2v.training.optimizer import build_optimizer

    before = most_held()
    torch.manual_seed(0)
    network = Unet3D(64, cond_dim=TEXT_DIM)
    if weights.exists():
        network.load_state_dict(unet_weights(torch.load(weights)).state)
    network.checkpoint_activations = lean
    diffusion = GaussianDiffusion(schedule=make_schedule("cosine", 1000), loss="l1")
    x, t, pooled = inputs(shape)
    text = {"pooled": pooled, "is_null": torch.zeros(len(x), dtype=torch.bool)}
    state: list[Any] = []

    def guided() -> Any:
        walk = diffusion.sample(
            network, x, noise=lambda step: torch.randn_like(x), text=text, sampler="ddpm", guidance=Guidance(scale=2.0)
        )
        return next(walk).x_t

    def side_by_side() -> Any:
        num_cores = torch.get_num_threads()
        num_shares = best_shares(num_clips=len(x), num_cores=num_cores)
        if num_shares == 1 or lean:
            return network
        return ClipThreads(network, network, num_shares=num_shares, num_cores=num_cores)

    def train() -> Any:
        if not state:
            optimizer = build_optimizer(network.parameters(), TrainSettings())
            state.extend((EMA(network, decay=0.995, start=0), optimizer, side_by_side()))
        ema, optimizer, answer = state
        noise = torch.randn_like(x)
        loss = diffusion.losses(answer, x.clamp(-1, 1), torch.randint(0, 1000, (len(x),)), noise, text).total.mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        ema.update(network, 1)
        return loss.detach()

    def forward() -> Any:
        with torch.no_grad():
            return network(x, t, text)

    def forward_bf16() -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return forward()

    return {
        FORWARD: forward,
        f"{FORWARD} bf16": forward_bf16,
        GUIDED: guided,
        TRAINING: train,
        "memory": most_held,
        "memory before": lambda: before,
        "machine": machine,
        "flops": lambda: count_flops(forward),
        "profile": lambda: profile(forward),
    }


def inputs(shape: Shape) -> tuple[Any, Any, Any]:
    """The same on both sides: x, t, text."""
    import torch

    draw = torch.Generator().manual_seed(1)
    x = torch.randn(shape.batch, 3, shape.frames, shape.size, shape.size, generator=draw)
    return x, torch.full((shape.batch,), 999), torch.randn(shape.batch, TEXT_DIM, generator=draw)


def most_held() -> float:
    """The most memory this process has held, in MB. Linux counts it in KiB, macOS in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def machine() -> dict[str, Any]:
    """What this machine is and reaches, in float32."""
    import torch

    from t2v.runtime import MIN_BF16_SPEEDUP, bf16_matmul_speedup
    from t2v.training.machine import convolution_rate, matmul_rate, processor_name

    cpu, speedup = torch.device("cpu"), bf16_matmul_speedup()
    return {
        "processor": processor_name(cpu),
        "torch": f"{torch.__version__}, {torch.get_num_threads()} threads; Python {platform.python_version()}",
        "GFLOP/s, products": round(matmul_rate(cpu, torch.float32)),
        "GFLOP/s, 3x3 convolutions": round(convolution_rate(cpu, torch.float32)),
        "bf16, times as fast in products": round(speedup, 2),
        "bf16 is": "taken" if speedup > MIN_BF16_SPEEDUP else "not taken",
    }


def count_flops(work: Work) -> int:
    """Multiplications and additions of the products and convolutions."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def profile(work: Work) -> str:
    """Which operations take our seconds, the second time round."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as watch

    work()
    with watch(activities=[ProfilerActivity.CPU]) as watched:
        work()
    return watched.key_averages().table(sort_by="self_cpu_time_total", row_limit=15, max_name_column_width=45)


if __name__ == "__main__":
    main()
