"""`t2v check`: what training would see, and what the machine can do, before it does."""

import io
import json
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from t2v.cli.console import answer, progress_bar, say
from t2v.cli.options import parse_assignments
from t2v.config import DeviceName
from t2v.errors import DatasetError, SettingsError
from t2v.reading import load_recipe

if TYPE_CHECKING:
    from t2v.data.check.report import Report
    from t2v.training.machine import MachineReport

TAKEN_RECIPE = "small"


def check(
    gifs: Annotated[Path | None, typer.Argument(help="Folder of GIFs.")] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help=f"See the clips as this recipe does: a name or a .toml file (default: {TAKEN_RECIPE})."),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, as t2v train does: data.size=32."),
    ] = None,
    hold_out: Annotated[
        str | None, typer.Option(metavar="SHARE", help="Which clips data.hold_out=SHARE would hold out, such as 5%.")
    ] = None,
    clips: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Also these, clip by clip: a part of a name, or a pattern; '*' is all."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON, with every clip.")] = False,
    sheet: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw the clips (or those of --clips) on a contact sheet.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write the report as a page, with the clips moving.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Write over FILE.png and FILE.html if they are there.")
    ] = False,
    machine: Annotated[
        bool, typer.Option("--machine", help="Measure this machine instead; takes about half a minute.")
    ] = False,
    device: Annotated[DeviceName, typer.Option(help="What --machine measures.")] = "auto",
) -> None:
    """Say what training would see of a folder, and what is wrong; or what this machine can do.

    Clips are read as training does, and kept in its cache. No file of the folder is changed.

    Exit status: 0 every file is read, whatever the warnings; 1 a file is left out, or none can be read; 2 wrong usage.

    Keys of --json: recipe, folder, ok, verdict, fingerprint (of clips and captions), settings, num_clips, num_frames,
    seconds, formats, captioned, caption_sources, words (with the clips that have each), split, findings (kind, level,
    sentence, clips, groups), left_out (key, reason), warnings (the sentences alone) and clips: path, key, captions and
    what else is known of each file, seen (measures of its pictures), split, done (to it) and findings (their kinds).
    """
    if (gifs is None) != machine:
        given = "both were" if machine else "neither was"
        raise typer.BadParameter(
            f"give a folder of GIFs or --machine; {given} given. Try t2v check ./gifs, or t2v check --machine"
        )
    if gifs is None:
        asked = {"--recipe": recipe, "--set": assignments, "--hold-out": hold_out, "--clips": clips, "--html": html}
        for_clips = [name for name, value in (asked | {"--sheet": sheet, "--force": force}).items() if value]
        if for_clips:
            raise typer.BadParameter(f"{' and '.join(for_clips)} can be had for clips; --machine looks at none")
        _check_machine(device, as_json=as_json)
        return
    if device != "auto":
        raise typer.BadParameter("--device says what --machine measures; clips are read the same on every device")
    if force and not (sheet or html):
        raise typer.BadParameter("--force goes with --sheet or --html")
    if clips is not None and as_json and not (sheet or html):
        raise typer.BadParameter("--json has every clip; --clips chooses for the text, --sheet and --html")
    overrides = parse_assignments(assignments or [])
    if hold_out is not None:
        if "data.hold_out" in overrides:
            raise typer.BadParameter("--hold-out and --set data.hold_out say the same; give one of them")
        overrides["data.hold_out"] = str(_share(hold_out))
    _check_clips(
        gifs, recipe=recipe, overrides=overrides, pattern=clips, as_json=as_json, sheet=sheet, html=html, force=force
    )


def _check_machine(device: str, *, as_json: bool) -> None:
    from t2v.training.machine import check_machine

    say("measuring this machine; keep it free of other work meanwhile")
    report: MachineReport = check_machine(device)
    if as_json:
        _answer_json(report.as_dict())
        return
    for line in report.lines():
        answer(line)


def _check_clips(
    gifs: Path,
    *,
    recipe: str | None,
    overrides: dict[str, str],
    pattern: str | None,
    as_json: bool,
    sheet: Path | None,
    html: Path | None,
    force: bool,
) -> None:
    from t2v.cache import cache_folder
    from t2v.data.check.report import check_folder
    from t2v.data.check.text import lines_of

    settings = load_recipe(recipe or TAKEN_RECIPE, overrides)
    for path, ending in ((sheet, ".png"), (html, ".html")):
        if path is not None:
            _check_place(path, ending, gifs, force=force)
    with progress_bar(unit="files") as bar:
        task = bar.add_task("reading", total=None, note="")
        report = check_folder(
            gifs,
            settings,
            cache=cache_folder(),
            say=say,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if recipe is None:
        say(f"as the recipe {TAKEN_RECIPE} sees clips; t2v train chooses one itself unless it is told --recipe too")
    if as_json:
        _answer_json({"recipe": recipe or TAKEN_RECIPE, **report.as_dict()})
    else:
        for line in lines_of(report, pattern):
            answer(line)
    _write_pictures(report, pattern or "*", sheet=sheet, html=html, force=force)
    if not report.is_ok:
        raise typer.Exit(1)


def _write_pictures(report: "Report", pattern: str, *, sheet: Path | None, html: Path | None, force: bool) -> None:
    if sheet is not None:
        from t2v.data.check.sheet import draw_sheet

        buffer = io.BytesIO()
        draw_sheet(report, pattern).save(buffer, "PNG")
        _write(sheet, buffer.getvalue(), force=force)
    if html is not None:
        from t2v.data.check.html import page_of

        _write(html, page_of(report, pattern).encode(), force=force)


def _check_place(path: Path, ending: str, gifs: Path, *, force: bool) -> None:
    """Refuse what could not be written or would change the folder, before any clip is read."""
    if path.suffix.lower() != ending:
        raise typer.BadParameter(f"{path} must end in {ending}")
    if path.resolve().is_relative_to(gifs.resolve()):
        raise DatasetError(f"{path} lies among the clips, of which none is to change; name a place outside of {gifs}")
    if path.is_dir() or not path.parent.is_dir():
        raise DatasetError(
            f"{path} cannot be written: {'it' if path.is_dir() else path.parent} is no folder to write into"
        )
    if path.exists() and not force:
        raise _is_there(path)


def _is_there(path: Path) -> DatasetError:
    return DatasetError(f"{path} is there already; add --force to write over it, or name another file")


def _write(path: Path, content: bytes, *, force: bool) -> None:
    """Put a file in place whole or not at all. Raises DatasetError where one has come there meanwhile."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        part.write_bytes(content)
        if path.exists() and not force:
            raise _is_there(path)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    say(f"wrote {path}")


def _share(text: str) -> float:
    """A share such as 5% or 0.05. Raises SettingsError for anything else."""
    number, percent, _ = text.strip().partition("%")
    try:
        share = float(number) / (100 if percent else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise SettingsError(f"--hold-out takes a share such as 5% or 0.05, not {text!r}")
    return share


def _answer_json(report: dict[str, object]) -> None:
    answer(json.dumps(report, indent=1, ensure_ascii=False))
