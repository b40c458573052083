"""The family `rockets`: a rocket that stands, lights its engine and takes off, by night, at dusk or by day."""

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
    shaded,
    spindle_distance,
    splat,
    to_uint8,
)
from t2v.data.worlds.grammar import pick
from t2v.data.worlds.shapes import COLOURS as SHAPE_COLOURS
from t2v.data.worlds.skies import SKIES, SKY_COLOURS, Backdrop, paint_backdrop, plan_backdrop

COLOURS = {name: SHAPE_COLOURS[name] for name in ("red", "green", "blue", "yellow", "orange", "purple", "white")}
PLACES = ("nowhere", "city", "hills")
HEIGHTS = {"small": (0.26, 0.30), "large": (0.42, 0.47)}
MIN_CONTRAST = 0.42  # as of shapes, here with the sky's top and with its foot
PAD = 0.90  # where the rocket stands
PAD_COLOURS: dict[str, RGB] = {"night": (0.13, 0.13, 0.16), "dusk": (0.17, 0.13, 0.17), "day": (0.45, 0.45, 0.47)}
SMOKE: dict[str, RGB] = {"night": (0.52, 0.50, 0.52), "dusk": (0.72, 0.64, 0.64), "day": (0.93, 0.93, 0.94)}
FIRE: RGB = (1.0, 0.60, 0.12)
FIRE_CORE: RGB = (1.0, 0.95, 0.70)
WINDOW: RGB = (0.78, 0.92, 1.0)
IGNITION, LIFT_OFF = 0.06, 0.18  # shares of the clip
PUFFS = 26


@dataclass(frozen=True)
class Scene:
    """A rocket and where it starts. Lengths in units of the frame."""

    backdrop: Backdrop
    colour: str
    size: str
    height: float
    x: float
    climb: float  # how far it gets
    puffs: FloatArray  # rows (which way, when, how large, phase), each from 0 to 1


def plan(rng: np.random.Generator) -> Scene:
    """Choose a scene; nothing in it depends on size, frames or rate."""
    sky, place, size = pick(rng, SKIES), pick(rng, PLACES), pick(rng, tuple(HEIGHTS))
    colour = pick(rng, colours_on(sky))
    height = rng.uniform(*HEIGHTS[size])
    return Scene(
        backdrop=plan_backdrop(rng, sky, place),
        colour=colour,
        size=size,
        height=height,
        x=rng.uniform(0.35, 0.65),
        # It ends with its nose at the upper edge, and is in the picture to the last frame.
        climb=PAD - height - rng.uniform(0.0, 0.05),
        puffs=rng.random((PUFFS, 4)).astype(np.float32),
    )


def facts(scene: Scene) -> dict[str, Any]:
    """What is true of the clip, for tests and for a judge."""
    subject = {"subject": "rocket", "colour": scene.colour, "size": scene.size, "motion": "up"}
    return {"number": 1, "backdrop": scene.backdrop.sky, "place": scene.backdrop.place, "subjects": (subject,)}


def colours_on(sky: str) -> tuple[str, ...]:
    """Colours that stand out from a sky all the way up."""
    return tuple(
        name
        for name, rgb in COLOURS.items()
        if min(np.linalg.norm(np.subtract(rgb, end)) for end in SKY_COLOURS[sky]) >= MIN_CONTRAST
    )


def draw(scene: Scene, clock: Clock, size: int) -> NDArray[np.uint8]:
    """Shape: f h w 3."""
    sky, ground = paint_backdrop(scene.backdrop, size)
    behind = over(sky, ground.colour, ground.alpha)
    floor = coverage(np.broadcast_to(PAD - pixel_centres(size)[:, None], (size, size)), size)
    behind = over(behind, PAD_COLOURS[scene.backdrop.sky], floor)
    frames = []
    for frame in range(clock.num_frames):
        # Flames flutter from frame to frame whatever the rate.
        flutter = 0.12 * np.sin(2.4 * frame)
        frames.append(to_uint8(_picture(scene, behind, clock.progress(frame), flutter)))
    return np.stack(frames)


def _picture(scene: Scene, behind: FloatArray, progress: float, flutter: float) -> FloatArray:
    size = len(behind)
    grid = pixel_centres(size)
    flown = max(0.0, (progress - LIFT_OFF) / (1 - LIFT_OFF)) ** 1.7
    foot = PAD - scene.climb * flown
    off_x, off_y = (grid - scene.x)[None, :] / scene.height, (grid - foot)[:, None] / scene.height
    burning = float(np.clip((progress - IGNITION) / 0.1, 0, 1))
    image = over(behind, SMOKE[scene.backdrop.sky], _smoke(scene, progress, size))
    if burning > 0:
        glow = splat(np.array([scene.x]), np.array([foot + 0.05]), np.ones(1), sigma=0.11, size=size)
        image = screen(image, 0.55 * burning * glow[..., None] * np.asarray(FIRE, np.float32))
        for colour, scale in ((FIRE, 1.0), (FIRE_CORE, 0.5)):
            flame = _flame(off_x, off_y, scale * burning * (1 + flutter))
            image = over(image, colour, coverage(scene.height * flame, size))
    return _rocket(image, scene, off_x, off_y)


def _rocket(image: FloatArray, scene: Scene, off_x: FloatArray, off_y: FloatArray) -> FloatArray:
    """The rocket of height 1 over its foot: fins, hull and a window. off_x, off_y: in heights of the rocket"""
    size, colour = len(image), COLOURS[scene.colour]
    dark = shaded(colour, 0.62)
    up = np.linspace(1, 0, 10)
    # The nose is a parabola, below it the sides draw in a little.
    heights, halves = np.append(-0.55 - 0.45 * up, 0.0), np.append(0.155 * (1 - up**2), 0.12)
    fins = spindle_distance(off_x, off_y, np.array([-0.34, -0.02, 0.03]), np.array([0.11, 0.26, 0.26]))
    image = over(image, dark, coverage(scene.height * fins, size))
    image = over(image, colour, coverage(scene.height * spindle_distance(off_x, off_y, heights, halves), size))
    window = scene.height * (np.hypot(off_x, off_y + 0.62) - 0.065)
    image = over(image, dark, coverage(window - 0.012, size))
    return over(image, WINDOW, coverage(window, size))


def _flame(off_x: FloatArray, off_y: FloatArray, scale: float) -> FloatArray:
    """Distance, in heights of the rocket, to the edge of a drop that hangs from its foot."""
    along = np.linspace(0, 1, 10)
    return spindle_distance(off_x, off_y, 0.55 * scale * along, 0.11 * scale * np.sin(np.pi * (0.35 + 0.65 * along)))


def _smoke(scene: Scene, progress: float, size: int) -> FloatArray:
    """Share of each pixel that the smoke hides: clouds that roll out over the pad and slowly thin."""
    way, when, large, phase = scene.puffs.T
    age = np.clip((progress - IGNITION - 0.5 * when) / 0.6, 0, 1)
    out = 0.42 * np.sqrt(age) * (0.25 + 0.75 * large)
    x = scene.x + np.where(way < 0.5, -1, 1) * out
    y = PAD + 0.02 - 0.07 * age * phase
    thick = np.where(age > 0, 0.8 * (1 - 0.55 * age), 0)
    return 1 - np.exp(-splat(x, y, thick, sigma=0.035, size=size) * 1.6)
