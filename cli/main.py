"""The `t2v` command: its subcommands, and errors as one line."""

import io
import os
import signal
import sys
from typing import Annotated

import typer

import t2v
from t2v.cli.check import check
from t2v.cli.convert import import_model
from t2v.cli.evaluate import evaluate
from t2v.cli.export import export
from t2v.cli.generate import generate
from t2v.cli.info import info
from t2v.cli.pack import pack
from t2v.cli.page import app as page
from t2v.cli.train import train
from t2v.cli.worlds import worlds
from t2v.errors import T2VError

app = typer.Typer(
    name="t2v",
    help="Train your own text-to-video model on a folder of GIFs, and make clips from prompts.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # boxes cut long options off, and take longer to load than all the rest
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
app.command()(train)
app.command()(generate)
app.command("app")(page)
app.command()(check)
app.command()(pack)
app.command()(worlds)
app.command()(evaluate)
app.command()(export)
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
    set_up_process()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a prompt must not fail on what a terminal cannot show
    # Where the error was there is the end of the line, and there people add it.
    debug = "--debug" in sys.argv
    try:
        app(args=[argument for argument in sys.argv[1:] if argument != "--debug"], prog_name="t2v")
    except (T2VError, OSError) as error:
        if debug:
            raise
        print(f"error: {_one_line(error)}", file=sys.stderr)
        sys.exit(1)


def set_up_process() -> None:
    """What has to be chosen before torch is loaded, where the environment has not chosen already."""
    # By default torch's threads wait by spinning: with one core busy elsewhere, a clip of 3 seconds then takes minutes.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).splitlines())
