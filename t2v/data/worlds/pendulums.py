"""The family `pendulums`: a weight on a rod that swings slowly or fast before a plain ground."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2v.data.worlds.canvas import RGB, Clock, FloatArray, coverage, over, pixel_centres, to_uint8
from t2v.data.worlds.grammar import chance, pick
from t2v.data.worlds.shapes import COLOURS, GROUNDS, colours_on, tint

RADII = {"small": (0.105, 0.12), "large": (0.17, 0.195)}
PERIODS = {"slow": (2.1, 2.5), "fast": (0.95, 1.1)}  # seconds
# Cycles that a clip shows at least, and between two frames at most: also in four frames fast is faster than slow.
LEAST = {"slow": 0.5, "fast": 1.0}
MOST = {"slow": 0.17, "fast": 0.3}
PIVOT_Y = 0.08
ROD_WIDTH = 0.022
MARGIN = 0.02  # free space between the weight and the edge


@dataclass(frozen=True)
class Scene:
    """A pendulum. Lengths in units of the frame, angles in radians from hanging straight."""

    ground: str
    ground_rgb: RGB
    colour: str
    rgb: RGB
    size: str
    speed: str
    radius: float
    length: float
    angle: float
    period_s: float
    from_left: bool


def plan(rng: np.random.Generator) -> Scene:
    """Choose a scene; nothing in it depends on size, frames or rate."""
    ground, size, speed = pick(rng, tuple(GROUNDS)), pick(rng, tuple(RADII)), pick(rng, tuple(PERIODS))
    colour = pick(rng, colours_on(ground))
    radius, length = rng.uniform(*RADII[size]), rng.uniform(0.52, 0.6)
    widest = float(np.arcsin((0.5 - MARGIN - radius) / length))
    return Scene(
        ground=ground,
        ground_rgb=tint(rng, GROUNDS[ground]),
        colour=colour,
        rgb=tint(rng, COLOURS[colour]),
        size=size,
        speed=speed,
        radius=radius,
        length=length,
        angle=min(rng.uniform(0.5, 0.7), widest),
        period_s=rng.uniform(*PERIODS[speed]),
        from_left=chance(rng, 0.5),
    )


def facts(scene: Scene) -> dict[str, Any]:
    """What is true of the clip, for tests and for a judge."""
    subject = {
        "subject": "pendulum",
        "colour": scene.colour,
        "size": scene.size,
        "motion": "swing",
        "speed": scene.speed,
    }
    return {"number": 1, "backdrop": scene.ground, "subjects": (subject,)}


def draw(scene: Scene, clock: Clock, size: int) -> NDArray[np.uint8]:
    """Shape: f h w 3."""
    ground = np.broadcast_to(np.asarray(scene.ground_rgb, np.float32), (size, size, 3))
    frames = []
    for frame in range(clock.num_frames):
        swung = clock.cycles(frame, rate=1 / scene.period_s, least=LEAST[scene.speed], most_per_frame=MOST[scene.speed])
        angle = (-1 if scene.from_left else 1) * scene.angle * np.cos(2 * np.pi * swung)
        frames.append(to_uint8(_picture(scene, ground, angle)))
    return np.stack(frames)


def _picture(scene: Scene, ground: FloatArray, angle: float) -> FloatArray:
    size = len(ground)
    grid = pixel_centres(size)
    off_x, off_y = (grid - 0.5)[None, :], (grid - PIVOT_Y)[:, None]
    # Along the rod and across it.
    along, across = off_x * np.sin(angle) + off_y * np.cos(angle), off_x * np.cos(angle) - off_y * np.sin(angle)
    rod = np.maximum(np.abs(across) - ROD_WIDTH / 2, np.abs(along - scene.length / 2) - scene.length / 2)
    metal = (0.72, 0.72, 0.74) if sum(scene.ground_rgb) < 1.2 else (0.22, 0.22, 0.24)
    image = over(ground, metal, coverage(rod, size))
    beam = np.maximum(np.abs(off_x) - 0.14, np.abs(off_y) - 0.022)
    image = over(image, metal, coverage(beam, size))
    return over(image, scene.rgb, coverage(np.hypot(across, along - scene.length) - scene.radius, size))
