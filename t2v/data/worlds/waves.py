"""The family `waves`: a calm or a rough sea that rolls to the left or to the right under a sky."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2v.data.worlds.canvas import RGB, Clock, FloatArray, coverage, over, pixel_centres, shaded, to_uint8
from t2v.data.worlds.grammar import pick
from t2v.data.worlds.skies import SKIES, Backdrop, paint_backdrop, plan_backdrop

WATER: dict[str, RGB] = {"blue": (0.08, 0.32, 0.80), "green": (0.05, 0.55, 0.36), "grey": (0.44, 0.46, 0.49)}
LIGHT = {"night": 0.42, "dusk": 0.68, "day": 1.0}
MOTIONS = ("left", "right")
# Height of a crest over the middle, and the length of a wave.
HEIGHTS = {"small": (0.022, 0.028), "large": (0.065, 0.080)}
LENGTHS = {"small": (0.26, 0.32), "large": (0.52, 0.62)}
LEVELS = (0.42, 0.56, 0.72, 0.90)  # middles of the bands of water, from the farthest to the nearest
SHADES = (1.25, 1.05, 0.85, 0.68)
RATE, FASTEST = 0.75, 0.16  # wavelengths a second, and between two frames
FOAM = 0.018  # how deep it lies under the edge
WHITE: RGB = (0.95, 0.97, 1.0)


@dataclass(frozen=True)
class Scene:
    """A sea in bands, one behind the other, which all roll the same way. Lengths in units of the frame."""

    backdrop: Backdrop
    colour: str
    motion: str
    size: str
    height: float
    length: float
    phases: FloatArray  # one a band


def plan(rng: np.random.Generator) -> Scene:
    """Choose a scene; nothing in it depends on size, frames or rate."""
    colour, motion, size, sky = pick(rng, tuple(WATER)), pick(rng, MOTIONS), pick(rng, tuple(HEIGHTS)), pick(rng, SKIES)
    return Scene(
        backdrop=plan_backdrop(rng, sky, "nowhere"),
        colour=colour,
        motion=motion,
        size=size,
        height=rng.uniform(*HEIGHTS[size]),
        length=rng.uniform(*LENGTHS[size]),
        phases=rng.random(len(LEVELS)).astype(np.float32),
    )


def facts(scene: Scene) -> dict[str, Any]:
    """What is true of the clip, for tests and for a judge."""
    subject = {"subject": "waves", "colour": scene.colour, "size": scene.size, "motion": scene.motion}
    return {"number": 1, "backdrop": scene.backdrop.sky, "subjects": (subject,)}


def draw(scene: Scene, clock: Clock, size: int) -> NDArray[np.uint8]:
    """Shape: f h w 3."""
    sky, _ = paint_backdrop(scene.backdrop, size)
    frames = []
    for frame in range(clock.num_frames):
        rolled = clock.cycles(frame, rate=RATE, least=0.5, most_per_frame=FASTEST)
        frames.append(to_uint8(_sea(scene, sky, -rolled if scene.motion == "right" else rolled)))
    return np.stack(frames)


def _sea(scene: Scene, sky: FloatArray, rolled: float) -> FloatArray:
    size, image = len(sky), sky
    light = LIGHT[scene.backdrop.sky]
    grid = pixel_centres(size)
    for level, shade, phase in zip(LEVELS, SHADES, scene.phases, strict=True):
        # Nearer bands look larger.
        near = 0.7 + 0.6 * (level - LEVELS[0])
        turn = 2 * np.pi * (grid / (scene.length * near) + rolled + phase)
        # Crests sharper than troughs, as Gerstner's waves have them.
        crest = level - scene.height * near * (np.sin(turn) - 0.25 * np.cos(2 * turn))
        below = grid[:, None] - crest[None, :]
        water = coverage(-below, size)
        # Light falls through a crest; down in the trough the water is darker.
        depth = np.clip(1.12 - 2.2 * np.maximum(below, 0), 0.72, None)[..., None]
        image = over(image, depth * np.asarray(shaded(WATER[scene.colour], light * shade), np.float32), water)
        foam = np.exp(-np.maximum(below, 0) / FOAM) * water * np.clip(0.3 + 0.6 * np.sin(turn), 0, 1)
        image = over(image, shaded(WHITE, 0.35 + 0.65 * light), 0.75 * foam)
    return image
