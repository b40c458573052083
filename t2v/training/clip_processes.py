"""The clips of a pass computed side by side on a CPU, each process with some of them.

torch shares every operation among the cores and waits for all of them at its end, many thousand times a step. Processes
that each take some of the clips through the whole network meet twice a step instead.
"""

import math
import os
import pickle
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from t2v.errors import RunError

Text = dict[str, Tensor] | None

# -P: what lies in the folder where a person happens to be must not pass for a library.
COMMAND = (sys.executable, "-P", "-m", "t2v.training.clip_worker")
ALIGNMENT = 64  # bytes, of each tensor in shared memory


class ClipProcesses:
    """`network` for many clips at once, with gradients to its parameters.

    precision: what the network computes in
    num_shares: processes, among which the clips of a pass are split, evenly and in order; equal numbers give equal bits
    num_cores: shared among them
    Each process holds a copy of the network that reads its parameters from memory shared with this one, and writes its
    gradients there. Of several passes only the latest can be gone back through.
    """

    def __init__(self, network: nn.Module, *, precision: str, num_shares: int, num_cores: int) -> None:
        self._network, self._precision = network, precision
        self._parameters = tuple(network.parameters())
        self._shared = SharedTensors(self._parameters, copies=1 + num_shares)
        self._team = _team(num_shares, num_cores // num_shares)

    def __call__(self, x_t: Tensor, t: Tensor, text: Text) -> Tensor:
        """x_t: b c f h w; t: b; text: tensors with the clips first, or None. Returns b c' f h w."""
        if len(x_t) == 1:
            output: Tensor = self._network(x_t, t, text)
            return output
        parts = _shares(x_t, t, text, min(self._team.size, len(x_t)))
        compute: Callable[..., Tensor] = _SideBySide.apply
        return compute(self, parts, *self._parameters)

    def forward(self, parts: "Sequence[_Share]") -> list[Tensor]:
        """What the network says of each share; the processes keep the graphs that its gradients need."""
        if self._team.learner() is not self:
            setting = pickle.dumps(("learn", self._network, self._precision, self._shared.place))
            self._team.ask([setting] * self._team.size)
            self._team.learner = weakref.ref(self)
        for parameter, shared in zip(self._parameters, self._shared.tensors(0), strict=True):
            shared.copy_(parameter.detach())
        return self._team.ask([pickle.dumps(("forward", *part)) for part in parts])

    def backward(self, d_outputs: Sequence[Tensor]) -> Iterator[Tensor | None]:
        """The gradient of each parameter: the sum over the shares, in their order."""
        assert self._team.learner() is self, "another network was asked since"
        used = self._team.ask([pickle.dumps(("backward", d_output.contiguous())) for d_output in d_outputs])
        gradients = [self._shared.tensors(1 + share) for share in range(len(d_outputs))]
        for are_used, shares in zip(zip(*used, strict=True), zip(*gradients, strict=True), strict=True):
            summands = [share for is_used, share in zip(are_used, shares, strict=True) if is_used]
            if not summands:
                yield None
                continue
            total = summands[0].clone()
            for other in summands[1:]:
                total += other
            yield total


def best_shares(*, num_clips: int, num_cores: int) -> int:
    """Into how many the clips are best split, if cores that work on one share gained in full: the most shares among
    those splits that end first."""
    splits = range(1, min(num_clips, num_cores) + 1)
    return min(splits, key=lambda shares: (math.ceil(num_clips / shares) / (num_cores // shares), -shares))


class SharedTensors:
    """Room in memory that processes share for so many copies of tensors like those given.

    place: what another process needs to come to the same memory
    """

    def __init__(self, like: Sequence[Tensor], *, copies: int) -> None:
        file = _memory_file()
        layout = [(tuple(tensor.shape), tensor.dtype) for tensor in like]
        self.place = SharedPlace(file.path, layout, copies)
        os.truncate(file.path, self.place.num_bytes)
        self._memory = self.place.open()
        weakref.finalize(self, file.end)

    def tensors(self, copy: int) -> list[Tensor]:
        """Those of one copy, which are the memory itself."""
        return self._memory[copy]


class SharedPlace(NamedTuple):
    """Where tensors lie that processes share."""

    path: str
    layout: list[tuple[tuple[int, ...], torch.dtype]]
    copies: int

    @property
    def num_bytes(self) -> int:
        return self.copies * self._ends()[-1]

    def open(self) -> list[list[Tensor]]:
        """The tensors of each copy."""
        memory = torch.from_numpy(np.memmap(self.path, dtype=np.uint8, mode="r+", shape=(self.num_bytes,)))
        starts = [0, *self._ends()]
        copy_bytes = starts.pop()
        return [
            [
                memory[copy * copy_bytes + start :][: math.prod(shape) * dtype.itemsize].view(dtype).view(shape)
                for start, (shape, dtype) in zip(starts, self.layout, strict=True)
            ]
            for copy in range(self.copies)
        ]

    def _ends(self) -> list[int]:
        return list(
            accumulate(-(-math.prod(shape) * dtype.itemsize // ALIGNMENT) * ALIGNMENT for shape, dtype in self.layout)
        )


class _Share(NamedTuple):
    x_t: Tensor
    t: Tensor
    text: Text


class _SideBySide(torch.autograd.Function):
    """One step of the outer graph; the processes keep graphs of their own."""

    @staticmethod
    def forward(ctx: Any, processes: ClipProcesses, parts: Sequence[_Share], *parameters: Tensor) -> Tensor:
        ctx.processes, ctx.sizes = processes, [len(part.x_t) for part in parts]
        return torch.cat(processes.forward(parts))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        return (None, None, *ctx.processes.backward(d_out.split(ctx.sizes)))


def _shares(x_t: Tensor, t: Tensor, text: Text, number: int) -> list[_Share]:
    texts = [text] * number
    if text is not None:
        each = {key: value.tensor_split(number) for key, value in text.items()}
        texts = [{key: values[place] for key, values in each.items()} for place in range(number)]
    return [_Share(*share) for share in zip(x_t.tensor_split(number), t.tensor_split(number), texts, strict=True)]


class _Team:
    """Processes that compute shares; they end with this one, or when nobody holds the team any more.

    learner: whose network they have
    """

    def __init__(self, size: int, *, cores_each: int) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": str(cores_each)}
        self._processes = [
            subprocess.Popen(
                [*COMMAND, str(number), str(cores_each)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
            )
            for number in range(size)
        ]
        self.learner: Any = lambda: None
        weakref.finalize(self, _end, self._processes)

    @property
    def size(self) -> int:
        return len(self._processes)

    def ask(self, questions: Sequence[bytes]) -> list[Any]:
        """Ask the first processes one question each. Raises what went wrong in the first that failed."""
        try:
            answers = self._exchange(questions)
        except BaseException as error:
            _team.cache_clear()  # nobody knows what these would answer next
            if not isinstance(error, OSError | EOFError | pickle.UnpicklingError):
                raise
            ended = [status for process in self._processes if (status := process.poll()) is not None]
            raise RunError(
                f"a process that computes clips has ended{f' (status {ended[0]})' if ended else ''}: most likely"
                " memory is short; take a smaller train.batch_size, or one process with OMP_NUM_THREADS=1"
            ) from None
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    def _exchange(self, questions: Sequence[bytes]) -> list[Any]:
        asked = self._processes[: len(questions)]
        for process, question in zip(asked, questions, strict=True):
            assert process.stdin is not None
            process.stdin.write(question)
            process.stdin.flush()
        # Of our own making: no stranger's file gets into these pipes.
        return [pickle.load(process.stdout) for process in asked if process.stdout is not None]


@lru_cache(maxsize=1)
def _team(size: int, cores_each: int) -> _Team:
    """The processes of the last run or trial, if they suit the next."""
    return _Team(size, cores_each=cores_each)


def _end(processes: Sequence["subprocess.Popen[bytes]"]) -> None:
    for process in processes:
        process.kill()
    for process in processes:
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with suppress(OSError):  # what was still to be written
                pipe.close()


class _MemoryFile(NamedTuple):
    path: str
    descriptor: int

    def end(self) -> None:
        os.close(self.descriptor)
        if not self.path.startswith("/proc/"):
            with suppress(OSError):  # Windows keeps a file that is mapped
                Path(self.path).unlink()


def _memory_file() -> _MemoryFile:
    """An empty file that lies in memory, where the system has such files, and goes with this process."""
    # Not in /dev/shm, of which a container may have no more than 64 MB.
    if sys.platform == "linux":
        descriptor = os.memfd_create("t2v")
        return _MemoryFile(f"/proc/{os.getpid()}/fd/{descriptor}", descriptor)
    descriptor, path = tempfile.mkstemp(prefix="t2v-shared-")
    return _MemoryFile(path, descriptor)
