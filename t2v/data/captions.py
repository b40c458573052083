"""Where the words about a clip come from.

Best first, decided for each clip by itself: a `.txt` of the same name, a `metadata.csv` or `metadata.jsonl` in its
folder or one above, the words of the file's name, the name of the nearest subfolder. A name that says nothing
(`IMG_0042`, a hash, a number) is passed over. An empty `.txt` says: no caption, and ends the search.
"""

import csv
import io
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from t2v.errors import DatasetError

CaptionSource = Literal["text file", "metadata", "file name", "folder name", "none"]

METADATA_NAMES = ("metadata.csv", "metadata.jsonl")
FILE_COLUMNS = ("file_name", "filename", "file", "path", "video_path", "video")
CAPTION_COLUMNS = ("caption", "captions", "text", "prompt", "description")
MAX_TEXT_BYTES = 1 << 16
MAX_METADATA_BYTES = 1 << 28

# What cameras, sites and programs put into names.
EMPTY_WORDS = frozenset(
    """img image images pic pics picture photo dsc dscn dscf dcim mvi mov movie vid video videos clip clips gif gifs
    giphy tenor ezgif tumblr imgur pxl gopr whatsapp screenshot screencast recording capture anim animation animated
    frame frames file untitled unnamed unknown output download downloaded copy tmp temp sample resized optimized seq
    sequence com www http https""".split()  # noqa: SIM905 a list of words reads better so
)
EMPTY_FOLDERS = EMPTY_WORDS | frozenset(
    """train training test testing val valid validation eval data dataset datasets set sets split part batch raw new old
    folder dir class classes misc other others all default""".split()  # noqa: SIM905
)
SHORT_WORDS = frozenset(
    "a i an of in on to at is it up by no my go we me he or as if be do us am so tv dj uk 2d 3d ox pi".split()  # noqa: SIM905
)
CLEAN_WORD = re.compile(r"([A-Z]?[a-z]+|[A-Z]+)([A-Z][a-z]+)*\d{0,4}")
WORD_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
HEXADECIMAL = re.compile(r"(?=.*\d)[0-9a-fA-F]{6,}|[0-9a-fA-F]{16,}")

SIDE = re.compile(
    r"(?<![^\W_])(?:(?:left|right)(?:s|most|wards?|hand|handed|sided?)?|(?:anti|counter)?clockwise)(?![^\W_])",
    re.IGNORECASE,
)


class Metadata(NamedTuple):
    """Captions by the path that a metadata file gives, relative to the folder the file lies in."""

    name: str
    captions: Mapping[str, tuple[str, ...]]


class Words(NamedTuple):
    """The captions of one clip, possibly none, and where they were found."""

    captions: tuple[str, ...]
    source: CaptionSource


def mentions_side(caption: str) -> bool:
    """Whether mirroring the clip would make its caption false: it says left, right or clockwise as a word.

    `right-hand`, `leftwards` and `turn_left` count; `bright`, `upright`, `copyright` and `leftover` do not.
    """
    return SIDE.search(caption) is not None


def choose_words(key: str, *, text: str | None, metadata: Mapping[str, Metadata]) -> Words:
    """Take the best source of captions for one clip.

    key: the clip's path in the data set, with `/`
    text: the content of its `.txt`, or None where there is none
    metadata: what `read_metadata_file` gave, by the folder it was found in ("" for the top)
    """
    if text is not None:
        lines = caption_lines(text)
        return Words(lines, "text file" if lines else "none")
    parts = key.split("/")
    for depth in range(len(parts) - 1, -1, -1):
        found = metadata.get("/".join(parts[:depth]))
        captions = found.captions.get(normal_path("/".join(parts[depth:]))) if found else None
        if captions is not None:
            return Words(captions, "metadata" if captions else "none")
    # A folder of frames is a clip whose name has no ending.
    if words := words_of_name(parts[-1].rpartition(".")[0] or parts[-1]):
        return Words((words,), "file name")
    for folder in reversed(parts[:-1]):
        if words := words_of_name(folder, empty_words=EMPTY_FOLDERS):
            return Words((words,), "folder name")
    return Words((), "none")


