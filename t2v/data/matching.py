"""Which clip a name in a file of captions means: by its spelling alone, never by its place."""

import os
import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from t2v.data.metadata import Table
from t2v.data.metadata_rows import Said
from t2v.errors import DatasetError

MAX_SHOWN = 100  # characters of a name that is lost


class Metadata(NamedTuple):
    """What a file says of clips, by their keys, and the names it gives that are no clip's."""

    name: str
    said: Mapping[str, Said]
    lost: tuple[str, ...] = ()


def match(table: Table, stems: Mapping[str, str], *, folder: Path, where: str) -> Metadata:
    """Find the clip of each row.

    stems: every clip's key, and the key without the ending of the file
    where: the folder that the table lies in, as keys spell it ("" at the top of `folder`)
    Raises DatasetError where a cell has swallowed the row of another clip.
    """
    find = _finder(stems, folder=folder, where=where)
    said: dict[str, list[tuple[str, float]]] = defaultdict(list)
    lost: dict[str, None] = {}
    for row in table.rows:
        swallowed = next((piece for piece in row.pieces if piece and find(piece)), None)
        if swallowed is not None:
            raise DatasetError(
                f"{folder / where / table.name} {row.place}: a cell of several lines holds the clip {swallowed!r}; "
                "close the double quote before it, or write the caption on one line"
            )
        keys = find(row.name)
        for key in keys:
            said[key] += row.said
        if not keys:
            lost[row.name[:MAX_SHOWN] if row.name.isprintable() else repr(row.name)[:MAX_SHOWN]] = None
    return Metadata(table.name, {key: tuple(pairs) for key, pairs in said.items()}, tuple(lost))


def _finder(stems: Mapping[str, str], *, folder: Path, where: str) -> Callable[[str], Sequence[str]]:
    """A function from a name to the keys of the clips that it means: one; several that differ in their ending alone,
    where the name has none; or none, also where it could mean this or that clip."""
    inside = f"{where}/" if where else ""
    mine = {key: stem for key, stem in stems.items() if key.startswith(inside)}
    by_stem: dict[str, list[str]] = defaultdict(list)
    composed: dict[str, set[str]] = defaultdict(set)
    for key, stem in mine.items():
        by_stem[stem].append(key)
        composed[_composed(key)].add(key)
        composed[_composed(stem)].add(stem)
    roots = {Path(os.path.abspath(folder)).as_posix(), Path(os.path.realpath(folder)).as_posix()}

    def find(name: str) -> Sequence[str]:
        spellings = list(dict.fromkeys(_spellings(name, inside=inside, roots=roots)))
        # Exact names first: `a.gif` is that clip, also where there is an `a.gif.gif`.
        for path in spellings:
            if path in mine:
                return (path,)
        for path in spellings:
            if path in by_stem:
                return by_stem[path]
        for path in spellings:
            meant = composed.get(_composed(path), set())
            if len(meant) == 1:
                (one,) = meant
                return (one,) if one in mine else by_stem[one]
        return ()

    return find


def _spellings(name: str, *, inside: str, roots: Iterable[str]) -> Iterator[str]:
    """A name as a key could spell it: as it is; then without `./`, with `/` for Windows' separator, below the folder.

    inside: where the file lies, as keys begin; roots: the data set's folder, with and without links
    """
    yield inside + name
    path = posixpath.normpath(name.strip().replace("\\", "/"))
    if path.startswith("/") or re.match("[A-Za-z]:/", path):
        for root in roots:
            if path.startswith(root.rstrip("/") + "/"):
                yield path.removeprefix(root.rstrip("/") + "/")
    elif path != "." and path.split("/")[0] != "..":
        yield inside + path


def _composed(name: str) -> str:
    """One spelling for the two ways in which Unicode writes an accent."""
    return unicodedata.normalize("NFC", name)
