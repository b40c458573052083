"""Files of a folder that are not read at all, because of their names."""

import os
from collections import Counter
from collections.abc import Iterator, Set
from pathlib import Path

from t2v.data.check.findings import Finding
from t2v.data.folder import count
from t2v.data.metadata import METADATA_NAMES

GIF_MAGIC = (b"GIF87a", b"GIF89a")
MAX_LOOKED_INTO = 10_000  # files of which the first bytes are read
SHOWN = 5


def passed_over_findings(folder: Path, known: Set[str]) -> Iterator[Finding]:
    """Findings about files that no clip is read from.

    known: keys of the files that are clips or were left out with a reason
    """
    others = _others(folder, known)
    hidden = tuple(key for key in others[:MAX_LOOKED_INTO] if _begins_like_a_gif(folder / key))
    if hidden:
        number = f"{count(len(hidden), 'file')} {'is a GIF' if len(hidden) == 1 else 'are GIFs'}"
        yield Finding("wrong_ending", "warning", f"{number} by content and not read; rename to .gif", hidden)
    endings = Counter(Path(key).suffix.lower() or "no ending" for key in others if key not in hidden)
    if endings:
        shown = ", ".join(f"{ending} ({number})" for ending, number in endings.most_common(SHOWN))
        more = f" and {len(endings) - SHOWN} other endings" if len(endings) > SHOWN else ""
        yield Finding(
            "passed_over", "note", f"{count(endings.total(), 'file')} of other kinds passed over: {shown}{more}"
        )


def _others(folder: Path, known: Set[str]) -> list[str]:
    """Keys of the files that are neither clips nor texts, in order; linked ones and hidden ones are none."""
    found = []
    for where, folder_names, file_names in os.walk(folder):
        folder_names[:] = [name for name in folder_names if not name.startswith(".")]
        for name in file_names:
            path = Path(where) / name
            key = path.relative_to(folder).as_posix()
            is_text = path.suffix.lower() == ".txt" or name.lower() in METADATA_NAMES
            if not (name.startswith(".") or is_text or key in known or path.is_symlink()):
                found.append(key)
    return sorted(found)


def _begins_like_a_gif(path: Path) -> bool:
    try:
        # A pipe would be waited for until somebody writes into it.
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(6) in GIF_MAGIC
    except OSError:
        return False
