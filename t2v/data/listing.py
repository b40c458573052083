"""Which files of a folder are clips, which say something about clips, and which are not to be opened.

A subfolder is one clip of numbered frames where it holds nothing but pictures, two or more, whose names differ in one
number alone and which have no captions of their own: `walk/0001.png, walk/0002.png, ...`. In every other folder each
picture is a still of its own, save one beside a moving clip of the same name, which is taken for its thumbnail and left
out.
"""

import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import get_args

from t2v.config import FormatName
from t2v.data.metadata import METADATA_NAMES
from t2v.data.readers import png, webp
from t2v.errors import DatasetError

ENDINGS: Mapping[str, FormatName] = {
    ".gif": "gif",
    ".webp": "webp",
    ".png": "png",
    ".apng": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".webm": "webm",
    ".mkv": "mkv",
    ".avi": "avi",
}
PICTURES = ("webp", "png", "jpeg")  # what stills, frames and thumbnails come in; the first two may move
ALIKE = ({"mp4", "mov"}, {"webm", "mkv"})  # each read the same; names are given either way
GAPS_AT_MOST = 5


@dataclass(frozen=True)
class LeftOut:
    """A file that looked like a clip and is not trained on. The reason follows the name: "a.gif is empty"."""

    key: str
    reason: str


@dataclass(frozen=True)
class Listing:
    """What lies in a folder, before anything is opened.

    clips: key (path below the folder, with `/`) to the file, or to the frames of a folder in order; by key
    texts: key without ending to the `.txt` of that name
    metadata: folder, as keys spell it ("" at the top), to its metadata file
    notes: sentences about clips that are taken and may not be what was meant
    """

    clips: Mapping[str, tuple[Path, ...]]
    texts: Mapping[str, Path]
    metadata: Mapping[str, Path]
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...] = ()


@dataclass
class _Found:
    """What a walk has gathered so far."""

    clips: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    texts: dict[str, Path] = field(default_factory=dict)
    metadata: dict[str, Path] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def list_folder(folder: Path, *, formats: Collection[FormatName] = get_args(FormatName)) -> Listing:
    """Walk a folder at any depth, in an order that does not depend on the file system.

    formats: those to look for, by the endings of names; what a file is in truth is seen when it is read
    Names that begin with a dot are passed over, as everywhere. Linked folders are not entered, and a linked file counts
    only where its target lies in the folder too: a data set from a stranger must not reach other files.
    Raises DatasetError where the folder is missing, unreadable or holds no file that could be a clip.
    """
    if not folder.is_dir():
        what = "is a file, not a folder of clips" if folder.exists() else "does not exist"
        raise DatasetError(f"{folder} {what}; name a folder that holds clips")
    inside = os.path.realpath(folder)
    found = _Found()

    def unreadable(error: OSError) -> None:
        found.left_out.append(LeftOut(_key(folder, Path(error.filename)), f"cannot be opened: {error.strerror}"))

    for where, folder_names, file_names in os.walk(folder, onerror=unreadable):
        linked = [name for name in folder_names if (Path(where) / name).is_symlink()]
        found.left_out += [
            LeftOut(_key(folder, Path(where) / name), "is a linked folder and is not entered") for name in linked
        ]
        folder_names[:] = [name for name in folder_names if not name.startswith(".") and name not in linked]
        paths = [Path(where) / name for name in sorted(file_names) if not name.startswith(".")]
        _sort(folder, Path(where), paths, inside, formats, found)
    if not found.clips:
        endings = [ending for ending, name in ENDINGS.items() if name in formats]
        known = f"files that end in {', '.join(endings)}" if endings else "folders of numbered frames"
        reasons = "".join(f"; {item.key} {item.reason}" for item in found.left_out[:3])
        raise DatasetError(f"{folder} holds no {known}; add clips, or name another folder{reasons}")
    clips = dict(sorted(found.clips.items()))
    return Listing(clips, found.texts, found.metadata, tuple(found.left_out), tuple(found.notes))


def stem(key: str) -> str:
    """A key without its ending; a folder of frames has none, and keeps its dots."""
    name, dot, ending = key.rpartition(".")
    return name if dot and f".{ending.lower()}" in (*ENDINGS, ".txt") else key


def claims_other(key: str, name: FormatName) -> bool:
    """Whether a file's name claims to be of another format than it is."""
    claimed = ENDINGS.get(Path(key).suffix.lower())
    return name != "frames" and claimed != name and {claimed, name} not in ALIKE


