"""A process that computes some clips of each pass: `python -m t2v.training.clip_worker NUM_THREADS`.

`clip_processes` is the other end and the only one: what comes in is pickled.
"""

import pickle
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from t2v.pipes import take_over_pipes
from t2v.runtime import autocast
from t2v.training.clip_processes import SharedPlace, Text


class Share:
    """One process's part of a pass. Each method answers the question of its name."""

    network: nn.Module
    precision: str
    parameters: list[nn.Parameter]
    gradients: list[Tensor]
    output: Tensor

    def __init__(self, number: int) -> None:
        self.number = number

    def learn(self, network: nn.Module, precision: str, place: SharedPlace) -> None:
        """Take this network, whose parameters lie at `place`, and behind them each process's gradients."""
        memory = place.open()
        self.network, self.precision, self.parameters = network, precision, list(network.parameters())
        self.gradients = memory[1 + self.number]
        for parameter, shared in zip(self.parameters, memory[0], strict=True):
            parameter.data = shared

    def forward(self, x_t: Tensor, t: Tensor, text: Text) -> Tensor:
        """What the network says; the graph is kept for `backward`."""
        with autocast(self.precision, torch.device("cpu")):
            self.output = self.network(x_t, t, text)
        return self.output.detach()

    def backward(self, d_output: Tensor) -> list[bool]:
        """Write the gradients, and say which parameters have one."""
        found = torch.autograd.grad(self.output, self.parameters, d_output, allow_unused=True)
        del self.output  # the graph, and all that it keeps
        for gradient, room in zip(found, self.gradients, strict=True):
            if gradient is not None:
                room.copy_(gradient)
        return [gradient is not None for gradient in found]


def main(arguments: Sequence[str]) -> int:
    """Answer until the input ends. arguments: which process this is, and its threads"""
    requests, answers = take_over_pipes()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C in the terminal is for those who started this
    number, num_threads = map(int, arguments)
    torch.set_num_threads(num_threads)
    share = Share(number)
    with suppress(EOFError, BrokenPipeError):  # the other end has gone
        while True:
            what, *given = pickle.load(requests)
            try:
                answer: Any = getattr(share, what)(*given)
            except Exception as error:  # it is the other end's to raise
                answer = error
            pickle.dump(answer, answers)
            answers.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
