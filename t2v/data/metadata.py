"""Files that give the captions of many clips: tables, JSON as several trainers write it, and pairs of lists.

What cannot be read without a guess is an error that names file and place: captions that go missing unnoticed, or come
to stand beside another clip, would spoil the whole training.
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from t2v.data.metadata_rows import CAPTION_COLUMNS, FILE_COLUMNS, Row, knows_any, row_of, said_by
from t2v.errors import DatasetError

METADATA_NAMES = (
    *("metadata.csv", "metadata.jsonl", "metadata.json"),
    *("captions.csv", "captions.jsonl", "captions.json"),
)
CLIP_LISTS = ("videos.txt", "video.txt")
CAPTION_LISTS = ("prompts.txt", "prompt.txt", "captions.txt", "caption.txt")

MAX_METADATA_BYTES = 1 << 28
LIKE_THIS = 'like {"file_name": ..., "caption": ...}'


class Table(NamedTuple):
    """The rows of a file, as they are."""

    name: str
    rows: tuple[Row, ...]


def read_metadata_file(path: Path) -> Table:
    """Read CSV, JSON or JSON lines: rows of one clip and its caption or captions, each perhaps with a weight.

    JSON may also be an object of name to caption, to a list of captions or to a row, and may hold its rows in a list
    under any key. Raises DatasetError for whatever is none of these.
    """
    kind = path.suffix.lower()
    read = _csv_rows if kind == ".csv" else _json_lines if kind == ".jsonl" else _json_rows
    try:
        return Table(path.name, tuple(read(path, _text(path))))
    except RecursionError:
        raise DatasetError(f"{path} is not readable JSON: brackets without end") from None


def read_lists(clips: Path, captions: Path) -> Table:
    """Read a pair of lists: line k of the one names a clip, line k of the other is its caption, or empty.

    They have nothing but their order to go by, so the number of lines has to agree: DatasetError where it does not.
    """
    # Lines as editors count them: a place counts here, and other signs that end lines may stand within a caption.
    names = _text(clips).rstrip("\r\n").split("\n")
    texts = _text(captions).removesuffix("\n").split("\n")
    while len(texts) > len(names) and not texts[-1].strip():
        texts.pop()
    if len(names) != len(texts):
        raise DatasetError(
            f"{clips} names {len(names)} clips and {captions.name} holds {len(texts)} captions; each line of the one "
            "belongs to the same line of the other"
        )
    rows = []
    for number, (name, text) in enumerate(zip(names, texts, strict=True), start=1):
        if not name.strip():
            raise DatasetError(f"{clips} line {number} names no clip")
        place = f"line {number}"
        rows.append(Row(place, name.strip(), said_by(captions, place, " ".join(text.split()))))
    return Table(f"{clips.name} with {captions.name}", tuple(rows))


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_METADATA_BYTES:
            raise DatasetError(f"{path} is larger than {MAX_METADATA_BYTES >> 20} MB")
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DatasetError(f"{path} is not UTF-8 text; save it as UTF-8") from None


def _csv_rows(path: Path, text: str) -> Iterator[Row]:
    sign = _separator(text)
    # A quote at the wrong place would swallow the rows after it: strict refuses most of those.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=sign, strict=True)
    header: list[str] = []
    try:
        for cells in reader:
            while len(cells) > len(header) and not cells[-1]:  # as spreadsheets fill up their rows
                cells.pop()
            if not any(cells):
                continue
            if not header:
                header = cells
                continue
            place = f"line {reader.line_num}"
            if len(cells) != len(header):
                raise DatasetError(
                    f"{path} {place} has {len(cells)} cells where the first line has {len(header)}; a caption that "
                    f"holds {sign!r} is to stand in double quotes"
                )
            row = row_of(path, place, zip(header, cells, strict=True))
            yield row._replace(pieces=tuple(_pieces(cells, sign)))
    except csv.Error as error:
        raise DatasetError(f"{path} line {reader.line_num} is not readable CSV: {error}") from None


def _pieces(cells: list[str], sign: str) -> Iterator[str]:
    for cell in cells:
        lines = re.split(r"[\r\n]+", cell)
        for line in lines if len(lines) > 1 else ():
            if sign in line:
                yield from (piece.strip(' "') for piece in line.split(sign))


def _separator(text: str) -> str:
    """A comma, unless the first line has the known columns with another sign that spreadsheets write."""
    first = text.lstrip("\r\n").partition("\n")[0]
    for sign in ",;\t":
        columns = [cell.strip('" \r') for cell in first.split(sign)]
        if knows_any(columns, FILE_COLUMNS) and knows_any(columns, CAPTION_COLUMNS):
            return sign
    return ","


def _json_lines(path: Path, text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), start=1):
        place = f"line {number}"
        if line.strip():
            row = _json(path, line, place)
            if not isinstance(row, dict):
                raise DatasetError(f"{path} {place} is not a JSON object {LIKE_THIS}")
            yield row_of(path, place, row.items())


def _json_rows(path: Path, text: str) -> Iterator[Row]:
    content = _json(path, text)
    if isinstance(content, dict):
        content = _list_within(path, content)
    if isinstance(content, dict):
        for name, said in content.items():
            place = f"at {name!r:.60}"
            yield Row(place, name, said_by(path, place, said))
        return
    if not isinstance(content, list):
        raise DatasetError(f"{path} is neither a list of objects {LIKE_THIS} nor an object of names and captions")
    for number, row in enumerate(content, start=1):
        if not isinstance(row, dict):
            raise DatasetError(f"{path} item {number} is not an object {LIKE_THIS}")
        yield row_of(path, f"item {number}", row.items())


def _list_within(path: Path, content: dict[str, Any]) -> Any:
    """The list of rows under one of the keys; without one the content, which names the clips itself."""
    lists = {key: value for key, value in content.items() if _has_rows(value, FILE_COLUMNS)}
    told = [value for value in lists.values() if _has_rows(value, CAPTION_COLUMNS)]
    if lists and len(told) != 1:
        raise DatasetError(
            f"{path} has files listed under {', '.join(map(repr, lists))}, and {len(told)} of these lists have "
            "captions; it must be one"
        )
    return told[0] if lists else content


def _has_rows(value: Any, columns: tuple[str, ...]) -> bool:
    """Whether a list holds objects with one of the columns: a list of captions may hold objects that name no file."""
    return isinstance(value, list) and any(isinstance(row, dict) and knows_any(row, columns) for row in value)


class _TwiceError(Exception):
    """A name that comes twice in one JSON object, of which Python would forget the first."""


def _json(path: Path, text: str, place: str | None = None) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            ((name, _),) = Counter(name for name, _ in pairs).most_common(1)
            raise _TwiceError(name)
        return found

    where = f"{path} {place}" if place else str(path)
    try:
        return json.loads(text, object_pairs_hook=unique)
    except _TwiceError as error:
        raise DatasetError(
            f"{where} has {error.args[0]!r:.60} twice; give all captions of a clip as one list"
        ) from None
    except json.JSONDecodeError as error:
        raise DatasetError(f"{path} {place or f'line {error.lineno}'} is not readable JSON: {error.msg}") from None
    except ValueError:
        raise DatasetError(f"{where} is not readable JSON: a number has thousands of digits") from None
