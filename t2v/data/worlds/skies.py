"""What stands behind the fireworks: a sky by night, dusk or day, and perhaps a city, hills or water."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from t2v.data.worlds.canvas import RGB, FloatArray, over, pixel_centres, shaded, splat, vertical_gradient

SKIES = ("night", "dusk", "day")
PLACES = ("nowhere", "city", "hills", "water")

# Colours at the top of the frame and at its foot.
SKY_COLOURS: dict[str, tuple[RGB, RGB]] = {
    "night": ((0.01, 0.01, 0.05), (0.06, 0.06, 0.18)),
    "dusk": ((0.13, 0.09, 0.30), (0.68, 0.32, 0.20)),
    "day": ((0.33, 0.60, 0.95), (0.74, 0.88, 1.00)),
}
GROUND_COLOURS: dict[str, dict[str, RGB]] = {
    "city": {"night": (0.02, 0.02, 0.03), "dusk": (0.07, 0.04, 0.09), "day": (0.34, 0.37, 0.44)},
    "hills": {"night": (0.01, 0.04, 0.02), "dusk": (0.09, 0.06, 0.08), "day": (0.25, 0.50, 0.22)},
}
WINDOW: RGB = (1.0, 0.80, 0.40)
WATER: dict[str, RGB] = {"night": (0.01, 0.02, 0.06), "dusk": (0.12, 0.08, 0.16), "day": (0.12, 0.32, 0.60)}
SAMPLES = 4  # columns looked at within a pixel, to smooth upright walls


@dataclass(frozen=True)
class Backdrop:
    """A sky and what stands at its foot; lists hold one entry a star, a tower, a wave of the hills or a window."""

    sky: str
    place: str
    tint: tuple[float, float]  # brightness of the top and of the foot of the sky
    stars: FloatArray  # rows (x, y, brightness)
    horizon: float  # where water begins, or the middle of the skyline
    tops: FloatArray  # heights of the towers from left to right
    waves: FloatArray  # rows (height, waves across the frame, phase) of the hills
    windows: FloatArray  # rows (x, y)


class Ground(NamedTuple):
    """What hides the sky. colour, alpha: h w 3 and h w."""

    colour: FloatArray
    alpha: FloatArray


def plan_backdrop(rng: np.random.Generator, sky: str, place: str) -> Backdrop:
    """Choose the details of a backdrop."""
    tint = rng.uniform(0.85, 1.15, 2)
    num_stars = int(rng.integers(6, 16))
    stars = np.stack([rng.random(num_stars), rng.uniform(0, 0.7, num_stars), rng.uniform(0.2, 0.6, num_stars)], axis=1)
    horizon = rng.uniform(0.78, 0.84) if place == "water" else rng.uniform(0.84, 0.90)
    tops = horizon + rng.uniform(-0.10, 0.05, int(rng.integers(8, 13)))
    waves = np.stack([rng.uniform(0.01, 0.04, 3), rng.uniform(0.5, 2.5, 3), rng.uniform(0, 2 * np.pi, 3)], axis=1)
    windows = _windows(rng, tops)
    return Backdrop(
        sky=sky,
        place=place,
        tint=(float(tint[0]), float(tint[1])),
        stars=stars.astype(np.float32),
        horizon=horizon,
        tops=tops.astype(np.float32),
        waves=waves.astype(np.float32),
        windows=windows,
    )


def paint_backdrop(backdrop: Backdrop, size: int) -> tuple[FloatArray, Ground]:
    """The sky, and the ground that hides what is behind it. Sky: h w 3."""
    top, foot = SKY_COLOURS[backdrop.sky]
    sky = vertical_gradient(shaded(top, backdrop.tint[0]), shaded(foot, backdrop.tint[1]), size)
    if backdrop.sky == "night":
        x, y, brightness = backdrop.stars.T
        sky = over(sky, (1, 1, 1), np.clip(splat(x, y, brightness, sigma=0.006, size=size), 0, 1))
    return sky, _ground(backdrop, size)


def reflect(image: FloatArray, backdrop: Backdrop) -> FloatArray:
    """Water below the horizon: the sky upside down, squeezed and dimmed."""
    size = len(image)
    rows = pixel_centres(size)
    depth = rows - backdrop.horizon
    # The narrow strip of water shows the whole height of the sky.
    stretch = backdrop.horizon / (1 - backdrop.horizon)
    seen = np.clip((backdrop.horizon - depth * stretch) * size - 0.5, 0, size - 1)
    lower = np.floor(seen).astype(int)
    share = (seen - lower).astype(np.float32)[:, None, None]
    mirrored = image[lower] * (1 - share) + image[np.minimum(lower + 1, size - 1)] * share
    water = 0.5 * mirrored + 0.6 * np.asarray(WATER[backdrop.sky], np.float32)
    below = np.clip(depth * size + 0.5, 0, 1)[:, None, None]
    mixed: FloatArray = image * (1 - below) + water * below
    return mixed


def _windows(rng: np.random.Generator, tops: FloatArray) -> FloatArray:
    """Lit windows, below the roofs of the towers that they are in."""
    rows = []
    for number, top in enumerate(tops):
        for _ in range(int(rng.integers(0, 3))):
            rows.append(((number + rng.uniform(0.25, 0.75)) / len(tops), rng.uniform(top + 0.03, 0.99)))
    return np.array(rows, np.float32).reshape(-1, 2)


def _ground(backdrop: Backdrop, size: int) -> Ground:
    if backdrop.place not in GROUND_COLOURS:
        return Ground(np.zeros((size, size, 3), np.float32), np.zeros((size, size), np.float32))
    colour = np.broadcast_to(np.asarray(GROUND_COLOURS[backdrop.place][backdrop.sky], np.float32), (size, size, 3))
    x = pixel_centres(size * SAMPLES)
    if backdrop.place == "hills":
        height, across, phase = backdrop.waves.T[:, :, None]
        tops = backdrop.horizon + (height * np.sin(2 * np.pi * across * x + phase)).sum(axis=0)
    else:
        tops = backdrop.tops[(x * len(backdrop.tops)).astype(int)]
        if backdrop.sky != "day":
            window_x, window_y = backdrop.windows.T
            lit = splat(window_x, window_y, np.ones(len(window_x), np.float32), sigma=0.008, size=size)
            colour = over(colour, WINDOW, np.clip(lit, 0, 1))
    covered = np.clip((pixel_centres(size)[:, None] - tops[None, :]) * size + 0.5, 0, 1)
    return Ground(colour, covered.reshape(size, size, SAMPLES).mean(axis=2).astype(np.float32))
