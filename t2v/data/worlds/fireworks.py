"""The family `fireworks`: bursts of glowing sparks that open, fall and fade, by night, at dusk or by day."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2v.data.worlds.canvas import RGB, Clock, FloatArray, over, screen, splat, to_uint8
from t2v.data.worlds.grammar import chance, pick
from t2v.data.worlds.skies import PLACES, SKIES, Backdrop, paint_backdrop, plan_backdrop, reflect

COLOURS: dict[str, RGB] = {
    "red": (1.00, 0.10, 0.10),
    "green": (0.12, 0.95, 0.22),
    "blue": (0.15, 0.38, 1.00),
    "purple": (0.72, 0.16, 1.00),
    "gold": (1.00, 0.72, 0.14),
    "white": (0.95, 0.95, 1.00),
}
# By day sparks hide the sky instead of lighting it: their colours are deeper, and blue would be lost.
DAY_COLOURS: dict[str, RGB] = {
    "red": (0.88, 0.05, 0.08),
    "green": (0.02, 0.52, 0.12),
    "purple": (0.50, 0.05, 0.70),
    "gold": (1.00, 0.75, 0.00),
    "white": (1.00, 1.00, 1.00),
}
STYLES = ("ball", "ring", "willow")
SKY_PROBS = {"night": 0.6, "dusk": 0.2, "day": 0.2}
PLACE_PROBS = {"nowhere": 0.4, "city": 0.3, "hills": 0.15, "water": 0.15}
COUNT_PROBS = {1: 0.25, 2: 0.25, 3: 0.25, 4: 0.15, 5: 0.1}
# Radii as shares of the frame by count: as large as leaves every burst a place of its own.
RADII = {1: (0.30, 0.38), 2: (0.22, 0.27), 3: (0.19, 0.23), 4: (0.17, 0.20), 5: (0.15, 0.18)}

CORE, HALO = 0.011, 0.045  # spread of a spark and of the glow around it
TRAIL_STEP, TRAIL_LENGTH = 0.022, 7  # age between the points of a trail, and how many there are
RISE = 0.13  # share of the clip that a rocket needs to climb


@dataclass(frozen=True)
class Burst:
    """One burst. Places in units of the frame, times as shares of the clip."""

    colour: str
    style: str
    centre: tuple[float, float]
    radius: float
    start: float
    life: float
    rises_from: float | None  # where along x its rocket starts, if one is seen
    directions: FloatArray  # one row (x, y) a spark, as long as the spark flies far
    twinkle: FloatArray  # one phase a spark


@dataclass(frozen=True)
class Scene:
    """A sky and the bursts in it."""

    backdrop: Backdrop
    bursts: tuple[Burst, ...]


def plan(rng: np.random.Generator) -> Scene:
    """Choose a scene; nothing in it depends on size, frames or rate."""
    sky = str(rng.choice(SKIES, p=[SKY_PROBS[name] for name in SKIES]))
    place = str(rng.choice(PLACES, p=[PLACE_PROBS[name] for name in PLACES]))
    count = int(rng.choice(list(COUNT_PROBS), p=list(COUNT_PROBS.values())))
    colours = _colours(rng, count, tuple(DAY_COLOURS if sky == "day" else COLOURS))
    centres, starts = _places(rng, count), _starts(rng, count)
    rockets = chance(rng, 0.5)
    style = pick(rng, STYLES)
    bursts = tuple(
        _burst(rng, colour, style, centre, start, count=count, rockets=rockets)
        for colour, centre, start in zip(colours, centres, starts, strict=True)
    )
    return Scene(plan_backdrop(rng, sky, place), bursts)


def facts(scene: Scene) -> dict[str, Any]:
    """What is true of the clip, for tests and for a judge."""
    return {
        "number": len(scene.bursts),
        "backdrop": scene.backdrop.sky,
        "place": scene.backdrop.place,
        "subjects": tuple(
            {"subject": "fireworks", "colour": burst.colour, "size": "changing", "motion": "burst"}
            for burst in scene.bursts
        ),
    }


def draw(scene: Scene, clock: Clock, size: int) -> NDArray[np.uint8]:
    """Shape: f h w 3."""
    sky, ground = paint_backdrop(scene.backdrop, size)
    frames = []
    for frame in range(clock.num_frames):
        image = sky
        for burst in scene.bursts:
            image = _lit(image, burst, clock.progress(frame), size, by_day=scene.backdrop.sky == "day")
        if scene.backdrop.place == "water":
            image = reflect(image, scene.backdrop)
        frames.append(to_uint8(over(image, ground.colour, ground.alpha)))
    return np.stack(frames)


def _colours(rng: np.random.Generator, count: int, palette: tuple[str, ...]) -> list[str]:
    """A colour for each burst: often one for all, sometimes two that take turns, sometimes all different."""
    shuffled = [str(name) for name in rng.permutation(palette)]
    kinds = min(count, int(rng.choice([1, 2, 5], p=[0.6, 0.25, 0.15])))
    return [shuffled[number % kinds] for number in range(count)]


def _places(rng: np.random.Generator, count: int) -> list[tuple[float, float]]:
    """Middles of the bursts, from left to right and by turns high and low, so that they can be counted."""
    if count == 1:
        return [(rng.uniform(0.38, 0.62), rng.uniform(0.36, 0.46))]
    high_first = chance(rng, 0.5)
    across = (np.arange(count) + 0.5) / count + rng.uniform(-0.04, 0.04, count)
    across = 0.5 + (across - 0.5) * 0.96
    high = (np.arange(count) % 2 == 0) == high_first
    rows = np.where(high, rng.uniform(0.21, 0.28, count), rng.uniform(0.47, 0.56, count))
    return [(float(x), float(y)) for x, y in zip(across, rows, strict=True)]


def _starts(rng: np.random.Generator, count: int) -> list[float]:
    """When the bursts open, in random order; several are open at once about the middle of the clip."""
    if count == 1:
        return [rng.uniform(0.03, 0.14)]
    times = np.linspace(0.04, 0.40, count) + rng.uniform(-0.03, 0.03, count)
    return [float(time) for time in rng.permutation(times)]


def _burst(
    rng: np.random.Generator,
    colour: str,
    style: str,
    centre: tuple[float, float],
    start: float,
    *,
    count: int,
    rockets: bool,
) -> Burst:
    radius = rng.uniform(*RADII[count])
    directions = _directions(rng, style, num_outer=int(rng.integers(12, 19)))
    return Burst(
        colour=colour,
        style=style,
        centre=centre,
        radius=radius,
        start=start,
        life=rng.uniform(0.85, 1.0) if count == 1 else rng.uniform(0.68, 0.85),
        rises_from=centre[0] + rng.uniform(-0.06, 0.06) if rockets else None,
        directions=directions,
        twinkle=rng.uniform(0, 2 * np.pi, len(directions)).astype(np.float32),
    )


def _directions(rng: np.random.Generator, style: str, *, num_outer: int) -> FloatArray:
    """Where sparks fly, as shares of the radius: a ring, and for a full ball a second one within."""
    shells = [(num_outer, 1.0)] if style == "ring" else [(num_outer, 1.0), (num_outer // 2, 0.55)]
    rows = []
    for count, reach in shells:
        angles = 2 * np.pi * (np.arange(count) + rng.uniform(-0.25, 0.25, count) + rng.random()) / count
        reaches = reach * rng.uniform(0.88, 1.0, count)
        rows.append(np.stack([np.cos(angles) * reaches, np.sin(angles) * reaches], axis=1))
    return np.concatenate(rows).astype(np.float32)


def _lit(image: FloatArray, burst: Burst, progress: float, size: int, *, by_day: bool) -> FloatArray:
    """The image with the burst's light of this moment."""
    age = (progress - burst.start) / burst.life
    if age >= 1 or (age < 0 and burst.rises_from is None):
        return image
    core, halo, flash = _rocket(burst, progress, size) if age < 0 else _sparks(burst, age, size)
    if by_day:
        alpha = 1 - np.exp(-1.6 * core - 0.25 * halo - flash)
        return over(image, DAY_COLOURS[burst.colour], alpha)
    colour = np.asarray(COLOURS[burst.colour], np.float32)
    # What is brightest is nearly white, as on film.
    white = 0.35 * np.maximum(core - 1.1, 0) + 0.8 * flash
    return screen(image, (1.5 * core + 0.4 * halo + flash)[..., None] * colour + white[..., None])


