"""Whether a run's network is compiled: only where the time that torch.compile takes comes back within the run."""

import logging
import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from t2v.cache import cache_folder
from t2v.config import Recipe
from t2v.errors import SettingsError
from t2v.runtime import MAX_BF16_ERROR, autocast, cpp_compiler, relative_error
from t2v.sampling import build_diffusion
from t2v.training.batches import Batch
from t2v.training.choose import Cost, made_up_passes
from t2v.training.plan import Plan
from t2v.training.request import duration

# Seconds of a run that is worth a trial. On a CPU compiling took 330 (`tiny`) and 360 (`small`) on slow cores, and the
# steps became 1.12 and 1 times as fast: a gain of 1.12 less MIN_GAIN brings 330 back in 5,800. On a GPU some 90 are
# expected, a tenth of this.
MIN_RUN_S = {"cpu": 6000.0, "cuda": 900.0}
MIN_GAIN = 0.05  # of the run's time, or what was measured may be chance
# Compiled code rounds elsewhere. In float32 1e-6 was measured.
MAX_ERROR = {"fp32": 1e-3, "bf16": MAX_BF16_ERROR, "fp16": MAX_BF16_ERROR}
NUM_TIMED = 3

Say = Callable[[str], None]


@dataclass(frozen=True)
class Compilation:
    """Whether a run's network is compiled, and why.

    seconds: spent on compiling and comparing, whatever came of it
    seconds_per_step: of a compiled optimizer step; None where the network is not compiled
    """

    used: bool
    reason: str
    seconds: float = 0.0
    seconds_per_step: float | None = None

    def __str__(self) -> str:
        return f"{'compiled' if self.used else 'not compiled'}: {self.reason}"


class Answer(NamedTuple):
    """What passes of training compute: the network's output, and the gradients of all its weights, each in one row."""

    output: Tensor
    gradient: Tensor


class Trial(NamedTuple):
    """Seconds of a plain and of a compiled pass, seconds to compile, and how far apart their answers are."""

    plain_s: float
    compiled_s: float
    compile_s: float
    error: float


class _CompilerFailed(Exception):
    """torch.compile could not compile the network."""


def choose_compiled(
    network: nn.Module,
    recipe: Recipe,
    *,
    cond_dim: int | None,
    picture_share: float,
    cost: Cost,
    device: torch.device,
    say: Say,
) -> Compilation:
    """Compile the network as `recipe.train.compile` asks; `auto` keeps it compiled only where that pays.

    network: of the run. torch takes compile() back no more, so where the answer is no a fresh one is to be trained.
    cost: of the plain network. Raises SettingsError where `always` cannot be had.
    """
    train = recipe.train
    if train.compile == "never":
        return Compilation(False, "as asked")
    if recipe.data.lengths is not None:
        return Compilation(False, "clips of every length would be compiled anew")
    if train.half_size_share:
        return Compilation(False, "clips of half the size would be compiled anew")
    compiler = cpp_compiler()
    if train.compile == "auto":
        run_s = train.num_steps * cost.seconds_per_step
        hopeless = why_not_try(compiler, device.type, run_s=run_s, has_pictures=bool(picture_share))
        if hopeless is not None:
            return Compilation(False, hopeless)
    elif compiler is None:
        raise SettingsError(
            "train.compile=always needs a C++ compiler, and none was found; install g++ or clang, name one in CXX, or "
            "take train.compile=auto"
        )
    say("compiling the network, to see whether it pays; this can take minutes")
    started = time.perf_counter()
    passes = made_up_passes(recipe, cond_dim, picture_share=picture_share)
    run_pass = _training_pass(network, recipe, passes, precision=cost.precision.name, device=device)
    try:
        trial = compare(run_pass, lambda: _compile(network))
    except _CompilerFailed as error:
        if train.compile == "always":
            raise SettingsError(f"train.compile=always: {error}; train.compile=auto trains without") from None
        return Compilation(False, str(error), seconds=time.perf_counter() - started)
    decision = decide_compiled(
        trial,
        step_s=cost.seconds_per_step,
        passes_per_step=train.accumulation,
        num_steps=train.num_steps,
        max_error=MAX_ERROR[cost.precision.name],
        always=train.compile == "always",
    )
    return replace(decision, seconds=time.perf_counter() - started)


def why_not_try(compiler: str | None, device: str, *, run_s: float, has_pictures: bool = False) -> str | None:
    """Why compiling is not even tried for a run of that many seconds; None where it could pay."""
    if compiler is None:
        return "this machine has no C++ compiler (such as g++), without which everything works too"
    if device not in MIN_RUN_S:
        return f"torch.compile is young on {device}; train.compile=always tries it"
    if run_s < MIN_RUN_S[device]:
        return f"a run of {duration(run_s)} is too short for it to pay"
    if has_pictures:
        return "clips and stills come in up to four shapes, each to be compiled; train.compile=always does"
    return None


