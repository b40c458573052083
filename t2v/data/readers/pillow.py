"""Single pictures by way of Pillow: always with the decoder named, always as RGBA."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from t2v.errors import ClipError

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


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height as a camera's note of its orientation turns them."""
    width, height = image.size
    return (height, width) if image.getexif().get(ORIENTATION) in TURNED else (width, height)


def upright(image: Image.Image) -> np.ndarray:
    """RGBA of a still, uint8 `h w 4`, turned as a camera's note of its orientation says."""
    return rgba(ImageOps.exif_transpose(image))


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
