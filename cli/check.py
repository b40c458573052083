"""`t2v check`: what training would read, and what the machine can do, before it does."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from t2v.cli.console import answer, say
from t2v.config import DeviceName

if TYPE_CHECKING:
    from t2v.data.check import Report
    from t2v.training.machine import MachineReport


def check(
    gifs: Annotated[Path | None, typer.Argument(help="Folder of GIFs.")] = None,
    machine: Annotated[
        bool, typer.Option("--machine", help="Measure this machine instead; takes about half a minute.")
    ] = False,
    device: Annotated[DeviceName, typer.Option(help="What --machine measures.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Say what training would read from a folder, and what is wrong; or what this machine can do.

    Every clip is read as training would; no file is changed. Exit status 1 where a file is left out.
    """
    if (gifs is None) != machine:
        given = "both were" if machine else "neither was"
        raise typer.BadParameter(
            f"give a folder of GIFs or --machine; {given} given. Try t2v check ./gifs, or t2v check --machine"
        )
    if gifs is None:
        from t2v.training.machine import check_machine

        say("measuring this machine; keep it free of other work meanwhile")
        _print(check_machine(device), as_json=as_json)
        return
    if device != "auto":
        raise typer.BadParameter("--device says what --machine measures; clips are read the same on every device")
    from t2v.data.check import check_folder

    report = check_folder(gifs)
    _print(report, as_json=as_json)
    if not report.is_ok:
        raise typer.Exit(1)


def _print(report: "Report | MachineReport", *, as_json: bool) -> None:
    if as_json:
        answer(json.dumps(report.as_dict(), indent=1, ensure_ascii=False))
        return
    for line in report.lines():
        answer(line)
