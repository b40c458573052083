"""The clips of a pass computed side by side on a CPU, each thread with some of them.

torch shares every operation among the cores and waits for all of them at its end, many thousand times a step. Threads
that each take some of the clips through the whole network meet twice a step instead.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from threading import Barrier
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Text = dict[str, Tensor] | None
Answer = Callable[[Tensor, Tensor, Text], Tensor]


class ClipThreads:
    """`answer` for many clips at once, with gradients to the network's parameters.

    answer: network(x_t, t, text) -> output, in whatever precision it sets up by itself, calling `network`
    num_shares: into how many the clips of a pass are split, evenly and in order; equal numbers give equal bits
    num_cores: shared among them
    """

    def __init__(self, network: nn.Module, answer: Answer, *, num_shares: int, num_cores: int) -> None:
        self._parameters = tuple(network.parameters())
        self._answer = answer
        self._num_shares = num_shares
        self._pool = _pool(num_shares, cores_each=num_cores // num_shares)

    def __call__(self, x_t: Tensor, t: Tensor, text: Text) -> Tensor:
        """x_t: b c f h w; t: b; text: tensors with the clips first, or None. Returns b c' f h w."""
        if len(x_t) == 1:
            return self._answer(x_t, t, text)
        parts = _shares(x_t, t, text, min(self._num_shares, len(x_t)))
        compute: Callable[..., Tensor] = _SideBySide.apply
        return compute(self, parts, *self._parameters)

    def forward(self, parts: "Sequence[_Share]") -> list[Tensor]:
        """What the network says of each share, each with the graph that its gradients need."""

        def one(part: _Share) -> Tensor:
            with torch.enable_grad():
                return self._answer(*part)

        return list(self._pool.map(one, parts))

    def backward(self, outputs: Sequence[Tensor], d_outputs: Sequence[Tensor]) -> Iterator[Tensor | None]:
        """The gradient of each parameter: the sum over the shares, in their order."""

        def one(output: Tensor, d_output: Tensor) -> tuple[Tensor | None, ...]:
            return torch.autograd.grad(output, self._parameters, d_output, allow_unused=True)

        for shares in zip(*self._pool.map(one, outputs, d_outputs), strict=True):
            total, *others = shares
            for other in others:
                total = other if total is None else total if other is None else total + other
            yield total


def best_shares(*, num_clips: int, num_cores: int) -> int:
    """Into how many the clips are best split, if cores that work on one share gained in full: the most shares among
    those splits that end first."""
    splits = range(1, min(num_clips, num_cores) + 1)
    return min(splits, key=lambda shares: (math.ceil(num_clips / shares) / (num_cores // shares), -shares))


class _Share(NamedTuple):
    x_t: Tensor
    t: Tensor
    text: Text


class _SideBySide(torch.autograd.Function):
    """One step of the outer graph, in which the shares keep graphs of their own."""

    @staticmethod
    def forward(ctx: Any, threads: ClipThreads, parts: Sequence[_Share], *parameters: Tensor) -> Tensor:
        ctx.threads, ctx.outputs = threads, threads.forward(parts)
        return torch.cat([output.detach() for output in ctx.outputs])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        d_outputs = d_out.split([len(output) for output in ctx.outputs])
        gradients = tuple(ctx.threads.backward(ctx.outputs, d_outputs))
        del ctx.outputs  # the graphs, and all that they keep
        return (None, None, *gradients)


def _shares(x_t: Tensor, t: Tensor, text: Text, number: int) -> list[_Share]:
    texts = [text] * number
    if text is not None:
        each = {key: value.tensor_split(number) for key, value in text.items()}
        texts = [{key: values[place] for key, values in each.items()} for place in range(number)]
    return [_Share(*share) for share in zip(x_t.tensor_split(number), t.tensor_split(number), texts, strict=True)]


def _pool(num_threads: int, *, cores_each: int) -> ThreadPoolExecutor:
    in_use, all_started = torch.get_num_threads(), Barrier(num_threads)

    def start() -> None:
        torch.get_num_threads()  # at a thread's first need of it torch sets the number anew: here, not later
        torch.set_num_threads(cores_each)
        all_started.wait()

    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="clips", initializer=start)
    wait([pool.submit(torch.get_num_threads) for _ in range(num_threads)])
    # The number is a thread's own, save that threads to come start with the one that was set last.
    torch.set_num_threads(in_use)
    return pool
