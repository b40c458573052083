"""Moving pictures written: frames in five formats, and what a written file says of itself read back."""

import io
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from t2v.data import gif
from t2v.data.clip import composite
from t2v.data.limits import USUAL
from t2v.data.reading import read_bytes
from t2v.errors import ClipError

USER_COMMENT = 0x9286  # EXIF
EXIF_IFD = 0x8769
EXIF_UNICODE = b"UNICODE\0"


def write_clip(path: Path | str, frames: np.ndarray, *, frame_ms: float, metadata: str | None) -> None:
    """Write frames as .gif, .mp4, .webm, .webp (lossless) or .png (a strip, left to right), by the path's ending.

    frames: uint8 `f h w c`, c 1 grey, 3 colour or 4 with alpha (laid on white where the format has none)
    frame_ms: how long each frame is shown, > 0; kept on average where the format counts in coarser steps
    metadata: text that `read_metadata` reads back, or None for none
    The file appears whole or not at all. Raises ClipError for an unknown ending or a place that cannot be written.
    """
    path = Path(path)
    check_ending(path)
    content = encode_clip(frames, path.suffix.lower(), frame_ms=frame_ms, metadata=metadata)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise ClipError(f"{path} cannot be written: {error.strerror}") from None


def encode_clip(frames: np.ndarray, ending: str, *, frame_ms: float, metadata: str | None = None) -> bytes:
    """What `write_clip` puts into a file of that ending, such as ".gif", which must be one it knows."""
    if frames.shape[-1] == 1:
        frames = frames.repeat(3, axis=-1)
    return ENCODERS[ending](np.ascontiguousarray(frames), frame_ms, metadata)


def check_ending(path: Path) -> None:
    """Raise ClipError unless `write_clip` can write a file of this ending."""
    if path.suffix.lower() not in ENCODERS:
        raise ClipError(f"{path}: cannot write {path.suffix or 'a file without ending'}; use {', '.join(ENCODERS)}")


def read_metadata(path: Path | str) -> str | None:
    """The text that `write_clip` put into a file, or None. Raises ClipError where the file cannot be read."""
    path = Path(path)
    decode = DECODERS.get(path.suffix.lower())
    if decode is None:
        raise ClipError(
            f"{path}: cannot read {path.suffix or 'a file without ending'}; known are {', '.join(DECODERS)}"
        )
    try:
        return decode(read_bytes(path))
    except ClipError as error:
        raise ClipError(f"{path} {error}") from None
    except MemoryError:
        raise
    except Exception as error:  # a decoder's own surprise at a broken file, of any kind
        raise ClipError(f"{path} is damaged: {type(error).__name__}: {error}") from None


def _encode_gif(frames: np.ndarray, frame_ms: float, metadata: str | None) -> bytes:
    return gif.encode(frames, frame_ms=frame_ms, comment=metadata.encode() if metadata else None)


def _encode_webp(frames: np.ndarray, frame_ms: float, metadata: str | None) -> bytes:
    first, *others = (Image.fromarray(frame) for frame in frames)
    ends = [round(frame_ms * number) for number in range(len(frames) + 1)]
    exif = Image.Exif()
    if metadata:
        exif.get_ifd(EXIF_IFD)[USER_COMMENT] = EXIF_UNICODE + metadata.encode("utf-16-be")
    buffer = io.BytesIO()
    first.save(
        buffer,
        "WEBP",
        save_all=True,
        append_images=others,
        duration=[end - start for start, end in pairwise(ends)],
        loop=0,
        lossless=True,
        exact=True,
        exif=exif.tobytes() if metadata else b"",
    )
    return buffer.getvalue()


def _encode_png(frames: np.ndarray, frame_ms: float, metadata: str | None) -> bytes:
    """A strip has no time: `frame_ms` is not in it."""
    f, h, w, c = frames.shape
    info = PngImagePlugin.PngInfo()
    if metadata:
        info.add_text("Comment", metadata)
    buffer = io.BytesIO()
    Image.fromarray(frames.transpose(1, 0, 2, 3).reshape(h, f * w, c)).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def _encode_mp4(frames: np.ndarray, frame_ms: float, metadata: str | None) -> bytes:
    return _encode_video(frames, frame_ms, metadata, extension=".mp4", codec="libx264", options={"crf": "12"})


def _encode_webm(frames: np.ndarray, frame_ms: float, metadata: str | None) -> bytes:
    options = {"crf": "12", "b": "0"}
    return _encode_video(frames, frame_ms, metadata, extension=".webm", codec="libvpx-vp9", options=options)


def _encode_video(
    frames: np.ndarray, frame_ms: float, metadata: str | None, *, extension: str, codec: str, options: dict[str, str]
) -> bytes:
    """Video in the one pixel format that every player takes; an odd side gets its last row or column twice."""
    import imageio.v3 as iio  # only those who write video wait for it

    if frames.shape[-1] == 4:
        frames = composite(frames, (255, 255, 255))
    _, h, w, _ = frames.shape
    frames = np.pad(frames, ((0, 0), (0, h % 2), (0, w % 2), (0, 0)), mode="edge")
    buffer = io.BytesIO()
    # Without bitexact a random number in the header would make equal clips unequal files.
    container = {"fflags": "+bitexact"}  # its types know nothing of options for the container
    with iio.imopen(buffer, "w", plugin="pyav", extension=extension, options=container) as file:  # type: ignore[call-overload]
        file.init_video_stream(codec, fps=1000 / frame_ms, pixel_format="yuv420p")
        file._video_stream.options = options  # imageio has no argument for the quality
        if metadata:
            file.container_metadata["comment"] = metadata
        for frame in frames:
            file.write_frame(frame)
    return buffer.getvalue()


def _decode_gif(data: bytes) -> str | None:
    return gif.parse(data, max_frames=USUAL.max_frames).comment.decode("utf-8", errors="replace") or None


def _decode_webp(data: bytes) -> str | None:
    exif = _open_image(data, "WEBP").getexif().get_ifd(EXIF_IFD).get(USER_COMMENT, b"")
    if not isinstance(exif, bytes):  # another program's file
        return None
    return exif.removeprefix(EXIF_UNICODE).decode("utf-16-be", errors="replace") or None


def _decode_png(data: bytes) -> str | None:
    image = _open_image(data, "PNG")
    return getattr(image, "text", {}).get("Comment")


def _decode_video(data: bytes) -> str | None:
    import imageio.v3 as iio

    try:
        tags = iio.immeta(data, plugin="pyav")
    except (OSError, ValueError, IndexError):
        raise ClipError("is not a readable video") from None
    return next((str(text) for name, text in tags.items() if name.lower() == "comment"), None)


def _open_image(data: bytes, kind: str) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=[kind])
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError):
        raise ClipError("is empty" if not data else f"is not a {kind}") from None


ENCODERS: dict[str, Callable[[np.ndarray, float, str | None], bytes]] = {
    ".gif": _encode_gif,
    ".mp4": _encode_mp4,
    ".webm": _encode_webm,
    ".webp": _encode_webp,
    ".png": _encode_png,
}
DECODERS: dict[str, Callable[[bytes], str | None]] = {
    ".gif": _decode_gif,
    ".mp4": _decode_video,
    ".webm": _decode_video,
    ".webp": _decode_webp,
    ".png": _decode_png,
}
