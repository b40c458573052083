"""Drawing in unit coordinates: x to the right, y down, both from 0 to 1, whatever the size in pixels."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[Any]  # of float32 where it is an image
RGB = tuple[float, float, float]

PIXEL_BLUR = 0.4  # width of a pixel's own footprint, so that a point thinner than a pixel neither flickers nor vanishes


@dataclass(frozen=True)
class Clock:
    """The frames of a clip in time."""

    num_frames: int
    fps: float

    def progress(self, frame: int) -> float:
        """From 0 at the first frame to 1 at the last: what happens once fills the clip, however long that is."""
        return frame / (self.num_frames - 1)

    def cycles(self, frame: int, *, rate: float, least: float, most_per_frame: float) -> float:
        """Cycles done by this frame of what repeats `rate` times a second.

        least: cycles that the clip must show
        most_per_frame: cycles between two frames; faster ones could not be seen, so this limit comes first
        """
        per_frame = max(rate / self.fps, least / (self.num_frames - 1))
        return frame * min(per_frame, most_per_frame)


def pixel_centres(size: int) -> FloatArray:
    """Where the pixels of a row or a column stand. Shape: size."""
    return (np.arange(size, dtype=np.float32) + 0.5) / size


def coverage(distance: FloatArray, size: int) -> FloatArray:
    """Share of each pixel inside an edge, from its signed distance (negative inside)."""
    return np.clip(0.5 - distance * size, 0, 1)


def over(below: FloatArray, colour: RGB | FloatArray, alpha: FloatArray) -> FloatArray:
    """Lay a colour over an image. below: h w 3; alpha: h w in [0, 1]."""
    return below + (np.asarray(colour, np.float32) - below) * alpha[..., None]


def screen(below: FloatArray, light: FloatArray) -> FloatArray:
    """Add light to an image without ever passing white. Both h w 3, light from 0 up."""
    return 1 - (1 - below) * np.exp(-light)


def vertical_gradient(top: RGB, bottom: RGB, size: int) -> FloatArray:
    """Shape: h w 3."""
    share = pixel_centres(size)[:, None, None]
    rows = np.asarray(top, np.float32) * (1 - share) + np.asarray(bottom, np.float32) * share
    return np.broadcast_to(rows, (size, size, 3)).astype(np.float32)


def splat(x: FloatArray, y: FloatArray, weight: FloatArray, *, sigma: float, size: int) -> FloatArray:
    """Sum of round Gaussian spots. x, y, weight: one entry a spot, any shape. Result: h w."""
    wide = float(np.hypot(sigma, PIXEL_BLUR / size))
    grid = pixel_centres(size)
    across = np.exp(-0.5 * ((grid - np.ravel(x)[:, None]) / wide) ** 2)
    down = np.exp(-0.5 * ((grid - np.ravel(y)[:, None]) / wide) ** 2)
    # A spot widened by coarse pixels is dimmed, or fireworks would look brighter in small clips than in large ones.
    strength = np.ravel(weight) * (sigma / wide)
    # A round Gaussian is a product of one in x and one in y, so all spots together are one matrix product.
    image: FloatArray = ((down * strength[:, None]).T @ across).astype(np.float32)
    return image


def polygon_distance(vertices: FloatArray, x: FloatArray, y: FloatArray) -> FloatArray:
    """Signed distance from points to the edge of a closed polygon, negative inside.

    vertices: m 2; x, y: arrays that broadcast to h w
    """
    ends = np.roll(vertices, -1, axis=0) - vertices
    edge_x, edge_y = ends[:, 0, None, None], ends[:, 1, None, None]
    from_x, from_y = x - vertices[:, 0, None, None], y - vertices[:, 1, None, None]
    along = np.clip((from_x * edge_x + from_y * edge_y) / (edge_x**2 + edge_y**2), 0, 1)
    distance = np.sqrt(((from_x - along * edge_x) ** 2 + (from_y - along * edge_y) ** 2).min(axis=0))
    # A point is inside when a ray to its right crosses the edge an odd number of times.
    straddles = (from_y < 0) != (from_y < edge_y)
    on_the_right = (edge_x * from_y - edge_y * from_x > 0) == (edge_y > 0)
    inside = (straddles & on_the_right).sum(axis=0) % 2 == 1
    signed: FloatArray = np.where(inside, -distance, distance)
    return signed


def spindle_distance(
    off_x: FloatArray, off_y: FloatArray, heights: FloatArray, halves: FloatArray, lean: FloatArray | float = 0.0
) -> FloatArray:
    """Distance, negative inside, to the edge of a figure that at each height reaches as far left as right.

    Close to the edge it is nearly the true one, at a tenth of the cost of a polygon's.
    off_x: 1 w; off_y: h 1; heights: m, rising; halves: m, how wide on either side; lean: m, where the middle is
    """
    y = off_y[:, 0]
    half, middle = np.interp(y, heights, halves), np.interp(y, heights, np.broadcast_to(lean, heights.shape))
    slope = np.interp(y, heights, np.gradient(halves, heights))
    sides = (np.abs(off_x - middle[:, None]) - half[:, None]) / np.hypot(1, slope)[:, None]
    distance: FloatArray = np.maximum(sides, np.maximum(heights[0] - y, y - heights[-1])[:, None])
    return distance


def shaded(rgb: RGB, factor: float) -> RGB:
    """A colour made darker or, as far as it goes, lighter."""
    red, green, blue = (min(1.0, level * factor) for level in rgb)
    return red, green, blue


def to_uint8(image: FloatArray) -> NDArray[np.uint8]:
    """Levels 0 to 255 of an image in [0, 1]."""
    return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