def caption_lines(text: str) -> tuple[str, ...]:
    """One caption a line, in order, without empty lines, doubles and needless spaces."""
    lines = (" ".join(line.split()) for line in text.splitlines())
    return tuple(dict.fromkeys(line for line in lines if line))


def words_of_name(name: str, *, empty_words: frozenset[str] = EMPTY_WORDS) -> str | None:
    """The words that a file's or folder's name says, or None where it says nothing.

    `red-circle_bounces (2)` gives `red circle bounces`, `v_ApplyEyeMakeup_g01` gives `apply eye makeup`;
    `IMG_0042`, `3o7TKSjRrfIPjeiVyM` and `d41d8cd98f00` give None.
    """
    tokens = re.split(r"[^\w]+|_+", unicodedata.normalize("NFC", name))
    words = [word for token in tokens for word in _words_of_token(token) if word.lower() not in empty_words]
    return " ".join(words) if any(len(word) > 2 or not word.isascii() for word in words) else None


def read_metadata_file(path: Path) -> Metadata:
    """Read `metadata.csv` or `metadata.jsonl`: one row per clip and caption; in JSON a list may give several.

    Columns: `file_name` (or file, path, video_path, ...) and `caption` (or text, prompt, ...), in any case.
    Raises DatasetError, because captions that go missing unnoticed would spoil the whole training.
    """
    if path.stat().st_size > MAX_METADATA_BYTES:
        raise DatasetError(f"{path} is larger than {MAX_METADATA_BYTES >> 20} MB")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DatasetError(f"{path} is not UTF-8 text; save it as UTF-8") from None
    rows = _csv_rows(path, text) if path.suffix.lower() == ".csv" else _json_rows(path, text)
    captions: dict[str, tuple[str, ...]] = {}
    for number, row in rows:
        named = {str(column).strip().lower(): value for column, value in row.items()}
        file_name = _pick(path, number, named, FILE_COLUMNS)
        said = _pick(path, number, named, CAPTION_COLUMNS)
        lines = caption_lines("\n".join(_texts(path, number, said)))
        known = captions.get(normal_path(str(file_name)), ())
        captions[normal_path(str(file_name))] = tuple(dict.fromkeys(known + lines))
    return Metadata(path.name, captions)


def normal_path(name: str) -> str:
    """One spelling for `./a\\b.gif` and `a/b.gif`, and for the two ways in which Unicode writes an accent."""
    return unicodedata.normalize("NFC", name.strip().replace("\\", "/").removeprefix("./"))


def _words_of_token(token: str) -> Iterator[str]:
    if not token.isascii():
        if token.isalpha():
            yield token
    elif token.lower() in SHORT_WORDS:
        yield token
    elif CLEAN_WORD.fullmatch(token) and not HEXADECIMAL.fullmatch(token):
        parts = WORD_PARTS.findall(token)
        for part in parts:
            if part.lower() in SHORT_WORDS or (len(part) > 2 and re.search("[aeiouyAEIOUY]", part)):
                yield part.lower() if len(parts) > 1 else part


def _csv_rows(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        for row in reader:
            yield reader.line_num, {column: value for column, value in row.items() if column is not None}
    except csv.Error as error:
        raise DatasetError(f"{path} line {reader.line_num} is not readable CSV: {error}") from None


def _json_rows(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise DatasetError(f'{path} line {number} is not a JSON object like {{"file_name": ..., "caption": ...}}')
        yield number, row


def _pick(path: Path, number: int, row: Mapping[str, Any], columns: Iterable[str]) -> Any:
    first, *others = columns
    for column in (first, *others):
        if column in row:
            return row[column]
    raise DatasetError(f"{path} line {number} has no {first} (or {', '.join(others)}); it has {', '.join(row)}")


def _texts(path: Path, number: int, said: Any) -> list[str]:
    texts = said if isinstance(said, list) else [] if said is None else [said]
    if not all(isinstance(text, str) for text in texts):
        raise DatasetError(f"{path} line {number}: a caption must be text, not {said!r:.60}")
    return texts
