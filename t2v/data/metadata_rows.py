"""A row of a file of captions: which of its columns name the clip, its captions and their weights."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from t2v.errors import DatasetError

# Columns as they are compared: in small letters, without spaces, hyphens and underlines. Of several the first is taken.
FILE_COLUMNS = (
    *("filename", "file", "path", "filepath", "videopath", "video", "videofile", "videofilename", "videoname"),
    *("clippath", "clip", "gifpath", "gif", "mediapath", "media", "imagepath", "image", "imagefile", "videoid"),
)
CAPTION_COLUMNS = ("caption", "captions", "text", "texts", "prompt", "prompts", "description", "descriptions", "cap")
WEIGHT_COLUMNS = ("weight", "weights", "captionweight", "captionweights")

MAX_CAPTION_LENGTH = 1 << 16
MAX_WEIGHT = 1e6

Said = tuple[tuple[str, float], ...]
"""Captions with weights, in order; an empty caption stands for no text"""


class Row(NamedTuple):
    """What a file says of one clip.

    place: `line 3`, as errors call it; name: of the clip, as it is given
    pieces: of CSV cells that go over several lines, what lies between the commas of a line: a clip's name among them
    tells that a quote was not closed
    """

    place: str
    name: str
    said: Said
    pieces: tuple[str, ...] = ()


def row_of(path: Path, place: str, cells: Iterable[tuple[Any, Any]]) -> Row:
    """The row of a table. cells: columns with what they hold. Raises DatasetError where one is missing or no good."""
    named = _named(path, place, cells)
    names = _held(path, place, named, FILE_COLUMNS, "file_name")
    name = next((name for name in names if name not in (None, "")), names[0])
    if isinstance(name, bool) or not isinstance(name, str | int) or not str(name).strip():
        raise DatasetError(f"{path} {place} names no file, but {name!r:.60}")
    said = _held(path, place, named, CAPTION_COLUMNS, "caption")[0]
    return Row(place, _whole(path, place, str(name)), said_by(path, place, said, _weight_in(named)))


def said_by(path: Path, place: str, said: Any, weight: Any = None) -> Said:
    """The captions in a value: text, whose lines are captions each, an object with a caption, or a list of these.

    weight: of all, or a list with one for each; None is 1, or what the objects say themselves
    """
    if isinstance(said, dict):
        named = _named(path, place, said.items())
        held = _held(path, place, named, CAPTION_COLUMNS, "caption")[0]
        return said_by(path, place, held, _weight_in(named) if weight is None else weight)
    if isinstance(said, list):
        if isinstance(weight, list) and len(weight) != len(said):
            raise DatasetError(f"{path} {place} has {len(weight)} weights for {len(said)} captions")
        weights = weight if isinstance(weight, list) else [weight] * len(said)
        pairs = zip(said, weights, strict=True)
        return tuple(pair for item, each in pairs for pair in said_by(path, place, item, each))
    text = "" if said is None else said
    if not isinstance(text, str):
        raise DatasetError(f"{path} {place}: a caption must be text, not {text!r:.60}")
    if len(text) > MAX_CAPTION_LENGTH:
        raise DatasetError(f"{path} {place}: a caption must have at most {MAX_CAPTION_LENGTH:,} characters")
    number = _weight(path, place, weight)
    return tuple((line, number) for line in lines_of(_whole(path, place, text)) or [""])


def lines_of(text: str) -> list[str]:
    """The captions of a text, one a line, without needless spaces and empty lines."""
    return [line for line in (" ".join(line.split()) for line in text.splitlines()) if line]


def knows_any(columns: Iterable[Any], known: Sequence[str]) -> bool:
    """Whether one of the columns is known, however it is written: `File Name`, `file_name`, `fileName`."""
    return any(_column(column) in known for column in columns)


def _named(path: Path, place: str, cells: Iterable[tuple[Any, Any]]) -> dict[str, Any]:
    named: dict[str, Any] = {}
    for column, value in cells:
        name = _column(column)
        if name in named and name in (*FILE_COLUMNS, *CAPTION_COLUMNS, *WEIGHT_COLUMNS):
            raise DatasetError(f"{path} {place} has the column {column!r} twice; keep one of them")
        named[name] = value
    return named


def _column(name: Any) -> str:
    return re.sub(r"[\s_-]", "", str(name)).lower()


def _held(path: Path, place: str, named: Mapping[str, Any], columns: Sequence[str], usual: str) -> list[Any]:
    """What the known columns hold, in their order; never empty."""
    held = [named[column] for column in columns if column in named]
    if not held:
        others = ", ".join(columns[1:6])
        raise DatasetError(f"{path} {place} has no {usual} (or {others}, ...); it has {', '.join(named):.200}")
    return held


def _weight_in(named: Mapping[str, Any]) -> Any:
    return next((named[column] for column in WEIGHT_COLUMNS if column in named), None)


def _weight(path: Path, place: str, given: Any) -> float:
    if given is None or (isinstance(given, str) and not given.strip()):
        return 1.0
    try:
        number = math.nan if isinstance(given, bool) else float(given)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 < number <= MAX_WEIGHT:
        raise DatasetError(
            f"{path} {place}: a weight must be a number above 0 and at most {MAX_WEIGHT:,.0f}, not {given!r:.60}; "
            "leave out a caption that is not to be drawn"
        )
    return number


def _whole(path: Path, place: str, text: str) -> str:
    """The text itself. JSON can spell halves of characters, which nothing could store or print."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DatasetError(f"{path} {place} holds half of a character, a lone surrogate; write it whole") from None
    return text
