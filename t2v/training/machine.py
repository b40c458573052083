"""What this machine offers to training, measured in seconds: the report of `t2v check --machine`."""

import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from t2v.config import TrainSettings
from t2v.errors import SettingsError
from t2v.reading import load_recipe, recipe_names
from t2v.runtime import Precision, cpp_compiler, pick_device
from t2v.training.choose import MEASURED_S, probe_precision, seconds_per_step
from t2v.training.optimizer import build_optimizer

PROBED_RECIPE = "small"
TEXT_WIDTH = 384  # of the usual encoder; others cost about the same
RATE_S = 0.05  # a product that takes so long tells a rate
MAX_SIDE = 8192
COPIED = 2**26  # numbers of 4 bytes: more than any cache holds
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

Clock = Callable[[], float]


@dataclass(frozen=True)
class Pace:
    """What a recipe takes here."""

    recipe: str
    clips_per_step: int
    seconds_per_step: float

    @property
    def clips_per_minute(self) -> float:
        return 60 * self.clips_per_step / self.seconds_per_step


@dataclass(frozen=True)
class MachineReport:
    """What a person should know about a machine before training on it.

    matmul, convolution: GFLOP/s by the name of the precision; copying in GB/s, read and written together
    eight_bit: why the optimizer adamw8bit cannot be used; None where it can
    """

    device: str
    processor: str
    devices: dict[str, bool]
    num_cores: int
    num_threads: int
    memory_gb: float | None
    torch: str
    compiler: str | None
    eight_bit: str | None
    matmul: dict[str, float]
    convolution: dict[str, float]
    copying: float
    precision: Precision
    paces: tuple[Pace, ...]

    def lines(self) -> list[str]:
        """The report as plain text."""
        there = ", ".join(f"{name} {'yes' if here else 'no'}" for name, here in self.devices.items())
        threads = f"{self.num_cores} cores, {self.num_threads} threads used"
        memory = "unknown" if self.memory_gb is None else f"{self.memory_gb:.0f} GB"
        rates = {"matrix product": self.matmul, "3x3 convolution": self.convolution}
        width = max(len("recipe"), *(len(pace.recipe) for pace in self.paces))
        return [
            f"device       {self.device} ({there})",
            f"processor    {self.processor}, {threads}",
            f"memory       {memory}, copied at {_figure(self.copying)} GB/s",
            f"torch        {self.torch}",
            f"compiler     {self.compiler or 'no C++ compiler: networks are trained uncompiled'}",
            f"adamw8bit    {'usable' if self.eight_bit is None else f'not usable: {self.eight_bit}'}",
            f"arithmetic   {self.precision.name} ({self.precision.reason})",
            "",
            f"{'GFLOP/s':<16}" + "".join(f"{name:>8}" for name in DTYPES),
            *(f"{what:<16}" + "".join(f"{_figure(by[name]):>8}" for name in DTYPES) for what, by in rates.items()),
            "",
            f"{'recipe':<{width}}{'clips/step':>12}{'s/step':>10}{'clips/min':>11}",
            *(
                f"{pace.recipe:<{width}}{pace.clips_per_step:>12}{_figure(pace.seconds_per_step):>10}"
                f"{_figure(pace.clips_per_minute):>11}"
                for pace in self.paces
            ),
            "",
            f"steps longer than {MEASURED_S:g} s are foretold from a pass of one clip",
        ]

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON can hold it."""
        paces = [asdict(pace) | {"clips_per_minute": pace.clips_per_minute} for pace in self.paces]
        return asdict(self) | {"paces": paces}


def _figure(value: float) -> str:
    """Three digits that count, without powers of ten."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def check_machine(device_name: str = "auto") -> MachineReport:
    """Measure this machine; takes some 20 s on a slow one. Nothing is written."""
    device = pick_device(device_name)
    precision = probe_precision(load_recipe(PROBED_RECIPE), cond_dim=TEXT_WIDTH, device=device)
    return MachineReport(
        device=device.type,
        processor=processor_name(device),
        devices={"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()},
        num_cores=num_cores(),
        num_threads=torch.get_num_threads(),
        memory_gb=memory_gb(device),
        torch=torch.__version__,
        compiler=cpp_compiler(),
        eight_bit=why_not_eight_bit(device),
        matmul={name: matmul_rate(device, dtype) for name, dtype in DTYPES.items()},
        convolution={name: convolution_rate(device, dtype) for name, dtype in DTYPES.items()},
        copying=copy_rate(device),
        precision=precision,
        paces=tuple(_pace(name, device, precision) for name in recipe_names()),
    )


def _pace(name: str, device: torch.device, precision: Precision) -> Pace:
    recipe = load_recipe(name)
    seconds = seconds_per_step(recipe, cond_dim=TEXT_WIDTH, device=device, precision=precision)
    return Pace(name, recipe.train.batch_size * recipe.train.accumulation, seconds)


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """GFLOP/s of products of square matrices, as large as it takes to tell."""

    def product(side: int) -> tuple[float, Callable[[], Tensor]]:
        a = torch.ones(side, side, dtype=dtype, device=device)
        return 2.0 * side**3, lambda: a @ a

    return _rate(product, sizes=_doubled(128, MAX_SIDE)) / 1e9


def convolution_rate(device: torch.device, dtype: torch.dtype) -> float:
    """GFLOP/s of a 3x3 convolution of 64 channels on channels-last frames of 32x32, the network's usual work."""
    weight = torch.ones(64, 64, 3, 3, dtype=dtype, device=device).contiguous(memory_format=torch.channels_last)

    def convolution(num_frames: int) -> tuple[float, Callable[[], Tensor]]:
        frames = torch.ones(num_frames, 64, 32, 32, dtype=dtype, device=device)
        frames = frames.contiguous(memory_format=torch.channels_last)
        return 2.0 * weight.numel() * 32 * 32 * num_frames, lambda: F.conv2d(frames, weight, padding=1)

    return _rate(convolution, sizes=_doubled(1, 1024)) / 1e9


def copy_rate(device: torch.device) -> float:
    """GB/s of copying memory, with what is read and what is written counted."""
    source = torch.ones(COPIED, device=device)
    target = torch.empty_like(source)
    return _rate(lambda size: (2.0 * 4 * COPIED, lambda: target.copy_(source)), sizes=[1]) / 1e9


def _doubled(first: int, last: int) -> list[int]:
    return [first * 2**times for times in range((last // first).bit_length())]


def _rate(
    work: Callable[[int], tuple[float, Callable[[], Tensor]]], *, sizes: list[int], clock: Clock = time.perf_counter
) -> float:
    """Amount of work a second, of the first size that takes RATE_S or else the last.

    work: for a size, its amount and what does it.
    """
    for size in sizes:
        amount, run = work(size)
        turns = []
        for _ in range(3):  # the first sets kernels up, and any may be disturbed
            started = clock()
            _finished(run())
            turns.append(clock() - started)
        if min(turns) >= RATE_S:
            break
    return amount / max(min(turns), 1e-9)


def _finished(output: Tensor) -> None:
    """Wait for the device: reading a number is the same on each."""
    output.flatten()[0].item()


def why_not_eight_bit(device: torch.device) -> str | None:
    """What speaks against the optimizer adamw8bit on this device; None where it takes a step."""
    weights = nn.Parameter(torch.ones(64, 64, device=device))
    weights.grad = torch.ones_like(weights)
    try:
        build_optimizer([weights], TrainSettings(optimizer="adamw8bit")).step()
    except SettingsError as error:
        return str(error)
    except Exception as error:  # of bitsandbytes or its kernels, in whatever way they fail here
        return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
    return None


def processor_name(device: torch.device) -> str:
    """The GPU's name, or the CPU's as its maker writes it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        return next(line.partition(":")[2].strip() for line in told.splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine() or "unknown"


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_gb(device: torch.device) -> float | None:
    """Memory of the device in GB; None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory / 1e9
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (AttributeError, OSError, ValueError):
        return None
