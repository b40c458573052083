"""Where the files of a tar lie, found without unpacking any of them.

Only whole regular files count: links, devices and folders are passed over, nothing is ever written to the disk, and
what a header may make us read is bounded. The formats are POSIX.1-1988 (ustar) with the long names of GNU and of
POSIX.1-2001.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

BLOCK = 512
MAX_HEADER_BYTES = 1 << 16
MAX_DIGITS = 20
REGULAR, LONG_NAME, EXTENDED = (b"0", b"\0"), b"L", b"x"


@dataclass(frozen=True)
class Member:
    """A file within a tar: its name, as UTF-8, and where its bytes are."""

    name: str
    offset: int
    size: int


class _TarError(Exception):
    """Reason why nothing can be read from here on."""


def read_members(path: Path) -> tuple[list[Member], str | None]:
    """The files of a tar in their order, and why it is not read to its end; None where it is."""
    found: list[Member] = []
    try:
        with path.open("rb") as file:
            _walk(file, found)
    except OSError as error:
        return found, f"cannot be read: {error.strerror}"
    except _TarError as error:
        return found, f"{error} (after {len(found):,} files)" if found else str(error)
    return found, None


def _walk(file: BinaryIO, found: list[Member]) -> None:
    end = os.fstat(file.fileno()).st_size
    at = 0
    told: dict[str, str] = {}  # what headers said of the member that follows them
    while at < end:
        file.seek(at)
        header = file.read(BLOCK)
        if not any(header):
            return
        name, size, kind = _parse(header, told)
        at += BLOCK
        if at + size > end:
            raise _TarError("breaks off")
        if kind in (LONG_NAME, EXTENDED):
            if size > MAX_HEADER_BYTES:
                raise _TarError("has a name of unreasonable length")
            content = file.read(size)
            told |= {"path": _text(content)} if kind == LONG_NAME else _records(content)
        else:
            is_sparse = any(key.startswith("GNU.sparse") for key in told)
            if kind in REGULAR and not is_sparse and not name.endswith("/"):
                found.append(Member(name, at, size))
            told = {}
        at += -(-size // BLOCK) * BLOCK


def _parse(header: bytes, told: dict[str, str]) -> tuple[str, int, bytes]:
    """Name, size and kind of a member."""
    if header.startswith(b"\x1f\x8b"):
        raise _TarError("is compressed; unpack it with gunzip")
    blanked = header[:148] + b" " * 8 + header[156:]
    if len(header) < BLOCK or _number(header[148:156]) != sum(blanked):
        raise _TarError("is no tar, or damaged")
    name = _text(header[:100])
    if header[257:263] == b"ustar\0" and (prefix := _text(header[345:500])):
        name = f"{prefix}/{name}"
    kind = header[156:157]
    if kind in (LONG_NAME, EXTENDED):
        return name, _number(header[124:136]), kind
    size = _number(told["size"].encode(), base=10) if "size" in told else _number(header[124:136])
    return told.get("path", name), size, kind


def _number(field: bytes, *, base: int = 8) -> int:
    """Digits; or, of what is too large for them, bytes after a set bit, as GNU writes it. Never negative."""
    if field[:1] == b"\x80":
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0") or b"0"
    # Python would also take signs, underscores, and numbers of any length.
    if not digits.isdigit() or len(digits) > MAX_DIGITS or (base == 8 and set(digits) & set(b"89")):
        raise _TarError("is no tar, or damaged")
    return int(digits, base)


def _records(content: bytes) -> dict[str, str]:
    """What an extended header says: lines of `<length> <key>=<value>`."""
    told: dict[str, str] = {}
    while content:
        length, _, _ = content.partition(b" ")
        end = _number(length, base=10)
        if not len(length) < end <= len(content):
            raise _TarError("is no tar, or damaged")
        record, content = content[len(length) + 1 : end], content[end:]
        key, _, value = record.rstrip(b"\n").partition(b"=")
        told[_text(key)] = _text(value)
    return told


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", errors="backslashreplace")
