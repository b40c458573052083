"""The GIF format: which blocks a file holds, what a browser shows of them, and how to write one.

Pillow unpacks and packs the pixels of single frames. The blocks around them are read here, because Pillow's own walk
over an animation differs from every browser's: it paints the background colour, keeps a frame's disposal for the
frames after it, grows the canvas on the way, and cannot tell a damaged end from a proper one.
"""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from PIL import Image

from t2v.errors import ClipError

BROWSER_DELAY_MS = 100  # what browsers show for a delay of 0 or 1 hundredth
MIN_DELAY_CS = 2  # the shortest delay that browsers take at its word
NO_CONTROL = b"\0\0\0\0"
PALETTE_SAMPLE = 1 << 15  # pixels that a palette is found from: k-means over every pixel of a clip takes seconds


@dataclass(frozen=True)
class GifFrame:
    """One picture block: where it lies on the canvas, its packed pixels, and what happens when its time is over."""

    left: int
    top: int
    width: int
    height: int
    interlaced: bool
    palette: bytes | None
    transparent: int | None
    disposal: int
    delay_ms: int
    packed: bytes


@dataclass(frozen=True)
class GifFile:
    """The blocks of a GIF. `width` and `height` cover the first frame, as they do in a browser."""

    width: int
    height: int
    frames: tuple[GifFrame, ...]
    comment: bytes


def parse(data: bytes, *, max_frames: int) -> GifFile:
    """Walk the blocks of a whole file without unpacking a pixel.

    A missing trailer, zeros after the last frame and anything after the trailer are forgiven, as
    browsers forgive them. Raises ClipError, worded to follow the file's name, for all other damage.
    """
    if not data.startswith((b"GIF87a", b"GIF89a")):
        raise ClipError("is not a GIF" if data else "is empty")
    reader = _Reader(data)
    reader.take(6)
    width, height, flags, _, _ = struct.unpack("<HHBBB", reader.take(7))
    shared_palette = _palette(reader, flags)
    frames: list[GifFrame] = []
    comments: list[bytes] = []
    control: bytes | None = None
    while not reader.at_end():
        introducer = reader.take(1)
        if introducer == b"!":
            label = reader.take(1)
            blocks = reader.sub_blocks()
            if label == b"\xf9" and len(blocks) >= 4:
                control = blocks[:4]
            elif label == b"\xfe":
                comments.append(blocks)
        elif introducer == b",":
            reader.where = f"in frame {len(frames) + 1}"
            frames.append(_frame(reader, control or NO_CONTROL, shared_palette))
            control = None
            reader.where = f"after frame {len(frames)}"
            if len(frames) > max_frames:
                raise ClipError(f"has more than {max_frames} frames")
        elif introducer == b";" or (frames and introducer == b"\0" and reader.only_padding_left()):
            break
        else:
            raise ClipError(f"is damaged {reader.where}")
    else:
        if control:  # a file without its trailer ends after a picture, not before one
            raise ClipError(f"breaks off {reader.where}")
    if not frames:
        raise ClipError("holds no frames")
    first = frames[0]
    width, height = max(width, first.left + first.width), max(height, first.top + first.height)
    return GifFile(width, height, tuple(frames), b"".join(comments))


def canvases(gif: GifFile) -> Iterator[np.ndarray]:
    """What a browser shows while each frame's time lasts: uint8 `h w 4`.

    The array yielded is drawn on again for the next frame: copy what you keep. Raises ClipError where pixels are
    damaged or missing.
    """
    canvas = np.zeros((gif.height, gif.width), dtype=np.uint32)
    for number, frame in enumerate(gif.frames, start=1):
        # Only the first frame may enlarge the canvas; what sticks out of a later one is cut off.
        region = canvas[frame.top : frame.top + frame.height, frame.left : frame.left + frame.width]
        before = region.copy() if frame.disposal in (3, 4) else None
        if region.size:
            indices = _unpack(frame, number)[: region.shape[0], : region.shape[1]]
            opaque = True if frame.transparent is None else indices != frame.transparent
            np.copyto(region, _colours(frame, number)[indices], where=opaque)
        yield canvas.view(np.uint8).reshape(gif.height, gif.width, 4)
        if frame.disposal == 2:
            # The background colour in the header is ignored by every browser: cleared means transparent.
            region[...] = 0
        elif before is not None:
            region[...] = before


def encode(frames: np.ndarray, *, frame_ms: float, comment: bytes | None) -> bytes:
    """A GIF that loops for ever, with exactly the frames given and one palette for all of them.

    frames: uint8 `f h w c`, c 3, or 4 with alpha cut at one half. At most 256 colours (255 and transparency) are kept
    as they are; more are reduced without dither. One palette keeps still parts of the picture still.
    Raises ClipError where frames are shorter than the format can say.
    """
    delays = _delays_cs(len(frames), frame_ms)
    transparent = frames.shape[-1] == 4 and bool((frames[..., 3] < 128).any())
    palette, indices = _to_palette(frames[..., :3], num_colours=255 if transparent else 256)
    if transparent:
        indices = np.where(frames[..., 3] < 128, 255, indices).astype(np.uint8)
    height, width = frames.shape[1:3]
    out = [b"GIF89a", struct.pack("<HHBBB", width, height, 0xF7, 0, 0), palette]
    out.append(b"!\xff\x0bNETSCAPE2.0\x03\x01\0\0\0")
    if comment:
        out.append(b"!\xfe" + _sub_blocks(comment))
    # Frames with holes are cleared away before the next; full ones cover what was there.
    flags = (2 << 2 | 1) if transparent else (1 << 2)
    for picture, delay in zip(indices, delays, strict=True):
        out.append(struct.pack("<2sBBHBB", b"!\xf9", 4, flags, delay, 255 if transparent else 0, 0))
        out.append(struct.pack("<cHHHHB", b",", 0, 0, width, height, 0) + _pack(picture))
    return b"".join([*out, b";"])


