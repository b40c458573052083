"""The family `suns`: a sunrise or a sunset over the sea, hills or a city, the sky brightening or darkening with it."""

from dataclasses import dataclass
from typing import Any

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
    to_uint8,
    vertical_gradient,
)
from t2v.data.worlds.grammar import pick
from t2v.data.worlds.skies import Backdrop, Ground, paint_backdrop, plan_backdrop, reflect

SUNS: dict[str, RGB] = {"yellow": (1.0, 0.90, 0.30), "orange": (1.0, 0.52, 0.06), "red": (0.93, 0.10, 0.08)}
# Skies at their brightest, at the top of the frame and near the horizon.
SKIES: dict[str, tuple[RGB, RGB]] = {
    "orange": ((0.36, 0.34, 0.56), (0.98, 0.66, 0.36)),
    "pink": ((0.42, 0.40, 0.70), (0.97, 0.66, 0.78)),
    "purple": ((0.20, 0.14, 0.46), (0.56, 0.34, 0.72)),
}
TOO_ALIKE = {("orange", "orange")}  # a sun that would be lost in its sky
MOTIONS = ("up", "down")
PLACES = ("water", "hills", "city")
RADII = {"small": (0.105, 0.12), "large": (0.175, 0.205)}
DARKEST = 0.48  # brightness of the sky with the sun below the horizon


@dataclass(frozen=True)
class Scene:
    """A sun and its sky. Places in units of the frame."""

    backdrop: Backdrop
    sky: str
    colour: str
    motion: str
    size: str
    radius: float
    x: float
    low: float
    high: float


def plan(rng: np.random.Generator) -> Scene:
    """Choose a scene; nothing in it depends on size, frames or rate."""
    sky, motion, place, size = pick(rng, tuple(SKIES)), pick(rng, MOTIONS), pick(rng, PLACES), pick(rng, tuple(RADII))
    colour = pick(rng, [name for name in SUNS if (name, sky) not in TOO_ALIKE])
    backdrop = plan_backdrop(rng, "dusk", place)
    radius = rng.uniform(*RADII[size])
    return Scene(
        backdrop=backdrop,
        sky=sky,
        colour=colour,
        motion=motion,
        size=size,
        radius=radius,
        x=rng.uniform(0.3, 0.7),
        # At its lowest the sun just shows a rim over the sea; behind hills and roofs it is gone.
        low=backdrop.horizon + 0.8 * radius,
        high=rng.uniform(0.27, 0.36),
    )


def facts(scene: Scene) -> dict[str, Any]:
    """What is true of the clip, for tests and for a judge."""
    subject = {"subject": "sun", "colour": scene.colour, "size": scene.size, "motion": scene.motion}
    return {"number": 1, "backdrop": scene.sky, "place": scene.backdrop.place, "subjects": (subject,)}


def draw(scene: Scene, clock: Clock, size: int) -> NDArray[np.uint8]:
    """Shape: f h w 3."""
    _, ground = paint_backdrop(scene.backdrop, size)
    top, foot = SKIES[scene.sky]
    sky = vertical_gradient(top, foot, size)
    frames = [_picture(scene, sky, ground, clock.progress(frame)) for frame in range(clock.num_frames)]
    return np.stack([to_uint8(frame) for frame in frames])


def _picture(scene: Scene, sky: FloatArray, ground: Ground, progress: float) -> FloatArray:
    size = len(sky)
    risen = progress if scene.motion == "up" else 1 - progress
    light = DARKEST + (1 - DARKEST) * risen
    grid = pixel_centres(size)
    away = np.hypot(grid[None, :] - scene.x, grid[:, None] - (scene.low + (scene.high - scene.low) * risen))
    colour = np.asarray(SUNS[scene.colour], np.float32)
    glow = 0.35 * np.exp(-np.maximum(away - scene.radius, 0) / 0.12) * light
    # The glow is warm whatever the sun's colour, and gone on the disc itself, which keeps the colour it is named by.
    image = screen(sky * light, glow[..., None] * np.array([0.9, 0.5, 0.2], np.float32))
    image = over(image, (colour[0], colour[1], colour[2]), coverage(away - scene.radius, size))
    if scene.backdrop.place == "water":
        image = reflect(image, scene.backdrop)
    return over(image, ground.colour, ground.alpha)
