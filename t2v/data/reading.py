"""Clips of every format, read: chosen frames shrunk as they are unpacked, or their facts alone.

A damaged file is refused even where its first frames are whole: what is missing is often most of the motion, and a
caption may describe just that. So every frame of a file is unpacked, and only those that are wanted are kept.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from t2v.cache import Facts
from t2v.data.clip import Clip, resize, shrunk
from t2v.data.limits import MAX_KEPT_BYTES, USUAL, Limits
from t2v.data.readers import open_clip
from t2v.data.readers.opened import Opened, Retimed
from t2v.errors import ClipError

SEQUENCE_FPS = 10.0  # of numbered frames, where nobody asks how fast they move


class Unpacked(NamedTuple):
    """The file as unpacking it found it, and the frames chosen: uint8 `n` and the shape asked for."""

    opened: Opened
    frames: np.ndarray


def read_clip(path: Path | str, *, max_side: int | None = None) -> Clip:
    """Read a file as a browser shows it, whole.

    max_side: frames whose shorter side is longer than this are shrunk to it as they are decoded
    Raises ClipError, naming the file and one reason.
    """
    path = Path(path)
    try:
        return decode_clip(read_contents((path,)), max_side=max_side)
    except ClipError as error:
        raise ClipError(f"{path} {error}") from None


def read_contents(paths: Sequence[Path], *, max_bytes: int = USUAL.max_bytes) -> tuple[bytes, ...]:
    """What a clip's files hold. Raises ClipError, worded to follow the clip's name."""
    contents: list[bytes] = []
    left = max_bytes
    for path in paths:
        contents.append(read_bytes(path, max_bytes=left))
        left -= len(contents[-1])
    return tuple(contents)


def read_bytes(path: Path, *, max_bytes: int = USUAL.max_bytes) -> bytes:
    """The content of a regular file of bounded size. Raises ClipError worded to follow the file's name."""
    try:
        # A pipe or a device called x.gif would block for ever.
        if not path.is_file():
            raise ClipError("is not a file" if path.exists() else "does not exist")
        size = path.stat().st_size
        if size > max_bytes:
            raise ClipError(f"has {size >> 20} MB; the most is {max_bytes >> 20} MB (limits.max_bytes)")
        return path.read_bytes()
    except OSError as error:
        raise ClipError(f"cannot be read: {error.strerror}") from None


def hash_of(contents: Sequence[bytes]) -> str:
    """SHA-256 of a clip's content: of a file its own, of several that of theirs one after another."""
    hashes = [hashlib.sha256(data) for data in contents]
    if len(hashes) == 1:
        return hashes[0].hexdigest()
    return hashlib.sha256(b"".join(each.digest() for each in hashes)).hexdigest()


def decode_clip(contents: Sequence[bytes], *, max_side: int | None = None, limits: Limits = USUAL) -> Clip:
    """`read_clip` for the content of files. ClipError is worded to follow the clip's name."""
    opened = open_clip(contents, limits=limits, sequence_fps=SEQUENCE_FPS)
    height, width = shrunk(opened.height, opened.width, max_side)
    opened, frames = unpack(
        opened,
        lambda frame_ms: np.arange(len(frame_ms)),
        lambda canvas: resize(canvas, height=height, width=width),
        shape=(height, width, 4),
    )
    return Clip(frames, opened.frame_ms, source_size=(opened.width, opened.height))


def scan_clip(contents: Sequence[bytes], *, limits: Limits, sequence_fps: float) -> Facts:
    """Facts of a clip all of whose frames were unpacked, to know that they can be."""
    opened = open_clip(contents, limits=limits, sequence_fps=sequence_fps)
    one_pixel = (1, 1, 4)
    opened, _ = unpack(opened, lambda _: np.zeros(1, dtype=np.int64), lambda canvas: canvas[:1, :1], shape=one_pixel)
    return facts_of(opened)


def look_at_clip(contents: Sequence[bytes], *, limits: Limits, sequence_fps: float) -> Facts:
    """What the structure of a clip says of it; of its pixels at most one frame is unpacked, so most damage within
    frames is not seen."""
    return facts_of(open_clip(contents, limits=limits, sequence_fps=sequence_fps))


def facts_of(opened: Opened) -> Facts:
    """What a record tells of a clip, as JSON can hold it."""
    return {
        "num_frames": len(opened.frame_ms),
        "duration_ms": float(opened.frame_ms.sum()),
        "width": opened.width,
        "height": opened.height,
        "format": opened.format,
    }


def unpack(
    opened: Opened,
    choose: Callable[[np.ndarray], np.ndarray],
    finish: Callable[[np.ndarray], np.ndarray],
    *,
    shape: tuple[int, int, int],
) -> Unpacked:
    """Unpack every frame and keep those chosen.

    choose: gives the numbers of the frames wanted, int64 `n` in any order, of how long each is shown, float64 `f`
    finish: makes of a canvas, uint8 `h w 4`, what is kept of it, uint8 of `shape`
    Raises ClipError for damage, for frames that together would take too much memory, and for a clip that shows nothing.
    """
    try:
        return _unpack(opened, choose, finish, shape)
    except Retimed as found:
        opened = found.opened
    try:
        return _unpack(opened, choose, finish, shape)
    except Retimed:
        raise ClipError("gives other frames each time that it is read") from None


def _unpack(
    opened: Opened,
    choose: Callable[[np.ndarray], np.ndarray],
    finish: Callable[[np.ndarray], np.ndarray],
    shape: tuple[int, int, int],
) -> Unpacked:
    chosen = choose(opened.frame_ms)
    if len(chosen) * math.prod(shape) > MAX_KEPT_BYTES:
        height, width, _ = shape
        asked = f"{len(chosen)} frames of {width} x {height} pixels"
        raise ClipError(f"is too large: {asked} are more than {MAX_KEPT_BYTES >> 20} MB")
    unique, where = np.unique(chosen, return_inverse=True)
    kept = np.empty((len(unique), *shape), dtype=np.uint8)
    shows = False
    for place, canvas in enumerate(opened.canvases(frozenset(unique.tolist()))):
        shows = shows or bool(canvas[..., 3].any())
        kept[place] = finish(canvas)
    if not shows and not _shows(opened):
        raise ClipError("shows nothing: every frame is empty or transparent")
    return Unpacked(opened, kept if np.array_equal(unique, chosen) else kept[where])


def _shows(opened: Opened) -> bool:
    """Whether any frame has a pixel that can be seen."""
    return any(canvas[..., 3].any() for canvas in opened.canvases(range(len(opened.frame_ms))))