class _Reader:
    """A place in the file, so that every block says the same when the file breaks off."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.place = 0
        self.where = "before its first frame"

    def at_end(self) -> bool:
        return self.place >= len(self.data)

    def only_padding_left(self) -> bool:
        return self.data[self.place :].lstrip(b"\0")[:1] in (b"", b";")

    def take(self, count: int) -> bytes:
        if self.place + count > len(self.data):
            raise ClipError(f"breaks off {self.where}")
        self.place += count
        return self.data[self.place - count : self.place]

    def sub_blocks(self) -> bytes:
        """The joined content of length-prefixed blocks up to the empty one."""
        blocks = []
        while length := self.take(1)[0]:
            blocks.append(self.take(length))
        return b"".join(blocks)


def _palette(reader: _Reader, flags: int) -> bytes | None:
    return reader.take(3 * 2 ** ((flags & 7) + 1)) if flags & 0x80 else None


def _frame(reader: _Reader, control: bytes, shared_palette: bytes | None) -> GifFrame:
    left, top, width, height, flags = struct.unpack("<HHHHB", reader.take(9))
    palette = _palette(reader, flags) or shared_palette
    packed = reader.take(1) + reader.sub_blocks()
    control_flags, delay_cs, transparent = struct.unpack("<BHB", control)
    return GifFrame(
        left=left,
        top=top,
        width=width,
        height=height,
        interlaced=bool(flags & 0x40),
        palette=palette,
        transparent=transparent if control_flags & 1 else None,
        disposal=control_flags >> 2 & 7,
        delay_ms=BROWSER_DELAY_MS if delay_cs < MIN_DELAY_CS else 10 * delay_cs,
        packed=packed,
    )


def _unpack(frame: GifFrame, number: int) -> np.ndarray:
    """Colour indices of one frame, uint8 `h w`."""
    # A file of this one frame and no palette, which Pillow opens as plain numbers.
    single = (
        b"GIF89a"
        + struct.pack("<HHBBB", frame.width, frame.height, 0, 0, 0)
        + struct.pack("<cHHHHB", b",", 0, 0, frame.width, frame.height, 0x40 * frame.interlaced)
        + frame.packed[:1]
        + _sub_blocks(frame.packed[1:])
        + b";"
    )
    try:
        with Image.open(io.BytesIO(single), formats=["GIF"]) as image:
            return np.asarray(image)
    except (OSError, SyntaxError, ValueError, IndexError, EOFError):
        raise ClipError(f"is damaged in frame {number}") from None


def _pack(indices: np.ndarray) -> bytes:
    """The packed pixels of one frame, uint8 `h w`, as they stand after its picture header."""
    buffer = io.BytesIO()
    Image.fromarray(indices).save(buffer, "GIF", optimize=False, interlace=False)
    packed = parse(buffer.getvalue(), max_frames=1).frames[0].packed
    return packed[:1] + _sub_blocks(packed[1:])


def _sub_blocks(content: bytes) -> bytes:
    parts = [content[start : start + 255] for start in range(0, len(content), 255)]
    return b"".join(bytes([len(part)]) + part for part in parts) + b"\0"


def _colours(frame: GifFrame, number: int) -> np.ndarray:
    """RGBA of each of the 256 indices, each as one uint32 in the machine's byte order."""
    if frame.palette is None:
        raise ClipError(f"has no colours for frame {number}")
    table = np.zeros((256, 4), dtype=np.uint8)
    table[:, 3] = 255  # an index outside the palette is black
    palette = np.frombuffer(frame.palette, dtype=np.uint8).reshape(-1, 3)
    table[: len(palette), :3] = palette
    return table.view(np.uint32)[:, 0]


def _delays_cs(num_frames: int, frame_ms: float) -> list[int]:
    """Delays in hundredths of a second whose sum never strays by more than half of one from the true time."""
    if frame_ms < 10 * MIN_DELAY_CS:
        raise ClipError(f"a GIF shows at most 50 frames a second, not {1000 / frame_ms:g}; write .mp4, .webm or .webp")
    ends = [round(frame_ms * number / 10) for number in range(num_frames + 1)]
    return [end - start for start, end in pairwise(ends)]


def _to_palette(frames: np.ndarray, *, num_colours: int) -> tuple[bytes, np.ndarray]:
    """A palette of 256 colours for all frames, and uint8 indices `f h w` below num_colours for RGB `f h w 3`."""
    f, h, w, _ = frames.shape
    wide = frames.astype(np.uint32)
    codes = (wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]).reshape(-1)
    unique, exact = np.unique(codes, return_inverse=True)
    if len(unique) <= num_colours:
        table = np.stack([unique >> 16, unique >> 8 & 255, unique & 255], axis=-1).astype(np.uint8)
        return table.tobytes().ljust(768, b"\0"), exact.reshape(f, h, w).astype(np.uint8)
    sample = frames.reshape(-1, 3)[:: -(-f * h * w // PALETTE_SAMPLE)]
    found = Image.fromarray(sample[None]).quantize(num_colours, method=Image.Quantize.MEDIANCUT, kmeans=2)
    tall = Image.fromarray(frames.reshape(f * h, w, 3))
    indices = np.asarray(tall.quantize(palette=found, dither=Image.Dither.NONE)).reshape(f, h, w)
    return bytes(found.getpalette() or []).ljust(768, b"\0"), indices
