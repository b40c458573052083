"""The family `candles`: one to three candles in the dark that burn, are lit or go out."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from t2v.data.worlds.canvas import (
    RGB,
    Clock,
    FloatArray,
    coverage,
    over,
    pixel_centres,
    screen,
    spindle_distance,
    splat,
    to_uint8,
)
from t2v.data.worlds.grammar import pick

WAX: dict[str, RGB] = {
    "white": (0.95, 0.93, 0.88),
    "red": (0.85, 0.10, 0.12),
    "green": (0.10, 0.60, 0.22),
    "blue": (0.15, 0.32, 0.90),
    "purple": (0.55, 0.16, 0.75),
    "yellow": (0.95, 0.82, 0.15),
}
GROUNDS: dict[str, RGB] = {"black": (0.03, 0.03, 0.03), "dark blue": (0.05, 0.08, 0.26), "brown": (0.24, 0.13, 0.07)}
MOTIONS = ("flicker", "light up", "go out")
HEIGHTS = {"small": (0.22, 0.26), "large": (0.44, 0.50)}
PLACES = {1: (0.5,), 2: (0.31, 0.69), 3: (0.2, 0.5, 0.8)}
WIDTHS = {1: (0.15, 0.18), 2: (0.13, 0.15), 3: (0.12, 0.14)}
FLOOR = 0.90
FLAME_HEIGHT, FLAME_WIDTH = 0.17, 0.085
OUTER: RGB = (1.0, 0.55, 0.08)
INNER: RGB = (1.0, 0.92, 0.60)
GLOW: RGB = (1.0, 0.55, 0.18)
WICK: RGB = (0.10, 0.08, 0.07)
SMOKE: RGB = (0.62, 0.62, 0.65)
CHANGE = (0.4, 0.55)  # the part of the clip in which a flame comes or goes
FLICKERS = np.array([2.3, 3.7, 5.9], np.float32)  # a second: together they do not repeat within a clip
FLICKER_SHARES = np.array([0.5, 0.3, 0.2], np.float32)


@dataclass(frozen=True)
class Candle:
    """One candle. Lengths in units of the frame."""

    x: float
    width: float
    height: float
    phases: FloatArray  # one a flicker


class Moment(NamedTuple):
    """What is the same for all candles in a frame.

    burning: from 0, no flame, to 1
    smoking: for how long, as a share of the clip, there has been smoke
    seconds: on the flames' own clock
    """

    burning: float
    smoking: float
    seconds: float


@dataclass(frozen=True)
class Scene:
    """Candles that are alike and do the same."""

    ground: str
    colour: str
    motion: str
    size: str
    candles: tuple[Candle, ...]


def plan(rng: np.random.Generator) -> Scene:
    """Choose a scene; nothing in it depends on size, frames or rate."""
    ground, colour, motion, size = (pick(rng, tuple(names)) for names in (GROUNDS, WAX, MOTIONS, HEIGHTS))
    number = int(rng.integers(1, 4))
    height, width = rng.uniform(*HEIGHTS[size]), rng.uniform(*WIDTHS[number])
    candles = tuple(
        Candle(
            x=place + rng.uniform(-0.03, 0.03),
            width=width,
            height=height * rng.uniform(0.95, 1.0),
            phases=rng.uniform(0, 2 * np.pi, (2, 3)).astype(np.float32),
        )
        for place in PLACES[number]
    )
    return Scene(ground, colour, motion, size, candles)


def facts(scene: Scene) -> dict[str, Any]:
    """What is true of the clip, for tests and for a judge."""
    subject = {"subject": "candle", "colour": scene.colour, "size": scene.size, "motion": scene.motion}
    number = len(scene.candles)
    return {"number": number, "backdrop": scene.ground, "subjects": tuple(dict(subject) for _ in range(number))}


def draw(scene: Scene, clock: Clock, size: int) -> NDArray[np.uint8]:
    """Shape: f h w 3."""
    ground = np.broadcast_to(np.asarray(GROUNDS[scene.ground], np.float32), (size, size, 3))
    bodies = [_body(candle, size) for candle in scene.candles]
    frames = []
    for frame in range(clock.num_frames):
        moment = _moment(scene.motion, clock, frame)
        image = ground
        for candle, body in zip(scene.candles, bodies, strict=True):
            image = _lit(image, candle, body, scene.colour, moment)
        frames.append(to_uint8(image))
    return np.stack(frames)


def _moment(motion: str, clock: Clock, frame: int) -> Moment:
    progress = clock.progress(frame)
    changed = float(np.clip((progress - CHANGE[0]) / (CHANGE[1] - CHANGE[0]), 0, 1))
    burning = {"flicker": 1.0, "light up": changed, "go out": 1 - changed}[motion]
    # Between two frames a flame never gets farther than the eye can follow.
    seconds = clock.cycles(frame, rate=1, least=0, most_per_frame=0.13)
    return Moment(burning, max(0.0, progress - CHANGE[1]) if motion == "go out" else 0.0, seconds)


def _body(candle: Candle, size: int) -> FloatArray:
    """Share of each pixel that the wax covers. Shape: h w."""
    grid = pixel_centres(size)
    across = np.abs(grid - candle.x) - candle.width / 2
    down = np.maximum(FLOOR - candle.height - grid, grid - FLOOR)
    return coverage(across, size)[None, :] * coverage(down, size)[:, None]


def _lit(image: FloatArray, candle: Candle, body: FloatArray, colour: str, moment: Moment) -> FloatArray:
    """The image with one candle and its light."""
    size, burning = len(image), moment.burning
    top = FLOOR - candle.height
    waver = np.sin(2 * np.pi * FLICKERS * moment.seconds + candle.phases) @ FLICKER_SHARES
    grid = pixel_centres(size)
    off_x, off_y = (grid - candle.x)[None, :], (grid - top)[:, None]
    near = np.exp(-(off_x**2 + (off_y + 0.06) ** 2) / 0.035) * burning * (1 + 0.3 * waver[0])
    image = screen(image, 0.4 * near[..., None] * np.asarray(GLOW, np.float32))
    # Wax is brightest under the flame, and never so dark that its colour is lost.
    light = 0.82 + 0.18 * burning * np.exp(-np.maximum(off_y, 0) / 0.2)
    image = over(image, light[..., None] * np.asarray(WAX[colour], np.float32), body)
    wick = coverage(np.maximum(np.abs(off_x) - 0.006, np.abs(off_y + 0.015) - 0.018), size)
    image = over(image, WICK, wick)
    if moment.smoking > 0:
        image = over(image, SMOKE, _smoke(candle, top, moment.smoking, size))
    if burning > 0:
        lean, tall = 0.028 * waver[1], 1 + 0.22 * waver[0]
        image = over(image, OUTER, coverage(_flame(off_x, off_y, burning * tall, lean), size))
        image = over(image, INNER, coverage(_flame(off_x, off_y, 0.55 * burning * tall, 0.5 * lean), size))
    return image


def _flame(off_x: FloatArray, off_y: FloatArray, scale: float, lean: float) -> FloatArray:
    """Distance to the edge of a drop that stands on the wick and leans over at its tip."""
    along = np.linspace(1, 0, 12)  # from the tip down
    half = 0.5 * FLAME_WIDTH * scale * np.sin(np.pi * along**0.6)
    return spindle_distance(off_x, off_y, -0.015 - FLAME_HEIGHT * scale * along, half, lean * along**2)


def _smoke(candle: Candle, top: float, age: float, size: int) -> FloatArray:
    """Share of each pixel that the smoke of a candle hides: a thread that climbs from the wick, sways and thins."""
    up = np.arange(12) / 11 * min(1.0, age / 0.25) * 0.30
    x = candle.x + 0.03 * np.sin(18 * up - 9 * age + candle.phases[0, 0]) * (up / 0.3)
    weight = np.linspace(0.5, 0.15, 12) * max(0.3, 1 - age)
    return np.clip(splat(x, top - 0.03 - up, weight, sigma=0.018, size=size), 0, 0.7)
