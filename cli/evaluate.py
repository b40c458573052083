"""`t2v evaluate`: how good a checkpoint is."""

import json
import signal
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from t2v.cli.console import answer, progress_bar, say
from t2v.cli.generate import NAMES
from t2v.cli.options import settings_options
from t2v.config import (
    MAX_SEED,
    NUM_HELD_OUT,
    NUM_KNOWN,
    DeviceName,
    FamilyName,
    GenerationSettings,
    MeasureName,
    PrecisionName,
    SplitName,
)
from t2v.errors import ClipError
from t2v.presets import PRESETS

if TYPE_CHECKING:
    from t2v.evaluate.report import Report
    from t2v.evaluate.run import Evaluation

INTERRUPTED = 128 + signal.SIGINT
SPLIT_NAMES = [name for name in get_args(SplitName) if name != "all"]


@settings_options(GenerationSettings, names=NAMES, leave_out=("prompt", "seed", "num_clips"), presets=PRESETS)
def evaluate(
    settings: GenerationSettings,
    checkpoint: Annotated[
        Path | None,
        typer.Argument(help="A checkpoint file, a run folder or a step of it (default: the model in the box)."),
    ] = None,
    only: Annotated[
        str | None, typer.Option(help=f"Some of {', '.join(get_args(MeasureName))}, with commas; all by default.")
    ] = None,
    prompts: Annotated[
        int | None, typer.Option(min=1, help="Prompts of each split, evenly spread (default: all 500).")
    ] = None,
    splits: Annotated[
        str | None, typer.Option(help=f"Prompts of some of {', '.join(SPLIT_NAMES)}, with commas; all by default.")
    ] = None,
    families: Annotated[
        str | None,
        typer.Option(help=f"Worlds of some of {', '.join(get_args(FamilyName))}, with commas; all by default."),
    ] = None,
    clips: Annotated[
        Path | None,
        typer.Option(help="The folder that the model was trained on; what needs no judge is measured on it."),
    ] = None,
    held_out: Annotated[
        Path | None,
        typer.Option(help="A folder of clips that were not trained on (default: those that data.hold_out kept)."),
    ] = None,
    num_held_out: Annotated[
        int | None,
        typer.Option(
            "--real-clips",
            min=8,
            help=f"Real clips that likelihood and likeness look at, at most (default: {NUM_HELD_OUT}).",
        ),
    ] = None,
    num_known: Annotated[
        int | None,
        typer.Option(
            "--known-clips",
            min=1,
            help=f"Clips of training that are searched for copies, at most (default: {NUM_KNOWN}).",
        ),
    ] = None,
    guide: Annotated[Path | None, typer.Option(help="A weaker checkpoint to guide away from (autoguidance).")] = None,
    as_json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE.json", help="Write all figures and verdicts.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="Write a page with judged clips, moving, and every failure."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="The seeds of all clips follow from it.")] = 0,
    device: Annotated[DeviceName, typer.Option(help="Where to compute.")] = "auto",
    precision: Annotated[PrecisionName, typer.Option(help="Arithmetic of the network; auto measures it.")] = "fp32",
) -> None:
    """Say how good a checkpoint is: how often its clips show what the prompt says, and how near they are to real ones.

    Prompts are the 1,520 frozen ones of the worlds (t2v worlds), which a judge without a network reads back from the
    pixels. Drawn clips are kept in the cache: the same command goes on where it was stopped, and Ctrl-C reports what
    is known by then, as partial. FILE.json and FILE.html are replaced.

    Exit status: 0 done; 130 stopped by Ctrl-C, with a partial report; 1 an error; 2 wrong usage.
    """
    from t2v.cache import cache_folder
    from t2v.evaluate.html import page_of
    from t2v.evaluate.request import FAMILY_NAMES, MEASURES, PROMPT_SPLITS, EvaluationRequest, chosen
    from t2v.evaluate.run import Evaluation
    from t2v.evaluate.text import lines_of
    from t2v.service import GenerationService

    # Prompts are of worlds, so of a model of other clips they are only asked where a person says so.
    measures = chosen(only or (None if clips is None else "likelihood,likeness"), MEASURES, "measure")
    if "alignment" not in measures and (prompts or splits):
        raise typer.BadParameter("--prompts and --splits choose what is judged; add --only alignment")
    if clips is not None and families and "alignment" not in measures:
        raise typer.BadParameter("--families chooses among worlds, and --clips names other clips; give one of them")
    if held_out is not None and clips is None:
        raise typer.BadParameter("--held-out goes with --clips, which names the clips of training")
    if measures == ("alignment",) and (clips or num_held_out or num_known):
        raise typer.BadParameter(
            "--clips, --held-out, --real-clips and --known-clips choose real clips, of which alignment needs none; "
            "add --only alignment,likelihood,likeness"
        )
    request = EvaluationRequest(
        settings=settings,
        measures=measures,
        splits=chosen(splits, PROMPT_SPLITS, "split"),
        families=chosen(families, FAMILY_NAMES, "family"),
        num_prompts=prompts,
        clips=clips,
        held_out=held_out,
        num_held_out=num_held_out or NUM_HELD_OUT,
        num_known=num_known or NUM_KNOWN,
    )
    _check_place(as_json, ".json")
    _check_place(html, ".html")
    service = GenerationService.load(checkpoint, guide=guide, device=device, precision=precision)
    with Evaluation(service, request, cache=cache_folder(), say=say) as evaluation:
        report = _take(evaluation)
        # Hours of drawing are safe before a line is printed, which fails where nobody reads to the end.
        _write(as_json, lambda: json.dumps(report.as_dict(), indent=1, ensure_ascii=False))
        _write(html, lambda: page_of(report, evaluation.frames_of))
        for line in lines_of(report):
            answer(line)
    if report.is_partial:
        raise typer.Exit(INTERRUPTED)


def _take(evaluation: "Evaluation") -> "Report":
    """Take all measures, or those until Ctrl-C."""
    stopped = False

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True
        signal.signal(number, before)
        say("stopping; once more ends at once, without a report")

    before = signal.signal(signal.SIGINT, on_signal)
    try:
        with progress_bar(unit="clips") as bar, closing(evaluation.steps()) as steps:
            tasks: dict[str, Any] = {}
            for progress in steps:
                if progress.part not in tasks:
                    tasks[progress.part] = bar.add_task(progress.part, total=progress.total or None, note="")
                bar.update(tasks[progress.part], completed=progress.done, note=progress.note)
                if stopped:
                    break
    finally:
        signal.signal(signal.SIGINT, before)
    return evaluation.report()


def _check_place(path: Path | None, ending: str) -> None:
    """Refuse what could not be written, before anything is drawn."""
    if path is None:
        return
    if path.suffix.lower() != ending:
        raise typer.BadParameter(f"{path} must end in {ending}")
    if path.is_dir() or not path.parent.is_dir():
        raise ClipError(f"{path} cannot be written: {'it is a folder' if path.is_dir() else 'its folder is missing'}")


def _write(path: Path | None, content: Callable[[], str]) -> None:
    if path is None:
        return
    from t2v.checkpoint.atomic import write_text

    write_text(path, content())
    say(f"wrote {path}")
