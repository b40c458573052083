"""Single pictures by way of Pillow: always with the decoder named, always as RGBA."""

import io
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from t2v.config import FormatName
from t2v.data.readers.opened import Opened
from t2v.errors import ClipError

STILL_FORMATS: Mapping[str, FormatName] = {"JPEG": "jpeg", "PNG": "png", "WEBP": "webp"}
ORIENTATION = 0x0112  # EXIF
TURNED = (5, 6, 7, 8)  # orientations that swap width and height
# What Pillow's decoders raise for damaged files, as tests with damaged files found.
DAMAGE = (OSError, SyntaxError, ValueError, IndexError, EOFError, KeyError, TypeError, OverflowError, MemoryError)


@contextmanager
def opened_image(data: bytes, kind: Literal["GIF", "JPEG", "PNG", "WEBP"], damage: str) -> Iterator[Image.Image]:
    """An image for the time of a `with`; ClipError with the text of `damage` where it cannot be read, then or within.

    Its size must have been checked before: Pillow warns of large ones on its own.
    """
    try:
        with Image.open(io.BytesIO(data), formats=[kind]) as image:
            yield image
    except ClipError:
        raise
    except DAMAGE:
        raise ClipError(damage) from None


def open_still(data: bytes, kind: Literal["JPEG", "PNG", "WEBP"], damage: str) -> Opened:
    """A clip of one frame. Its size must have been checked before; damage: what ClipErrors say."""
    with opened_image(data, kind, damage) as image:
        width, height = _upright_size(image)

    def canvases(wanted: Collection[int]) -> Iterator[np.ndarray]:
        with opened_image(data, kind, damage) as image:
            canvas = rgba(ImageOps.exif_transpose(image))
        if 0 in wanted:
            yield canvas

    return Opened(STILL_FORMATS[kind], width, height, frame_ms=np.zeros(1), work=width * height, canvases=canvases)


def _upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height as a camera's note of its orientation turns them."""
    width, height = image.size
    return (height, width) if image.getexif().get(ORIENTATION) in TURNED else (width, height)


def rgba(image: Image.Image) -> np.ndarray:
    """uint8 `h w 4` with straight alpha; of 16 bits the upper 8."""
    if image.mode.startswith("I;16"):
        # Pillow would cut off what is brighter than 255 of 65535.
        deep = np.asarray(image)
        grey = (deep >> 8).astype(np.uint8)
        hole = image.info.get("transparency")
        alpha = np.where(deep == hole, 0, 255) if isinstance(hole, int) else np.full_like(grey, 255)
        return np.stack([grey, grey, grey, alpha.astype(np.uint8)], axis=-1)
    return np.asarray(image.convert("RGBA"))
