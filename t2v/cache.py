"""What is kept on the user's disk from one start to the next: rows of numbers, found by what they were made from.

A row is a run of items of one shape, as many as it takes: the frames of a clip, or a single vector. Rows lie in packs:
a file of items, one after another, and an index beside it, a line of JSON a row. A pack is written by one process, only
ever at its end, and a row counts from the moment that its line is there; so several processes need no lock, and
whatever a killed one had finished is found by the next. Rows are read through a memory map: more of them than memory
holds cost no more than those in use.
"""

import errno
import json
import math
import os
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np

ENVIRONMENT = "T2V_CACHE"
MAX_BYTES = 20 << 30  # of all packs together; only a run that needs more by itself may pass it
MIN_FREE_BYTES = 1 << 30  # the disk is the user's: this much of it is never taken
SYNC_S = 1.0  # a kill costs the work of about this long

Facts = dict[str, Any]
_Span = tuple[int, int]  # the first item of a row, and how many it has


def cache_folder() -> Path:
    """Where T2V_CACHE says, or t2v's part of the person's folder of caches. It may not be there yet."""
    if asked := os.environ.get(ENVIRONMENT):
        return Path(asked).expanduser()
    match sys.platform:
        case "darwin":
            base = Path.home() / "Library" / "Caches"
        case "win32":
            base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
        case _:
            base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "t2v"


class RowCache:
    """Rows of items of one shape and type, each with its facts, by key; to be used in a `with`.

    root: the cache, or None to keep everything in memory
    kind: folder below it, `<what>/<settings>`, where only such rows lie: all that they depend on beside the key
    shape: of one item, such as h w c; a row is n of them, n >= 1
    say: told once if the disk cannot take more; rows are kept in memory from then on
    """

    def __init__(
        self,
        root: Path | None,
        kind: str,
        *,
        shape: Sequence[int],
        dtype: type[np.generic],
        say: Callable[[str], None],
    ) -> None:
        self._root = root
        self._folder = None if root is None else root / kind
        self._shape, self._dtype = tuple(shape), np.dtype(dtype)
        self._say = say
        self._entries: dict[str, _Entry] = {}
        self._rows: dict[str, np.ndarray] = {}  # those that are on no disk, or not for certain
        self._unsynced: list[tuple[str, _Span | None]] = []
        self._writer: _Writer | None = None
        self._used: set[Path] = set()

    def __enter__(self) -> Self:
        for index in sorted(self._folder.glob("*.index")) if self._folder else ():
            self._add_pack(index)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Make what was added last. Arrays can be had after it, too."""
        self._sync()
        for index in self._used:
            with suppress(OSError):  # where only reading is allowed, age does not count either
                os.utime(index)
        if self._writer is not None:
            self._writer.close()
            assert self._root is not None
            trim(self._root, max_bytes=MAX_BYTES, keep={*self._used, self._writer.pack.index})

    def facts(self, key: str) -> Facts | None:
        """What is known of a row; None where there is no such row. To ask for it counts as use of its pack."""
        entry = self._entries.get(key)
        if entry is not None and entry.pack is not None:
            self._used.add(entry.pack.index)
        return None if entry is None else entry.facts

    def add(self, key: str, row: np.ndarray | None, facts: Facts) -> None:
        """Keep a row, n and the shape of an item; None where there is nothing but facts."""
        assert row is None or (len(row) and row.shape[1:] == self._shape and row.dtype == self._dtype)
        if key in self._entries:
            return
        self._entries[key] = _Entry(facts)
        if row is not None:
            self._rows[key] = row
        if self._folder is None:
            return
        try:
            self._writer = self._writer or _Writer(self._folder)
            self._unsynced.append((key, None if row is None else self._writer.append(row)))
            if time.monotonic() - self._writer.synced > SYNC_S:
                self._sync()
        except OSError as error:
            self._give_up(error)

    def array(self, key: str) -> np.ndarray:
        """The row of a key that has one, n and the shape of an item; not to be written to."""
        entry = self._entries[key]
        if key in self._rows:
            return self._rows[key]
        assert entry.pack is not None and entry.pack.mapped is not None and entry.span is not None
        start, count = entry.span
        return entry.pack.mapped[start : start + count]

    def _add_pack(self, index: Path) -> None:
        pack = _Pack(index)
        try:
            lines = index.read_bytes().split(b"\n")[:-1]
            pack.map(self._shape, self._dtype)
        except OSError:
            return  # removed by another process just now, or not ours to read
        for line in lines:
            try:
                key, span, facts = json.loads(line)
                is_there = span is None or sum(span) <= pack.num_items
            except (ValueError, TypeError):
                continue  # damaged, or from before a row was a run
            if is_there:
                self._entries.setdefault(key, _Entry(facts, pack, span))

    def _sync(self) -> None:
        """Write the lines of the rows that are on the disk, and take those rows from memory."""
        if self._writer is None or not self._unsynced:
            return
        try:
            self._writer.sync([[key, span, self._entries[key].facts] for key, span in self._unsynced])
            self._writer.pack.map(self._shape, self._dtype)
        except OSError as error:
            self._give_up(error)
            return
        for key, span in self._unsynced:
            self._entries[key] = _Entry(self._entries[key].facts, self._writer.pack, span)
            self._rows.pop(key, None)
        self._unsynced.clear()

    def _give_up(self, error: OSError) -> None:
        """Go on without the disk: what is not safely there stays in memory."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._say(f"note: the cache {self._folder} takes no more ({error.strerror}); going on in memory")
        self._root = self._folder = None
        self._unsynced.clear()


