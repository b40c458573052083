"""Teaches the network whose features `t2v evaluate` measures distances in, and says how well it names what it sees.

    python benchmarks/features.py --num-clips 10000 --epochs 8

Draws worlds of every split and several sizes, lengths and rates, teaches the network to say which facts hold of a clip
(several of each kind may), and writes t2v/evaluation/features.safetensors: half precision, without the layer of names.
Takes some 11 minutes of one CPU core. A new file makes distances incomparable with those of the old one; reports hold
its hash.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from t2v.data.worlds import draw_world
from t2v.evaluation import features
from t2v.evaluation.features import NUM_FEATURES, FeatureNet, prepared

SEED = 31  # of the clips it learns from; those it is tried on have the next
SIZES = (32, 48, 64)
BATCH = 32
PEAK_RATE = 3e-3
MOST_NOISE = 0.06  # of levels in [-1, 1]: what models draw is never quite clean


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-clips", type=int, default=10_000)
    parser.add_argument("--num-tried", type=int, default=1000, help="clips that it is tried on")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path(features.__file__).with_name(features.FILE))
    asked = parser.parse_args()
    torch.manual_seed(SEED)
    clips, facts = drawn(SEED, asked.num_clips)
    tried, tried_facts = drawn(SEED + 1, asked.num_tried)
    names = sorted({name for one in facts for name in one})
    print(f"{len(clips)} clips, {len(names)} names, {time.process_time():.0f} s of CPU time", flush=True)
    network, heads = FeatureNet(), nn.Linear(NUM_FEATURES, len(names))
    for epoch, loss in enumerate(taught(network, heads, clips, targets(facts, names), asked.epochs), start=1):
        right = shares(network, heads, tried, tried_facts, names)
        told = ", ".join(f"{kind} {share:.1%}" for kind, share in right.items())
        print(f"epoch {epoch}: loss {loss:.3f}; {told}; {time.process_time():.0f} s", flush=True)
        save(network, asked.out)


def drawn(seed: int, num_clips: int) -> tuple[Tensor, list[set[str]]]:
    """Clips as the network takes them, in [-1, 1], n 3 f h w as half floats, and the names of what each shows."""
    clips, facts = [], []
    for index in range(num_clips):
        rng = np.random.default_rng([seed, index])
        size, num_frames, seconds = int(rng.choice(SIZES)), int(rng.integers(8, 17)), rng.uniform(0.8, 2.0)
        clip = draw_world(seed, index, size=size, num_frames=num_frames, fps=num_frames / seconds)
        clips.append(prepared(clip.frames).half())
        facts.append(names_of(clip.facts))
    return torch.stack(clips), facts


def names_of(facts: dict[str, Any]) -> set[str]:
    """Facts as names such as "colour red": of several subjects the names of all."""
    whole = {f"{name} {value}" for name, value in facts.items() if name != "subjects" and value is not None}
    return whole | {f"{name} {value}" for one in facts["subjects"] for name, value in one.items() if value is not None}


def targets(facts: Sequence[set[str]], names: Sequence[str]) -> Tensor:
    return torch.tensor([[float(name in one) for name in names] for one in facts])


def taught(network: nn.Module, heads: nn.Module, clips: Tensor, wanted: Tensor, epochs: int) -> Iterator[float]:
    """Teach for so many epochs; yields the mean loss of each."""
    parameters = [*network.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=PEAK_RATE, weight_decay=0.01)
    num_steps = epochs * (len(clips) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=PEAK_RATE, total_steps=num_steps)
    for _ in range(epochs):
        network.train()
        losses = []
        for rows in torch.randperm(len(clips))[: len(clips) // BATCH * BATCH].split(BATCH):
            x = clips[rows].float()
            x += torch.randn_like(x) * torch.rand(len(rows), 1, 1, 1, 1) * MOST_NOISE
            loss = functional.binary_cross_entropy_with_logits(heads(network(x)), wanted[rows], reduction="none")
            optimizer.zero_grad()
            loss.sum(1).mean().backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.sum(1).mean().item())
        yield float(np.mean(losses))


@torch.inference_mode()
def shares(
    network: nn.Module, heads: nn.Module, clips: Tensor, facts: Sequence[set[str]], names: Sequence[str]
) -> dict[str, float]:
    """For each kind of name the share of clips that it names wholly: the likeliest names, as many as there are."""
    network.eval()
    logits = torch.cat([heads(network(part.float())) for part in clips.split(BATCH)])
    right = {}
    for kind in ("family", "subject", "colour", "motion", "size", "backdrop", "number"):
        places = [place for place, name in enumerate(names) if name.startswith(f"{kind} ")]
        hits = []
        for row, one in zip(logits, facts, strict=True):
            there = {name for name in one if name.startswith(f"{kind} ")}
            likely = row[places].topk(min(len(there), len(places))).indices.tolist()
            hits.append({names[places[place]] for place in likely} == there)
        right[kind] = float(np.mean(hits))
    return right


def save(network: nn.Module, path: Path) -> None:
    weights = network.state_dict().items()
    save_file({name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in weights}, path)


if __name__ == "__main__":
    main()