def _sparks(burst: Burst, age: float, size: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Sharp light, glow and flash of an open burst, each h w; age from 0 at its start to 1 when it is out."""
    longer = 2 if burst.style == "willow" else 1
    ages = np.maximum(age - longer * TRAIL_STEP * np.arange(TRAIL_LENGTH), 0)[:, None]
    far = burst.radius * (1 - np.exp(-5 * ages)) / (1 - np.exp(-5))
    fall = burst.radius * (0.9 if burst.style == "willow" else 0.45) * ages**2
    x = burst.centre[0] + far * burst.directions[:, 0]
    y = burst.centre[1] + far * burst.directions[:, 1] + fall
    fade = min(1.0, 1.9 * (1 - age)) ** 1.5
    # Sparks begin to twinkle as they burn out.
    twinkle = 1 - 0.6 * age * (0.5 + 0.5 * np.sin(burst.twinkle + 40 * age))
    weight = fade * twinkle * np.linspace(1, 0.15, TRAIL_LENGTH)[:, None]
    # Where sparks are still crowded each is dimmed, or a young burst would be one solid disc.
    crowd = (0.1 + 0.9 * far / burst.radius) ** 1.3
    core = splat(x, y, weight * crowd, sigma=CORE, size=size)
    halo = splat(x[0], y[0], fade * twinkle * crowd[0], sigma=HALO, size=size)
    flash = max(0.0, 1 - age / 0.16) * _spot(burst.centre, 0.22 * burst.radius, size)
    return core, halo, flash


def _rocket(burst: Burst, progress: float, size: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Sharp light, glow and (no) flash of the spark that climbs to where it will burst."""
    assert burst.rises_from is not None
    climbed = np.clip(1 - (burst.start - progress) / RISE - 0.025 * np.arange(TRAIL_LENGTH), 0, 1)
    seen = np.linspace(1, 0.1, TRAIL_LENGTH, dtype=np.float32) * (burst.start - progress < RISE)
    eased = 1 - (1 - climbed) ** 2
    x = burst.rises_from + (burst.centre[0] - burst.rises_from) * eased
    y = 1.0 + (burst.centre[1] - 1.0) * eased
    core = splat(x, y, seen, sigma=CORE, size=size)
    return core, 0.3 * splat(x[:1], y[:1], seen[:1], sigma=HALO, size=size), np.zeros_like(core)


def _spot(centre: tuple[float, float], sigma: float, size: int) -> FloatArray:
    x, y = np.array(centre[:1], np.float32), np.array(centre[1:], np.float32)
    return splat(x, y, np.ones(1, np.float32), sigma=sigma, size=size)
