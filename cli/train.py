"""`t2v train`: a folder of GIFs becomes a model, in as many sittings as it takes."""

import os
import shlex
import signal
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from t2v.cli.console import answer, progress_bar, say
from t2v.cli.options import parse_assignments, parse_duration
from t2v.config import MAX_SEED, DeviceName

if TYPE_CHECKING:
    from t2v.training.loop import Progress
    from t2v.training.request import TrainRequest
    from t2v.training.start import ReadyRun


def train(
    gifs: Annotated[
        Path,
        typer.Argument(
            help="Folder of GIFs, at any depth, captions beside them as .txt; or shards: 'a/{000..099}.tar'."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Run folder (default: runs/<name of the folder>).")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="tiny, small, base, seed, or a .toml file (default: chosen for clips and machine)."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Optimizer steps; a larger number extends a run.")
    ] = None,
    budget: Annotated[str | None, typer.Option(help="Training time over all starts, such as 10m or 2h.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew; the old run is renamed, never deleted.")] = False,
    seed: Annotated[
        int | None, typer.Option(min=0, max=MAX_SEED, help="Every random draw of the run follows from it.")
    ] = None,
    caption: Annotated[
        str | None,
        typer.Option(
            help="What captions become, such as 'a sprite of {caption}'; without {caption} it is every clip's caption."
        ),
    ] = None,
    init_from: Annotated[Path | None, typer.Option(help="Start from the weights of this checkpoint or run.")] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, such as train.batch_size=8."),
    ] = None,
    device: Annotated[DeviceName, typer.Option(help="Where to compute.")] = "auto",
) -> None:
    """Train a model on a folder of GIFs, or go on with a run.

    Ctrl-C saves and prints the command that goes on; a second Ctrl-C ends at once.
    """
    from t2v.training.request import TrainRequest
    from t2v.training.start import hold_run

    request = TrainRequest(
        clips=gifs,
        out=out,
        recipe=recipe,
        num_steps=steps,
        budget_s=None if budget is None else parse_duration(budget),
        fresh=fresh,
        seed=seed,
        template=caption,
        init_from=init_from,
        overrides=parse_assignments(assignments or []),
        device=device,
    )
    with hold_run(request, say) as ready:
        if ready.is_finished:
            done, run = ready.training.step, request.run.path
            say(f"{run} is finished at step {done}; extend it with --steps {2 * done}, or start anew with --fresh")
        stopped_by = None if ready.is_finished else _train(ready)
    if stopped_by is not None:
        say(f"saved at step {ready.training.step}; go on with: {_resume_command(request)}")
        raise typer.Exit(128 + stopped_by)
    if ready.training.accelerator.is_main_process:
        answer(f"t2v generate {_quoted(_example(ready))} --checkpoint {shlex.quote(str(request.run.path))}")


class _StopDrawing(BaseException):
    """A signal came while a sample sheet was drawn."""


def _train(ready: "ReadyRun") -> int | None:
    """Run to the end or to a signal, whose number is returned once the state is saved."""
    training = ready.training
    caught: list[int] = []
    drawing = False

    def on_signal(number: int, frame: FrameType | None) -> None:
        if caught:
            os._exit(128 + number)
        caught.append(number)
        say("finishing this step and saving; once more ends at once")
        if drawing:
            raise _StopDrawing

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with progress_bar(unit="steps") as bar:
            planned = training.plan.num_steps
            task = bar.add_task("training", total=planned, completed=training.step, note="")
            for progress in training.steps():
                note = _note(progress, training.global_batch)
                bar.update(task, total=progress.num_steps, completed=progress.step, note=note)
                if progress.num_steps != planned:
                    fewer_or_more = "fewer" if progress.num_steps < planned else "more"
                    change = f"{fewer_or_more} steps fit the budget at the pace of late"
                    say(f"step {progress.step}: {change}, {progress.num_steps:,} in all")
                    planned = progress.num_steps
                if progress.sample_due and not caught:
                    drawing = True
                    with suppress(_StopDrawing):
                        sheet = ready.write_samples()
                        if sheet is not None:
                            say(f"step {progress.step}, loss {progress.smooth_loss:.4f}, samples in {sheet}")
                    drawing = False
                stopped_by = ready.agreed_signal(caught[0] if caught else 0)
                if stopped_by and progress.step < progress.num_steps:
                    if progress.saved is None:
                        training.save()
                    return stopped_by
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return None


def _resume_command(request: "TrainRequest") -> str:
    """Only what the run cannot know by itself: where it lies, and where to compute."""
    words = ["t2v", "train", str(request.clips)]
    if request.out is not None:
        words += ["--out", str(request.out)]
    if request.device != "auto":
        words += ["--device", request.device]
    return shlex.join(words)


def _note(progress: "Progress", global_batch: int) -> str:
    rate = progress.step_rate * global_batch
    skipped = f", skipped: fp16 overflowed, loss scale now {progress.loss_scale:g}" if progress.skipped else ""
    return f"loss {progress.smooth_loss:.4f}, {rate:.3g} clips/s{skipped}"


def _example(ready: "ReadyRun") -> str:
    return next(iter(ready.training.plan.prompts), "") or "..."


def _quoted(text: str) -> str:
    """As people write it, where that means the same in every shell."""
    return shlex.quote(text) if set(text) & set('"$`\\!') else f'"{text}"'
