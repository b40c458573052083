"""The command line run in this process, exactly as the installed `t2v` runs it."""

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from t2v.cli.main import main


class Answer(NamedTuple):
    """What a command leaves: its exit status and what it wrote."""

    status: int
    out: str
    err: str


@pytest.fixture
def t2v(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Answer]]:
    """t2v("generate", "a cat", ...) runs a command in a new folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGINT)

    def run(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["t2v", *map(str, arguments)])
        status = 0
        try:
            main()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 0
        return Answer(status, *capsys.readouterr())

    yield run
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def refused(t2v: Callable[..., Answer]) -> Callable[..., str]:
    """refused(...) runs a command that must end with status 1 and one line on stderr, and returns that line."""

    def run(*arguments: object) -> str:
        status, out, err = t2v(*arguments)
        assert (status, out) == (1, "")
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        return err

    return run
