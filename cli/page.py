"""`t2v app`: the page in the browser."""

import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from t2v.cli.console import answer, say
from t2v.config import DeviceName, PrecisionName


def app(
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port to serve at (default: the first free one from 7860 on).")
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="A checkpoint file or a run folder to offer first (default: the model in the box)."),
    ] = None,
    runs: Annotated[
        Path, typer.Option(help="Folder of runs, offered as models and shown in the training view.")
    ] = Path("runs"),
    auth: Annotated[
        str | None, typer.Option(metavar="USER:PASSWORD", help="Ask browsers for this login.", show_default=False)
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to serve at; one that other machines can reach needs --auth.")
    ] = "127.0.0.1",
    device: Annotated[DeviceName, typer.Option(help="Where to compute.")] = "auto",
    precision: Annotated[PrecisionName, typer.Option(help="Arithmetic of the network; auto measures it.")] = "fp32",
) -> None:
    """Open the page: prompts, previews and downloads in the browser, and a view of training runs. Ctrl-C ends it."""
    from t2v.page import serve_page

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the page's folder goes with it
    say("loading the model")
    with serve_page(
        host=host, port=port, auth=auth, checkpoint=checkpoint, runs=runs, device=device, precision=precision
    ) as address:
        answer(f"the page is at {address} (Ctrl-C ends it)")
        threading.Event().wait()
