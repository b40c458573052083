"""How a file is known to be what it was without reading it again."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

# The coarsest clock of a file system, FAT's, counts 2 s: a file may have changed again unseen until that is over.
CLOCK_GRAIN_NS = 2_000_000_000

_T = TypeVar("_T")


def file_mark(key: str, paths: Sequence[Path]) -> str | None:
    """What changes whenever the content of files does: name, size, place on the disk, times. None where one is gone."""
    stats = _stats(paths)
    return None if stats is None else json.dumps([key, stats])


def read_marked(key: str, paths: Sequence[Path], read: Callable[[], _T]) -> tuple[_T, str | None]:
    """What `read` makes of files, and the mark by which that may be remembered; None where they may change, or may have
    changed meanwhile, without another mark."""
    before, started_ns = _stats(paths), time.time_ns()
    content = read()
    if before is None or before != _stats(paths):
        return content, None
    # The time of change is the system's own; the time of modification is whatever a program last set.
    settled = all(max(modified, changed) <= started_ns - CLOCK_GRAIN_NS for _, modified, changed, _ in before)
    return content, file_mark(key, paths) if settled else None


def _stats(paths: Sequence[Path]) -> list[tuple[int, int, int, int]] | None:
    try:
        stats = [path.stat() for path in paths]
    except OSError:
        return None
    return [(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino) for stat in stats]
