"""What sampling with guidance costs beside the network itself: the same calls, made by the loop and made bare.

    OMP_NUM_THREADS=1 python benchmarks/guidance_cost.py

Alternates rounds of a guided walk (`sample_clips`, without any thresholding but static) with as many bare calls of the
network on batches of the same shape, and prints the ratio of the medians and of each round.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch

from t2v.config import GenerationSettings, SamplerName
from t2v.sampling import sample_clips
from t2v.service import GenerationService


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, help="a checkpoint (default: the model in the box)")
    parser.add_argument("--num-steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--samplers", nargs="+", default=["ddim", "ddpm", "dpmpp_2m", "unipc"], metavar=SamplerName)
    asked = parser.parse_args()
    service = GenerationService.load(asked.checkpoint)
    data, network = service.header.recipe.data, service.network
    shape = (data.channels, data.num_frames, data.size, data.size)
    text = None if service.header.cond_dim is None else service.encoder.encode(["fireworks at night"])
    calls: list[tuple[torch.Tensor, ...]] = []
    handle = network.register_forward_pre_hook(lambda module, given: calls.append(given))

    def walk(sampler: str) -> float:
        settings = GenerationSettings(num_steps=asked.num_steps, sampler=sampler, guidance_scale=3)
        started = time.perf_counter()
        for _ in sample_clips(
            network, service.diffusion, text=text, num_clips=1, shape=shape, seed=0, settings=settings
        ):
            pass
        return time.perf_counter() - started

    def bare(given: list[tuple[torch.Tensor, ...]]) -> float:
        started = time.perf_counter()
        with torch.inference_mode():
            for one in given:
                network(*one)
        return time.perf_counter() - started

    walk(asked.samplers[0])
    handle.remove()
    assert len(calls) == asked.num_steps and all(len(given[0]) == 2 for given in calls)
    bare(calls)
    seconds: dict[str, list[float]] = {"the network alone": []} | {name: [] for name in asked.samplers}
    for _ in range(asked.rounds):
        seconds["the network alone"].append(bare(calls))
        for name in asked.samplers:
            seconds[name].append(walk(name))
    alone = seconds["the network alone"]
    print(f"{asked.num_steps} guided steps, one call on a batch of two each; {asked.rounds} rounds")
    for name, took in seconds.items():
        ratios = [one / other for one, other in zip(took, alone, strict=True)]
        print(
            f"{name:<18} {statistics.median(took):7.3f} s   {statistics.median(took) / statistics.median(alone):6.3f} x"
            f"   each round {min(ratios):.3f} to {max(ratios):.3f}, median {statistics.median(ratios):.3f}"
        )


if __name__ == "__main__":
    main()
