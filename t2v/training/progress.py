"""How far runs are, read from their folders alone: cheap enough to be asked every few seconds while they train."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from t2v.checkpoint.run_folder import RunFolder, StepFolder
from t2v.errors import RunError
from t2v.training.plan import Plan, load_plan

State = Literal["training", "stopped", "finished"]

MAX_POINTS = 400  # of a curve: more than a plot has room for
SILENCE_S = 30.0
SILENT_STEPS = 10
RECENT_S = 60.0
RECENT_LINES = 5
KEPT = 256  # plans and logs, each some 100 kB at most


class LossPoint(NamedTuple):
    """smooth_loss: running mean over the last twentieth of what was logged up to here, and at least over ten lines."""

    step: int
    loss: float
    smooth_loss: float


class RatePoint(NamedTuple):
    """Mean rate between the point before and this one, saves and sheets left out."""

    step: int
    clips_per_second: float


@dataclass(frozen=True)
class RunStatus:
    """How far a run is.

    step: steps taken. saved_step: what a resume starts from, unless that is damaged. sheet_step: of the newest sheet.
    clips_per_step: over all processes and passes. seconds: training time over all starts.
    loss, clips_per_second: of the last part of the log; None before its first line.
    seconds_left: None where nobody trains.
    clips_folder: as it was typed when the run was started.
    """

    name: str
    state: State
    step: int
    num_steps: int
    saved_step: int | None
    clips_per_step: int
    seconds: float
    seconds_left: float | None
    loss: float | None
    clips_per_second: float | None
    loss_curve: tuple[LossPoint, ...]
    rate_curve: tuple[RatePoint, ...]
    sheet: Path | None
    sheet_step: int | None
    prompts: tuple[str, ...]
    clips_folder: str


def find_runs(folder: Path) -> list[RunFolder]:
    """The runs that lie directly in `folder`, the one with the newest activity first."""
    runs = [RunFolder(path) for path in folder.iterdir()] if folder.is_dir() else []
    found = [run for run in runs if run.exists()]
    return sorted(found, key=lambda run: (-_touched(run), run.path.name))


def read_status(run: RunFolder, *, now: float | None = None) -> RunStatus:
    """How far a run is at the time `now`, in seconds since 1970; the clock's without it.

    Raises RunError where the plan is damaged or the run is gone.
    """
    try:
        return _read_status(run, time.time() if now is None else now)
    except OSError:
        raise RunError(f"the run {run.path.name} cannot be read; was it removed just now?") from None


def _read_status(run: RunFolder, now: float) -> RunStatus:
    plan = _plan(run)
    clips_per_step = _clips_per_step(plan)
    log = _read_log(run, _version(run.log), clips_per_step)
    saved = max(run.steps(), key=lambda folder: folder.step, default=None)
    saved_step = None if saved is None else saved.step
    state = _state(run, plan, log, saved, now)
    sheet = max(_sheets(run), key=_step_of, default=None)
    return RunStatus(
        name=run.path.name,
        state=state,
        # The step of a clean end is saved but not always logged; that of a save may be damaged and taken again.
        step=log.step if state == "training" else max(log.step, saved_step or 0),
        num_steps=plan.num_steps,
        saved_step=saved_step,
        clips_per_step=clips_per_step,
        seconds=log.seconds,
        seconds_left=_seconds_left(plan, log) if state == "training" else None,
        loss=log.loss_curve[-1].smooth_loss if log.loss_curve else None,
        clips_per_second=clips_per_step * log.recent_steps / log.recent_s if _has_pace(log) else None,
        loss_curve=log.loss_curve,
        rate_curve=log.rate_curve,
        sheet=sheet,
        sheet_step=None if sheet is None else _step_of(sheet),
        prompts=plan.prompts,
        clips_folder=plan.clips_folder,
    )


class _Line(NamedTuple):
    step: int
    seconds: float
    loss: float


@dataclass(frozen=True)
class _Log:
    """What is kept of a log.

    step, seconds: of the last line. recent_steps, recent_s: of the last part, 0 before the first line.
    seconds_per_line: between the last two lines.
    """

    step: int
    seconds: float
    recent_steps: int
    recent_s: float
    seconds_per_line: float
    loss_curve: tuple[LossPoint, ...]
    rate_curve: tuple[RatePoint, ...]


def _state(run: RunFolder, plan: Plan, log: _Log, saved: StepFolder | None, now: float) -> State:
    if saved is not None and saved.step >= plan.num_steps:
        return "finished"
    if saved is not None and _was_interrupted(run, plan, saved):
        return "stopped"
    silence = now - _touched(run)
    return "training" if silence <= _longest_silence(plan, log) else "stopped"


def _was_interrupted(run: RunFolder, plan: Plan, saved: StepFolder) -> bool:
    """Whether the last thing that happened is a save that was not due: that is how Ctrl-C leaves a run."""
    is_due = saved.step % plan.recipe.train.save_every == 0
    return not is_due and _modified(saved.path) >= _modified(run.log)


def _longest_silence(plan: Plan, log: _Log) -> float:
    """Seconds without a word that a run in progress may take."""
    # The next steps may be the first on clips of full size.
    slower = 1 / plan.half_size_cost if log.step <= plan.half_size_steps else 1.0
    # What was measured once at the start may be twice that on a busy machine.
    beside = 2 * (plan.seconds_per_sheet + plan.seconds_per_save)
    return max(SILENCE_S, SILENT_STEPS * _step_s(plan, log), 2 * slower * log.seconds_per_line) + beside


def _seconds_left(plan: Plan, log: _Log) -> float:
    return plan.seconds_left(log.step, seconds_per_step=_step_s(plan, log))


def _step_s(plan: Plan, log: _Log) -> float:
    """Seconds of a step at full size: as of late, or as planned before there is better to go by."""
    if not _has_pace(log):
        return plan.seconds_per_step
    return log.recent_s / plan.work(log.step - log.recent_steps, log.step)


def _has_pace(log: _Log) -> bool:
    return log.recent_steps > 0 and log.recent_s > 0


def _clips_per_step(plan: Plan) -> int:
    train = plan.recipe.train
    return train.batch_size * train.accumulation * plan.machine.num_processes


def _sheets(run: RunFolder) -> list[Path]:
    return [path for path in run.samples.glob("step-*.png") if path.stem.removeprefix("step-").isdigit()]


def _step_of(sheet: Path) -> int:
    return int(sheet.stem.removeprefix("step-"))


def _touched(run: RunFolder) -> float:
    """When the run last said something; a resume rewrites the log before its first step."""
    return max(_modified(run.plan), _modified(run.log))


def _modified(path: Path) -> float:
    """Time of the last change, 0 for what is not there."""
    version = _version(path)
    return version[1] / 1e9 if version else 0.0


def _version(path: Path) -> tuple[int, int, int] | None:
    """Something that changes when a file's content does: inode, time of the last change in ns, size."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _plan(run: RunFolder) -> Plan:
    version = _version(run.plan)
    if version is None:
        raise RunError(f"the run {run.path.name} is not there any more")
    return _read_plan(run, version)