def decide_compiled(
    trial: Trial, *, step_s: float, passes_per_step: int, num_steps: int, max_error: float, always: bool = False
) -> Compilation:
    """The decision behind choose_compiled. step_s: seconds of a plain optimizer step, of which passes are a part.

    Raises SettingsError where `always` would compute something else.
    """
    if not trial.error <= max_error:  # also true for nan
        if always:
            raise SettingsError(
                f"train.compile=always: compiled code is off by {trial.error:.1%} on this machine; "
                "train.compile=never computes as it should"
            )
        return Compilation(False, f"compiled code is off by {trial.error:.1%} on this machine")
    # The optimizer, the averages and the batches cost what they did.
    compiled_s = max(step_s - passes_per_step * (trial.plain_s - trial.compiled_s), trial.compiled_s)
    speed, compiling = f"{step_s / compiled_s:.2g}x", duration(trial.compile_s)
    if always:
        return Compilation(True, f"as asked; {speed} as fast, {compiling} to compile", seconds_per_step=compiled_s)
    plain_run_s = num_steps * step_s
    if trial.compile_s + num_steps * compiled_s > (1 - MIN_GAIN) * plain_run_s:
        run = duration(plain_run_s)
        return Compilation(False, f"at {speed} the speed, {compiling} of compiling would not pay in a run of {run}")
    return Compilation(True, f"{speed} as fast, {compiling} to compile", seconds_per_step=compiled_s)


def compare(
    run_pass: Callable[[], Answer], compile_it: Callable[[], None], *, clock: Callable[[], float] = time.perf_counter
) -> Trial:
    """Time a pass as it is and compiled, in turns. compile_it: makes the next passes compiled ones."""
    run_pass()  # warms up; and what is wrong with the network itself comes out here
    with _quiet():
        started = clock()
        compile_it()
        _first_compiled(run_pass)
        first_s = clock() - started
        seconds: dict[bool, list[float]] = {False: [], True: []}
        answers: dict[bool, Answer] = {}
        for _ in range(NUM_TIMED):
            for is_compiled in (False, True):
                with torch.compiler.set_stance("default" if is_compiled else "force_eager"):
                    started = clock()
                    answers[is_compiled] = run_pass()
                    seconds[is_compiled].append(clock() - started)
    plain_s, compiled_s = (statistics.median(seconds[is_compiled]) for is_compiled in (False, True))
    error = max(relative_error(one, other) for one, other in zip(answers[True], answers[False], strict=True))
    return Trial(plain_s, compiled_s, max(0.0, first_s - compiled_s), error)


def compile_again(network: nn.Module, plan: Plan, *, device: torch.device, say: Say) -> bool:
    """Compile the network of a run that was started compiled; most of it comes from the cache.

    Returns whether it could be; where not, a fresh network is to be trained, and the difference is said here.
    Raises SettingsError where the run asks for `always`.
    """
    started = time.perf_counter()
    try:
        if cpp_compiler() is None:
            raise _CompilerFailed("this machine has no C++ compiler (such as g++)")
        passes = made_up_passes(plan.recipe, plan.cond_dim, picture_share=plan.picture_share)
        run_pass = _training_pass(network, plan.recipe, passes, precision=plan.precision, device=device)
        with _quiet():
            _compile(network)
            _first_compiled(run_pass)
    except _CompilerFailed as error:
        if plan.recipe.train.compile == "always":
            raise SettingsError(f"the run is compiled (train.compile=always), and now {error}") from None
        say(f"note: not compiled as before, as {error}; the result will not be bit-identical to an unbroken run")
        return False
    say(f"compiled again in {duration(time.perf_counter() - started)}")
    return True


def _training_pass(
    network: nn.Module, recipe: Recipe, passes: Sequence[Batch], *, precision: str, device: torch.device
) -> Callable[[], Answer]:
    """Passes of the training loop on made-up clips, in its own arithmetic; the weights stay as they are.

    passes: one of each shape of the run. What is compiled is compiled for these: any other would be compiled anew.
    """
    network.to(device).train()
    batches = [batch.to(device) for batch in passes]
    diffusion = build_diffusion(recipe)

    def run_pass() -> Answer:
        outputs: list[Tensor] = []

        def answer(x_t: Tensor, t: Tensor, text: dict[str, Tensor] | None) -> Tensor:
            with autocast(precision, device):
                output: Tensor = network(x_t, t, text)
            outputs.append(output.detach().float().cpu().flatten())
            return output.float()

        for batch in batches:
            diffusion.losses(answer, batch.x0, batch.t, batch.noise, batch.text).total.mean().backward()
        gradients = [weights.grad.flatten() for weights in network.parameters() if weights.grad is not None]
        network.zero_grad()
        return Answer(torch.cat(outputs), torch.cat(gradients).cpu())

    return run_pass


def _compile(network: nn.Module) -> None:
    """Compile in place: weights keep their names, and copies such as the averages stay as they are."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "compiled"))
    network.compile(dynamic=False)


def _first_compiled(run_pass: Callable[[], Answer]) -> None:
    """The pass in which all is compiled. Raises _CompilerFailed."""
    try:
        run_pass()
    except Exception as error:  # of torch, of the compiler, of the disk: all mean the same, as the plain pass went well
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise _CompilerFailed(f"torch.compile failed ({first[:120]})") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to ourselves what the compiler remarks on its way, such as that complex products stay as they are."""
    loggers = [logging.getLogger(name) for name in ("torch._dynamo", "torch._inductor", "torch._functorch")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
