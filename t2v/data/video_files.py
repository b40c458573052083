"""Moving pictures on disk: read a clip, write frames in five formats, read back what a written file says of itself."""

import io
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from t2v.cache import Facts
from t2v.data import gif
from t2v.data.clip import Clip, composite, frame_times, resize
from t2v.errors import ClipError

# Bounds on what one file may cost, far above what people train on and far below what fills a laptop.
MAX_FILE_BYTES = 1 << 28
MAX_FRAMES = 10_000
MAX_FRAME_PIXELS = 1 << 24  # 4096 x 4096
MAX_DECODED_PIXELS = 1 << 31  # over all frames: about half a minute of work
MAX_KEPT_BYTES = 1 << 28

USER_COMMENT = 0x9286  # EXIF
EXIF_IFD = 0x8769
EXIF_UNICODE = b"UNICODE\0"


def read_clip(path: Path | str, *, max_side: int | None = None) -> Clip:
    """Read a GIF as a browser shows it.

    max_side: frames whose shorter side is longer than this are shrunk to it as they are decoded, so that a long
    screencast is never held whole.
    A damaged file is refused even where its first frames are whole: what is missing is often most of the motion, and
    a caption may describe just that. Raises ClipError, naming the file and one reason.
    """
    path = Path(path)
    try:
        return decode_clip(read_bytes(path), max_side=max_side)
    except ClipError as error:
        raise ClipError(f"{path} {error}") from None


def read_bytes(path: Path) -> bytes:
    """The content of a regular file of bounded size. Raises ClipError worded to follow the file's name."""
    try:
        # A pipe or a device called x.gif would block for ever.
        if not path.is_file():
            raise ClipError("is not a file" if path.exists() else "does not exist")
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise ClipError(f"has {size >> 20} MB; the most is {MAX_FILE_BYTES >> 20} MB")
        return path.read_bytes()
    except OSError as error:
        raise ClipError(f"cannot be read: {error.strerror}") from None


def decode_clip(data: bytes, *, max_side: int | None = None, num_frames: int | None = None) -> Clip:
    """`read_clip` for the content of a file. ClipError is worded to follow the file's name.

    num_frames: keep only the frames that `clip.frame_times` chooses for so many; the others are unpacked, as those
    after them need them, and left blank
    """
    file = gif.parse(data, max_frames=MAX_FRAMES)
    height, width = _shrunk(file.height, file.width, max_side)
    _check_cost(file, kept_bytes=len(file.frames) * height * width * 4)
    frame_ms = np.array([frame.delay_ms for frame in file.frames], dtype=np.float64)
    kept = set(range(len(file.frames)) if num_frames is None else frame_times(frame_ms, num_frames).tolist())
    frames = np.zeros((len(file.frames), height, width, 4), dtype=np.uint8)
    for index, canvas in enumerate(gif.canvases(file)):
        if index in kept:
            frames[index] = resize(canvas, height=height, width=width)
    if not any(frames[index, ..., 3].any() for index in kept):
        if num_frames is not None:
            return decode_clip(data, max_side=max_side)  # another of its frames may show something
        raise ClipError("shows nothing: every frame is empty or transparent")
    return Clip(frames, frame_ms, source_size=(file.width, file.height))


def look_at_clip(data: bytes) -> Facts:
    """What the blocks of a file say of it, without unpacking a pixel: damage inside of a frame is not seen."""
    file = gif.parse(data, max_frames=MAX_FRAMES)
    _check_cost(file, kept_bytes=0)
    return {
        "num_frames": len(file.frames),
        "duration_ms": float(sum(frame.delay_ms for frame in file.frames)),
        "width": file.width,
        "height": file.height,
    }


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


def _shrunk(height: int, width: int, max_side: int | None) -> tuple[int, int]:
    shorter = min(height, width)
    if max_side is None or shorter <= max_side:
        return height, width
    return max(1, round(height * max_side / shorter)), max(1, round(width * max_side / shorter))


def _check_cost(file: gif.GifFile, *, kept_bytes: int) -> None:
    """Refuse what would take too long or too much memory, before any of it is spent."""
    if not (file.width and file.height):
        raise ClipError(f"is {file.width} x {file.height} pixels large")
    canvas = file.width * file.height
    largest = max(canvas, *(frame.width * frame.height for frame in file.frames))
    if largest > MAX_FRAME_PIXELS:
        raise ClipError(f"claims frames of {largest:,} pixels; the most is {MAX_FRAME_PIXELS:,}")
    decoded = sum(canvas + frame.width * frame.height for frame in file.frames)
    if decoded > MAX_DECODED_PIXELS or kept_bytes > MAX_KEPT_BYTES:
        raise ClipError(f"is too large: {len(file.frames)} frames of {file.width} x {file.height} pixels")


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
    return gif.parse(data, max_frames=MAX_FRAMES).comment.decode("utf-8", errors="replace") or None


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
