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

    device: where the copy is kept (default: beside the network). An average in the CPU's memory visits the network's
    device for its update, so that it is the same to the last bit. There is room then: the gradients, which were as
    large, are gone.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        decay: float,
        start: int,
        ramp: bool = True,
        device: torch.device | None = None,
    ) -> None:
        self.home = next(network.parameters()).device
        self.kept = copy.deepcopy(network).to(device or self.home).eval().requires_grad_(False)
        self.decay = decay
        self.start = start
        self.ramp = ramp

    def decay_at(self, step: int) -> float:
        """Weight of the past after optimizer step number `step`, counted from 1."""
        since = step - self.start
        if since <= 0:
            return 0.0
        return min(self.decay, (1 + since) / (10 + since)) if self.ramp else self.decay

    @property
    def network(self) -> nn.Module:
        """The average where it can be drawn from: itself, or a copy on the network's device, gone with its caller."""
        here = next(self.kept.parameters()).device == self.home
        return self.kept if here else copy.deepcopy(self.kept).to(self.home)

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Move towards `network`, whose optimizer has just taken step number `step`."""
        weight = 1.0 - self.decay_at(step)
        averaged: list[Tensor] = list(self.kept.parameters())
        current: list[Tensor] = list(network.parameters())
        if weight == 1.0:
            torch._foreach_copy_(averaged, current)
        else:
            visiting = [average.to(new.device) for average, new in zip(averaged, current, strict=True)]
            torch._foreach_lerp_(visiting, current, weight)
            for average, moved in zip(averaged, visiting, strict=True):
                if moved is not average:
                    average.copy_(moved)
        for kept, new in zip(self.kept.buffers(), network.buffers(), strict=True):
            kept.copy_(new)