class _Pack:
    """An index, and a map of the items beside it as far as they went when it was taken."""

    def __init__(self, index: Path) -> None:
        self.index = index
        self.rows = index.with_suffix(".rows")
        self.mapped: np.ndarray | None = None

    @property
    def num_items(self) -> int:
        return 0 if self.mapped is None else len(self.mapped)

    def map(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        num_items = self.rows.stat().st_size // (math.prod(shape) * dtype.itemsize)
        if num_items:
            # Read only: for a private map that may be written to, Linux wants memory for the whole of it.
            # As a plain array: each part that is taken of a memmap costs a dictionary.
            self.mapped = np.asarray(np.memmap(self.rows, dtype=dtype, mode="r", shape=(num_items, *shape)))


@dataclass(frozen=True)
class _Entry:
    """Facts, and where the row is if not in memory."""

    facts: Facts
    pack: _Pack | None = None
    span: _Span | None = None


class _Writer:
    """A pack that grows. Raises OSError where the disk is full or not ours."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.pack = _Pack(folder / f"{uuid.uuid4().hex}.index")
        self.synced = time.monotonic()
        self._num_items = 0
        # The index comes first: what no index names would never be found to be trimmed.
        self._index_file: BinaryIO = self.pack.index.open("xb", buffering=0)
        self._rows_file: BinaryIO = self.pack.rows.open("xb")

    def append(self, row: np.ndarray) -> _Span:
        """Write a row at the end; returns where it is."""
        if shutil.disk_usage(self.pack.rows.parent).free < MIN_FREE_BYTES + row.nbytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._rows_file.write(np.ascontiguousarray(row).data)
        self._num_items += len(row)
        return self._num_items - len(row), len(row)

    def sync(self, lines: Sequence[Any]) -> None:
        """Wait until all rows are on the disk, then name them in the index."""
        self._rows_file.flush()
        os.fsync(self._rows_file.fileno())
        self._index_file.write("".join(json.dumps(line) + "\n" for line in lines).encode())
        self.synced = time.monotonic()

    def close(self) -> None:
        with suppress(OSError):  # of a full disk, whose lines are not written either
            self._rows_file.close()
        self._index_file.close()


def trim(root: Path, *, max_bytes: int, keep: set[Path]) -> None:
    """Remove the packs whose use is longest ago until those under `root` take max_bytes.

    keep: index files of packs that stay. A process that has a removed pack open keeps its rows until it ends.
    """
    packs = []
    for index in root.glob("*/*/*.index"):
        with suppress(OSError):
            size = index.stat().st_size + _Pack(index).rows.stat().st_size
            packs.append((index.stat().st_mtime, size, index))
    total = sum(size for _, size, _ in packs)
    for _, size, index in sorted(packs):
        if total <= max_bytes:
            return
        if index in keep:
            continue
        with suppress(OSError):  # another process was quicker, or has it open where that holds files fast
            _Pack(index).rows.unlink(missing_ok=True)
            index.unlink()
            total -= size
