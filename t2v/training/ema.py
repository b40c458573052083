"""Running averages of the weights, which are what people sample from."""

import copy

import torch
from torch import Tensor, nn


class EMA:
    """A copy of the network that follows it slowly.

    Up to step `start` it is a plain copy, so that early samples are not the noise of fresh weights. After that the
    decay rises as (1 + n) / (10 + n) with the n steps since, up to `decay`: a short run is averaged over its last
    tenth, not over its beginning. Without `ramp` the decay is `decay` at once.

    Without the ramp this is what the originals compute: improved-diffusion's `update_ema` with start 0, and dome272's
    `EMA` with start `step_start_ema`. Buffers differ: here they are always the network's own, where improved-diffusion
    averages parameters only and dome272 leaves the buffers as they were at the last copy. Ours hold facts about the
    training captions, of which there is nothing to average and nothing to be late with.
    """

    def __init__(self, network: nn.Module, *, decay: float, start: int, ramp: bool = True) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay
        self.start = start
        self.ramp = ramp

    def decay_at(self, step: int) -> float:
        """Weight of the past after optimizer step number `step`, counted from 1."""
        since = step - self.start
        if since <= 0:
            return 0.0
        return min(self.decay, (1 + since) / (10 + since)) if self.ramp else self.decay

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Move towards `network`, whose optimizer has just taken step number `step`."""
        weight = 1.0 - self.decay_at(step)
        averaged: list[Tensor] = list(self.network.parameters())
        current: list[Tensor] = list(network.parameters())
        if weight == 1.0:
            torch._foreach_copy_(averaged, current)
        else:
            torch._foreach_lerp_(averaged, current, weight)
        for kept, new in zip(self.network.buffers(), network.buffers(), strict=True):
            kept.copy_(new)
