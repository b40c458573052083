"""Every format that a clip may come in. A file is what its content says, whatever its name claims.

A GIF that is in truth an animated WebP plays in every browser and is served by every site, so it is a clip like the
others; refusing it would lose good clips and protect nobody, since each format is read by its own decoder either way.
That its name claims something else is said beside it.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import get_args

from t2v.config import FormatName
from t2v.data.limits import USUAL, Limits
from t2v.data.readers.containers import doc_type
from t2v.data.readers.gif import open_gif
from t2v.data.readers.jpeg import open_jpeg
from t2v.data.readers.opened import Opened
from t2v.data.readers.png import SIGNATURE, open_png
from t2v.data.readers.sequence import join_stills
from t2v.data.readers.video import VideoName, open_video
from t2v.data.readers.webp import open_webp
from t2v.errors import ClipError

READERS: dict[FormatName, Callable[[bytes, Limits], Opened]] = {
    "gif": open_gif,
    "webp": open_webp,
    "png": open_png,
    "jpeg": open_jpeg,
    **{name: partial(open_video, name=name) for name in get_args(VideoName)},
}
# What a file may begin with whose first box is not ftyp: QuickTime is older than that.
MOV_BOXES = (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
PICTURE_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1")
KNOWN = "a GIF, WebP, PNG, JPEG, MP4, MOV, WebM, MKV or AVI"


def open_clip(contents: Sequence[bytes], *, limits: Limits = USUAL, sequence_fps: float) -> Opened:
    """Read the structure of a clip: of one file, or of the frames of a folder in order.

    sequence_fps: the rate of such frames, which they do not say
    Raises ClipError, worded to follow the clip's name, where it is damaged, unknown or beyond the limits.
    """
    limits.check_bytes(sum(map(len, contents)))
    if len(contents) == 1:
        opened = _open(contents[0], limits)
    else:
        limits.check_frames(len(contents))
        opened = join_stills([_open_frame(*item, limits) for item in enumerate(contents, 1)], limits, fps=sequence_fps)
    limits.check_whole(opened.frame_ms, work=opened.work)
    return opened


def recognise(data: bytes) -> FormatName:
    """The format of a file's content. Raises ClipError where it is none that is read here."""
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if data.startswith(SIGNATURE):
        return "png"
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data.startswith(b"RIFF") and data[8:12] in (b"WEBP", b"AVI "):
        return "webp" if data[8:12] == b"WEBP" else "avi"
    if data.startswith(b"\x1aE\xdf\xa3"):
        return "webm" if doc_type(data) == "webm" else "mkv"
    if data[4:8] == b"ftyp" and data[8:12] not in PICTURE_BRANDS:
        return "mov" if data[8:12] == b"qt  " else "mp4"
    if data[4:8] in MOV_BOXES:
        return "mov"
    if not data:
        raise ClipError("is empty")
    if data.startswith(b"version https://git-lfs"):
        raise ClipError("is a Git LFS pointer, not the clip itself; run `git lfs pull`")
    raise ClipError(f"is not {KNOWN}")


def _open(data: bytes, limits: Limits) -> Opened:
    return READERS[recognise(data)](data, limits)


def _open_frame(number: int, data: bytes, limits: Limits) -> Opened:
    try:
        return _open(data, limits)
    except ClipError as error:
        raise ClipError(f"holds frame {number}, which {error}") from None
