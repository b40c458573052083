"""The running average of the weights, which is what people sample from."""

import copy

import torch
from torch import Tensor, nn


class EMA:
    """A copy of the network that follows it slowly.

    Up to step `start` it is a plain copy, so that early samples are not the noise of fresh weights. After that the
    decay rises as (1 + n) / (10 + n) with the n steps since, up to `decay`: a short run is averaged over its last
    tenth, not over its beginning.
    """

    def __init__(self, network: nn.Module, *, decay: float, start: int) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay
        self.start = start

    def decay_at(self, step: int) -> float:
        """Weight of the past after optimizer step number `step`, counted from 1."""
        since = step - self.start
        return 0.0 if since <= 0 else min(self.decay, (1 + since) / (10 + since))

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
