"""Which files of a folder are clips, which say something about clips, and which are not to be opened."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from t2v.data.metadata import METADATA_NAMES
from t2v.errors import DatasetError

CLIP_ENDING = ".gif"


@dataclass(frozen=True)
class LeftOut:
    """A file that looked like a clip and is not trained on. The reason follows the name: "a.gif is empty"."""

    key: str
    reason: str


@dataclass(frozen=True)
class Listing:
    """What lies in a folder, before anything is opened.

    clips: key (path below the folder, with `/`) to path, in the order of the keys
    texts: key without ending to the `.txt` of that name
    metadata: folder, as keys spell it ("" at the top), to its metadata file
    """

    clips: Mapping[str, Path]
    texts: Mapping[str, Path]
    metadata: Mapping[str, Path]
    left_out: tuple[LeftOut, ...]


def list_folder(folder: Path) -> Listing:
    """Walk a folder at any depth, in an order that does not depend on the file system.

    Names that begin with a dot are passed over, as everywhere. Linked folders are not entered, and a linked file counts
    only where its target lies in the folder too: a data set from a stranger must not reach other files.
    Raises DatasetError where the folder is missing, unreadable or holds no file that could be a clip.
    """
    if not folder.is_dir():
        what = "is a file, not a folder of clips" if folder.exists() else "does not exist"
        raise DatasetError(f"{folder} {what}; name a folder that holds .gif files")
    inside = os.path.realpath(folder)
    clips: dict[str, Path] = {}
    texts: dict[str, Path] = {}
    metadata: dict[str, Path] = {}
    left_out: list[LeftOut] = []

    def unreadable(error: OSError) -> None:
        left_out.append(LeftOut(_key(folder, Path(error.filename)), f"cannot be opened: {error.strerror}"))

    for where, folder_names, file_names in os.walk(folder, onerror=unreadable):
        linked = [name for name in folder_names if (Path(where) / name).is_symlink()]
        left_out += [
            LeftOut(_key(folder, Path(where) / name), "is a linked folder and is not entered") for name in linked
        ]
        folder_names[:] = [name for name in folder_names if not name.startswith(".") and name not in linked]
        for path in (Path(where) / name for name in sorted(file_names) if not name.startswith(".")):
            key, ending = _key(folder, path), path.suffix.lower()
            wanted = ending in (CLIP_ENDING, ".txt") or path.name.lower() in METADATA_NAMES
            if wanted and (reason := _bad_link(path, inside)):
                left_out.append(LeftOut(key, reason))
            elif ending == CLIP_ENDING:
                clips[key] = path
            elif ending == ".txt":
                texts[stem(key)] = path
            elif wanted:
                _add_metadata(metadata, key.rpartition("/")[0], path)
    if not clips:
        reasons = "".join(f"; {item.key} {item.reason}" for item in left_out[:3])
        raise DatasetError(f"{folder} holds no {CLIP_ENDING} files; add clips, or name another folder{reasons}")
    return Listing(dict(sorted(clips.items())), texts, metadata, tuple(left_out))


def stem(key: str) -> str:
    """A key without its ending."""
    return key.rpartition(".")[0]


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
