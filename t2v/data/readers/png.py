"""PNG: stills and animations (APNG).

Pillow unpacks single pictures. The chunks around them are read here, so that the structure is known without unpacking
anything and frames are laid over each other as browsers do it.
"""

import struct
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from PIL import Image

from t2v.data.limits import Limits
from t2v.data.readers.opened import Opened, shown_ms
from t2v.data.readers.pillow import open_still, opened_image, rgba
from t2v.errors import ClipError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEAD_BYTES = 1 << 16  # of a file: enough to tell whether it moves, as acTL stands before the pixels
SHARED = (b"PLTE", b"tRNS")  # chunks that all frames need
CRITICAL = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT"})
TO_NOTHING, TO_PREVIOUS = 1, 2  # disposals
OVER = 1  # blending


class _Chunk(NamedTuple):
    kind: bytes
    content: bytes


@dataclass
class _Frame:
    """One picture: where it lies on the canvas, how it is laid there and taken away, and its packed pixels."""

    left: int
    top: int
    width: int
    height: int
    delay_ms: float
    disposal: int
    blending: int
    packed: list[bytes] = field(default_factory=list)


@dataclass(frozen=True)
class _Animation:
    header: bytes
    shared: list[_Chunk]
    frames: list[_Frame]

    @property
    def size(self) -> tuple[int, int]:
        return _size(self.header)


def open_png(data: bytes, limits: Limits) -> Opened:
    """Raises ClipError for damage outside of packed pixels, and for a clip beyond the limits."""
    return _open_animation(data, limits) if moves(data[:HEAD_BYTES]) else _open_still(data, limits)


def moves(head: bytes) -> bool:
    """Whether a PNG is an animation. head: its first HEAD_BYTES"""
    place = len(SIGNATURE)
    while place + 8 <= len(head):
        length, kind = struct.unpack_from(">I4s", head, place)
        if kind in (b"acTL", b"IDAT"):
            return kind == b"acTL"
        place += 12 + length
    return False


def _open_still(data: bytes, limits: Limits) -> Opened:
    chunks = list(_chunks(data))
    limits.check_size(*_size(_header(chunks)))
    # Without its texts, which could unpack to anything.
    wanted_chunks = [chunk for chunk in chunks if chunk.kind in (b"IHDR", *SHARED, b"IDAT", b"eXIf", b"IEND")]
    plain = SIGNATURE + b"".join(map(_packed, wanted_chunks))
    return open_still(plain, "PNG", "is a damaged PNG")


def _open_animation(data: bytes, limits: Limits) -> Opened:
    animation = _read(data, limits)
    width, height = animation.size
    frames = animation.frames

    def canvases(wanted: Collection[int]) -> Iterator[np.ndarray]:
        return (canvas for number, canvas in enumerate(_canvases(animation)) if number in wanted)

    return Opened(
        format="png",
        width=width,
        height=height,
        frame_ms=np.array([shown_ms(frame.delay_ms) for frame in frames], dtype=np.float64),
        work=sum(width * height + frame.width * frame.height for frame in frames),
        canvases=canvases,
    )


def _read(data: bytes, limits: Limits) -> _Animation:
    """Sort the chunks of an animation into frames."""
    chunks = list(_chunks(data))
    header = _header(chunks)
    width, height = _size(header)
    limits.check_size(width, height)
    frames: list[_Frame] = []
    claimed, sequence = 0, 0
    for kind, content in chunks:
        if kind == b"acTL":
            claimed = int.from_bytes(content[:4])
        if kind not in (b"fcTL", b"fdAT"):
            if kind == b"IDAT" and frames:  # else the picture for who cannot show animations
                frames[-1].packed.append(content)
            continue
        if content[:4] != struct.pack(">I", sequence):
            raise ClipError(f"is damaged after frame {len(frames)}")
        sequence += 1
        if kind == b"fcTL":
            frames.append(_frame(content, len(frames) + 1, width, height))
            limits.check_frames(len(frames))
        elif frames:
            frames[-1].packed.append(content[4:])
    if len(frames) != claimed or not frames:
        raise ClipError(f"claims {claimed} frames and holds {len(frames)}")
    return _Animation(header, [chunk for chunk in chunks if chunk.kind in SHARED], frames)


def _frame(content: bytes, number: int, width: int, height: int) -> _Frame:
    if len(content) != 26:
        raise ClipError(f"is damaged in frame {number}")
    _, w, h, left, top, delay, unit, disposal, blending = struct.unpack(">IIIIIHHBB", content)
    if not (w and h and left + w <= width and top + h <= height) or disposal > TO_PREVIOUS or blending > OVER:
        raise ClipError(f"is damaged in frame {number}")
    return _Frame(left, top, w, h, 1000 * delay / (unit or 100), disposal, blending)


def _canvases(animation: _Animation) -> Iterator[np.ndarray]:
    width, height = animation.size
    canvas = np.zeros((height, width, 4), dtype=np.uint8)
    for number, frame in enumerate(animation.frames, start=1):
        region = canvas[frame.top : frame.top + frame.height, frame.left : frame.left + frame.width]
        before = region.copy() if frame.disposal == TO_PREVIOUS else None
        picture = _unpack(animation, frame, number)
        if frame.blending == OVER:
            under = Image.fromarray(np.ascontiguousarray(region))
            picture = np.asarray(Image.alpha_composite(under, Image.fromarray(picture)))
        region[...] = picture
        yield canvas
        if frame.disposal == TO_NOTHING:
            region[...] = 0
        elif before is not None:
            region[...] = before


def _unpack(animation: _Animation, frame: _Frame, number: int) -> np.ndarray:
    """RGBA of one frame, uint8 `h w 4`: unpacked as a file of this one picture."""
    header = struct.pack(">II", frame.width, frame.height) + animation.header[8:]
    pixels = _Chunk(b"IDAT", b"".join(frame.packed))
    chunks = [_Chunk(b"IHDR", header), *animation.shared, pixels, _Chunk(b"IEND", b"")]
    single = SIGNATURE + b"".join(map(_packed, chunks))
    with opened_image(single, "PNG", f"is damaged in frame {number}") as image:
        return rgba(image)


def _chunks(data: bytes) -> Iterator[_Chunk]:
    """Every chunk up to the end of the picture, each as its checksum says it was written."""
    place = len(SIGNATURE)
    kind = b""
    while kind != b"IEND":
        if place + 12 > len(data):
            raise ClipError("breaks off")
        length, kind = struct.unpack_from(">I4s", data, place)
        end = place + 12 + length
        if end > len(data):
            raise ClipError("breaks off")
        if kind in CRITICAL and zlib.crc32(data[place + 4 : end - 4]) != int.from_bytes(data[end - 4 : end]):
            raise ClipError(f"is damaged in its {kind.decode()} chunk")
        yield _Chunk(kind, data[place + 8 : end - 4])
        place = end


def _packed(chunk: _Chunk) -> bytes:
    body = chunk.kind + chunk.content
    return struct.pack(">I", len(chunk.content)) + body + struct.pack(">I", zlib.crc32(body))


def _header(chunks: list[_Chunk]) -> bytes:
    kind, content = chunks[0]
    if kind != b"IHDR" or len(content) != 13:
        raise ClipError("is damaged before its pixels")
    return content


def _size(header: bytes) -> tuple[int, int]:
    width, height = struct.unpack(">II", header[:8])
    return width, height
