"""`t2v check`: what training would read, before it does."""

import json
from pathlib import Path
from typing import Annotated

import typer

from t2v.cli.console import answer


def check(
    gifs: Annotated[Path, typer.Argument(help="Folder of GIFs.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Say what training would read from a folder, and what is wrong.

    Every clip is read as training would; no file is changed. Exit status 1 where a file is left out.
    """
    from t2v.data.check import check_folder

    report = check_folder(gifs)
    if as_json:
        answer(json.dumps(report.as_dict(), indent=1, ensure_ascii=False))
    else:
        for line in report.lines():
            answer(line)
    if not report.is_ok:
        raise typer.Exit(1)
