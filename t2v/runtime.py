"""What the machine offers: its device, a precision that pays, a compiler, and random numbers as functions of keys."""

import hashlib
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from t2v.errors import SettingsError

# bf16 keeps 8 bits of mantissa: a healthy network differs from float32 by less than this, a broken kernel by far more.
MAX_BF16_ERROR = 0.05
MIN_BF16_SPEEDUP = 1.15
# By the names of config.PrecisionName, without fp32, which casts nothing.
LOW_PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}


def generator(*keys: int | str) -> torch.Generator:
    """A CPU generator that is a function of its keys alone, e.g. `("noise", seed, step, place)`."""
    return torch.Generator().manual_seed(derived_seed(*keys))


def derived_seed(*keys: int | str) -> int:
    """A whole number in [0, 2**63) that changes whenever any key does."""
    digest = hashlib.blake2b(repr(keys).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def pick_device(name: str) -> torch.device:
    """The device of that name; `auto` takes the first of cuda, mps and cpu that is there.

    Raises SettingsError where the device asked for is not on this machine.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, here in there.items() if here)
    if not there.get(name, False):
        here = ", ".join(device for device, is_here in there.items() if is_here)
        raise SettingsError(f"this machine has no device {name!r}; it has {here}")
    return torch.device(name)


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Where a network computes in that precision: weights stay float32, and each operation casts what it can bear.

    Every device knows bf16 and fp16, the CPU too, though few CPUs are faster for it.
    """
    return nullcontext() if precision == "fp32" else torch.autocast(device.type, LOW_PRECISIONS[precision])


@dataclass(frozen=True)
class Precision:
    """The arithmetic chosen for a network, and why."""

    name: str
    reason: str


def choose_precision(
    run: Callable[[bool], Tensor], *, on_cpu: bool, clock: Callable[[], float] = time.perf_counter
) -> Precision:
    """Choose bf16 where it is faster than float32 on this machine and computes the same.

    on_cpu: whether the work is the CPU's, where bf16 may be emulated
    run: does a representative piece of work, in bf16 if its argument is true, and returns its output.
    """
    quick = bf16_matmul_speedup(clock=clock) if on_cpu else 1.0
    if quick < 0.5:  # bf16 is emulated here: one pass of a network could take minutes
        return decide_precision(speedup=quick, error=0.0)
    seconds: dict[bool, list[float]] = {False: [], True: []}
    outputs: dict[bool, Tensor] = {}
    for _ in range(3):  # the first turn of each warms up and is not counted
        for bf16 in (False, True):
            start = clock()
            outputs[bf16] = run(bf16).float()
            seconds[bf16].append(clock() - start)
    speedup = statistics.median(seconds[False][1:]) / max(statistics.median(seconds[True][1:]), 1e-9)
    return decide_precision(speedup=speedup, error=relative_error(outputs[True], outputs[False]))


def relative_error(given: Tensor, true: Tensor) -> float:
    """||given - true|| / ||true||."""
    return ((given - true).norm() / true.norm().clamp(min=1e-12)).item()


def bf16_matmul_speedup(*, clock: Callable[[], float] = time.perf_counter) -> float:
    """How many times as fast as in float32 a small matrix product is in bf16 on the CPU; takes well under a second."""
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.ones(256, 256, dtype=dtype)
        turns = []
        for _ in range(4):  # the first sets kernels up, and any may be disturbed
            started = clock()
            a @ a
            turns.append(clock() - started)
        seconds[dtype] = min(turns)
    return seconds[torch.float32] / max(seconds[torch.bfloat16], 1e-9)


def decide_precision(*, speedup: float, error: float) -> Precision:
    """The decision behind choose_precision. speedup: float32 time over bf16 time; error: relative difference."""
    if not error <= MAX_BF16_ERROR:  # also true for nan
        return Precision("fp32", f"bf16 is off by {error:.1%} on this machine")
    if speedup < MIN_BF16_SPEEDUP:
        return Precision("fp32", f"bf16 runs at {speedup:.2g}x the speed of float32 here")
    return Precision("bf16", f"{speedup:.2g}x as fast as float32 here, {error:.2%} apart")


def cpp_compiler() -> str | None:
    """The C++ compiler that torch.compile would call on this machine, with its path; None where there is none."""
    usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    return shutil.which(os.environ.get("CXX", usual))
