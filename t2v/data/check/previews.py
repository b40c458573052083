"""Small pictures of what training sees of a clip."""

import base64
import io

import numpy as np
from PIL import Image

from t2v.data.near import as_rgb

QUALITY = 60  # of WebP: about 6 KB for ten pictures of 64 x 64


def small_pictures(frames: np.ndarray, *, most: int, side: int) -> list[Image.Image]:
    """At most so many pictures, evenly chosen from first to last, none larger than `side`. frames: uint8 `n h w c`"""
    places = np.linspace(0, len(frames) - 1, min(most, len(frames))).round().astype(int)
    return [_shrunk(Image.fromarray(np.ascontiguousarray(frame)), side) for frame in as_rgb(frames[places])]


def data_address(pictures: list[Image.Image], *, picture_ms: float) -> str:
    """The pictures as an endless animation that a page holds in itself; one alone is a still."""
    first, *others = pictures
    buffer = io.BytesIO()
    first.save(
        buffer,
        "WEBP",
        save_all=bool(others),
        append_images=others,
        duration=max(20, round(picture_ms)),
        loop=0,
        quality=QUALITY,
    )
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def _shrunk(image: Image.Image, side: int) -> Image.Image:
    return image if image.height <= side else image.resize((side, side), Image.Resampling.BOX)
