"""The `t2v` command: its subcommands, and errors as one line."""

import signal
import sys
from typing import Annotated

import typer

import t2v
from t2v.cli.check import check
from t2v.cli.convert import import_model
from t2v.cli.generate import generate
from t2v.cli.info import info
from t2v.cli.train import train
from t2v.cli.worlds import worlds
from t2v.errors import T2VError

app = typer.Typer(
    name="t2v",
    help="Train your own text-to-video model on a folder of GIFs, and make clips from prompts.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(train)
app.command()(generate)
app.command()(check)
app.command()(worlds)
app.command("import")(import_model)
app.command()(info)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"t2v {t2v.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
) -> None: ...


def main() -> None:
    """Run the command line. Exit status: 0 done, 1 an error that the person can mend, 2 wrong usage."""
    signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
    try:
        app()
    except T2VError as error:
        if "--debug" in sys.argv:
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