@lru_cache(maxsize=KEPT)
def _read_plan(run: RunFolder, version: tuple[int, int, int]) -> Plan:
    """The plan without its list of clips, which may be megabytes."""
    damaged = f"the run {run.path.name} cannot be read, as its plan.json is damaged; start it anew with --fresh"
    try:
        plan = load_plan(run)
    except RunError:  # it names paths, which are nothing for visitors of a page
        raise RunError(damaged) from None
    if not plan.stretches:
        raise RunError(damaged)
    return plan.model_copy(update={"clips": {}})


@lru_cache(maxsize=KEPT)
def _read_log(run: RunFolder, version: tuple[int, int, int] | None, clips_per_step: int) -> _Log:
    """The log in this version of its file; read once, as most runs have long stopped."""
    lines = [line for entry in run.read_log() if (line := _line(entry)) is not None]
    last = lines[-1] if lines else _START
    before = _before_recent(lines)
    return _Log(
        step=last.step,
        seconds=last.seconds,
        recent_steps=last.step - before.step,
        recent_s=last.seconds - before.seconds,
        seconds_per_line=last.seconds - ([_START, _START, *lines][-2]).seconds,
        loss_curve=_loss_curve(lines),
        rate_curve=_rate_curve(lines, clips_per_step),
    )


# Every run begins at 0 steps and 0 seconds, whatever is left of its log.
_START = _Line(0, 0.0, 0.0)


def _line(entry: Any) -> _Line | None:
    try:
        return _Line(int(entry["step"]), float(entry["seconds"]), float(entry["loss"]))
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _before_recent(lines: Sequence[_Line]) -> _Line:
    """What stands before the last minute of training, or before the last lines where those took longer."""
    known = [_START, *lines]
    since = known[-1].seconds - RECENT_S
    return next((line for line in reversed(known[:-RECENT_LINES]) if line.seconds <= since), _START)


def _loss_curve(lines: Sequence[_Line]) -> tuple[LossPoint, ...]:
    smooth, points = 0.0, []
    for number, line in enumerate(lines, start=1):
        span = max(10, number / 20)
        # A plain mean at first: the start should not weigh more than what follows it.
        smooth += (line.loss - smooth) * max(1 / number, 2 / (span + 1))
        points.append(LossPoint(line.step, line.loss, smooth))
    return tuple(_thinned(points))


def _rate_curve(lines: Sequence[_Line], clips_per_step: int) -> tuple[RatePoint, ...]:
    points, before = [], _START
    for line in _thinned(lines):
        if line.seconds > before.seconds and line.step > before.step:
            rate = (line.step - before.step) * clips_per_step / (line.seconds - before.seconds)
            points.append(RatePoint(line.step, rate))
            before = line
    return tuple(points)


def _thinned(points: Sequence[Any]) -> Sequence[Any]:
    """At most MAX_POINTS, evenly chosen; the last one always, and the others the same while a log grows a little."""
    every = -(-(len(points) - 1) // (MAX_POINTS - 1)) or 1
    return [*points[:-1:every], *points[-1:]]