def _sort(
    folder: Path, where: Path, paths: Sequence[Path], inside: str, formats: Collection[FormatName], found: _Found
) -> None:
    """Sort the files of one folder into what was found."""
    moving: set[str] = set()
    single: list[Path] = []
    for path in paths:
        key, ending = _key(folder, path), path.suffix.lower()
        is_clip = ending in ENDINGS and (ENDINGS[ending] in formats or ("frames" in formats and _is_picture(path)))
        is_metadata = path.name.lower() in METADATA_NAMES
        if (is_clip or ending == ".txt" or is_metadata) and (reason := _bad_link(path, inside)):
            found.left_out.append(LeftOut(key, reason))
        elif is_clip and _is_picture(path):
            single.append(path)
        elif is_clip:
            found.clips[key] = (path,)
            moving.add(stem(key))
        elif ending == ".txt":
            found.texts[stem(key)] = path
        elif is_metadata:
            _add_metadata(found.metadata, key.rpartition("/")[0], path)
    # The top folder has no name that could be a clip's.
    may_be_one = "frames" in formats and where != folder and not moving and not _has_words(folder, where, single, found)
    if may_be_one and (frames := _sequence(single)):
        _add_sequence(_key(folder, where), frames, found)
        return
    for path in single:
        key = _key(folder, path)
        if ENDINGS[path.suffix.lower()] not in formats:
            continue
        if stem(key) in moving and not _moves(path):
            reason = "is a picture beside a clip of the same name, taken for its thumbnail; rename it to train on it"
            found.left_out.append(LeftOut(key, reason))
        else:
            found.clips[key] = (path,)


def _has_words(folder: Path, where: Path, pictures: Sequence[Path], found: _Found) -> bool:
    """Whether pictures of one folder have captions of their own, which tell that they are stills."""
    return _key(folder, where) in found.metadata or any(stem(_key(folder, path)) in found.texts for path in pictures)


def _is_picture(path: Path) -> bool:
    return ENDINGS[path.suffix.lower()] in PICTURES


def _sequence(paths: Sequence[Path]) -> tuple[Path, ...] | None:
    """The paths in the order of their numbers if they are the frames of one clip, else None."""
    numbered = _numbered(paths)
    if len(paths) < 2 or len(numbered) < len(paths) or _moves(paths[0]):
        return None
    return tuple(numbered.values())


def _numbered(paths: Sequence[Path]) -> dict[int, Path]:
    """Paths by the one number in which their names differ, in its order; fewer than paths where they differ otherwise
    or a number comes twice."""
    parts = [re.split(r"(\d+)", path.name, flags=re.ASCII) for path in paths]
    if len({len(names) for names in parts}) != 1:
        return {}
    differing = [place for place, column in enumerate(zip(*parts, strict=True)) if len(set(column)) > 1]
    if len(differing) != 1 or differing[0] % 2 == 0:
        return {}
    # Longer than any count of frames: such digits are no number, and Python refuses to read the longest.
    if any(len(names[differing[0]]) > 18 for names in parts):
        return {}
    by_number = {int(names[differing[0]]): path for names, path in zip(parts, paths, strict=True)}
    return dict(sorted(by_number.items()))


def _add_sequence(key: str, frames: tuple[Path, ...], found: _Found) -> None:
    found.clips[key] = frames
    numbers = _numbered(frames)
    first, *_, last = numbers
    if lacking := last - first + 1 - len(numbers):
        gaps = islice((number for number in range(first, last) if number not in numbers), GAPS_AT_MOST)
        more = f" and {lacking - GAPS_AT_MOST:,} more" if lacking > GAPS_AT_MOST else ""
        found.notes.append(f"the numbered frames of {key} lack {', '.join(map(str, gaps))}{more}")


def _moves(path: Path) -> bool:
    """Whether a picture is an animation, as its first bytes tell."""
    try:
        with path.open("rb") as file:
            head = file.read(png.HEAD_BYTES) if path.is_file() else b""
    except OSError:
        return False  # which is said when it is read
    return webp.moves(head[: webp.HEAD_BYTES]) or (head.startswith(png.SIGNATURE) and png.moves(head))


def _key(folder: Path, path: Path) -> str:
    # A name that is not UTF-8 could be neither printed nor stored: its odd bytes are spelled out.
    return os.fsencode(path.relative_to(folder).as_posix()).decode("utf-8", errors="backslashreplace")


def _bad_link(path: Path, inside: str) -> str | None:
    if not path.is_symlink():
        return None
    target = os.path.realpath(path)
    if os.path.commonpath([inside, target]) != inside:
        return "is a link that leads outside the folder"
    return None if os.path.exists(target) else "is a link to nothing"


def _add_metadata(metadata: dict[str, Path], where: str, path: Path) -> None:
    if where in metadata:
        raise DatasetError(f"{path.parent} holds both {metadata[where].name} and {path.name}; keep one of them")
    metadata[where] = path
