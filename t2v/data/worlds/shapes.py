"""The family `shapes`: one or two plain shapes on a plain ground, each with a motion of its own."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from t2v.data.worlds.canvas import RGB, Clock, FloatArray, coverage, over, pixel_centres, polygon_distance, to_uint8
from t2v.data.worlds.grammar import chance, pick

COLOURS: dict[str, RGB] = {
    "red": (0.90, 0.12, 0.13),
    "green": (0.10, 0.68, 0.20),
    "blue": (0.13, 0.33, 0.95),
    "yellow": (0.98, 0.84, 0.08),
    "orange": (0.98, 0.51, 0.06),
    "purple": (0.55, 0.12, 0.78),
    "white": (0.97, 0.97, 0.97),
    "black": (0.04, 0.04, 0.04),
}
GROUNDS: dict[str, RGB] = {
    "black": (0.03, 0.03, 0.03),
    "white": (0.97, 0.97, 0.97),
    "grey": (0.50, 0.50, 0.50),
    "dark blue": (0.05, 0.08, 0.26),
    "cream": (0.96, 0.91, 0.78),
}
SHAPES = ("circle", "square", "triangle", "star")
MOTIONS = ("left", "right", "up", "down", "grow", "shrink", "spin", "bounce", "blink")
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1), "bounce": (0, -1)}

MIN_CONTRAST = 0.42  # RGB distance (of 1.73 between black and white) below which a shape is lost on its ground
MARGIN = 0.015  # free space between a shape and the edge of its lane
MIN_TRAVEL = 0.28  # shorter ways are hard to tell from standing still at 32 pixels
# Widths as shares of the frame, never under 1/6. Nobody calls what lies between small and large by its size.
SIZES_ALONE = {"small": (0.21, 0.25), "medium": (0.28, 0.34), "large": (0.40, 0.54)}
SIZES_IN_PAIR = {"small": (0.21, 0.25), "medium": (0.28, 0.34), "large": (0.38, 0.42)}
SMALL_END = (0.21, 0.25)
LARGE_END_ALONE, LARGE_END_IN_PAIR = (0.46, 0.58), (0.36, 0.385)
PAIR_PROB, TWIN_PROB = 0.3, 0.25


class Lane(NamedTuple):
    """The part of the frame that one shape keeps to, so that two never overlap."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class Subject:
    """One shape and all that it does. Widths and places in units of the frame."""

    shape: str
    colour: str
    motion: str
    size: str  # small, medium, large, or changing
    rgb: RGB
    widths: tuple[float, float]
    start: tuple[float, float]
    end: tuple[float, float]
    turns_per_s: float
    period_s: float
    phase: float


@dataclass(frozen=True)
class Scene:
    """A ground and what is on it; of twins both are the same but for their place."""

    ground: str
    ground_rgb: RGB
    subjects: tuple[Subject, ...]
    twins: bool


def plan(rng: np.random.Generator) -> Scene:
    """Choose a scene; nothing in it depends on size, frames or rate."""
    ground = pick(rng, tuple(GROUNDS))
    if not chance(rng, PAIR_PROB):
        colour = pick(rng, colours_on(ground))
        subject = _subject(rng, _kind(rng), colour, Lane(0, 0, 1, 1), alone=True)
        return Scene(ground, tint(rng, GROUNDS[ground]), (subject,), twins=False)
    twins = chance(rng, TWIN_PROB)
    first = _kind(rng)
    second = first if twins else _kind(rng)
    colours = [str(name) for name in rng.permutation(colours_on(ground))[:2]]
    if twins:
        colours[1] = colours[0]
    lanes = _lanes(rng, first[1], second[1])
    one = _subject(rng, first, colours[0], lanes[0], alone=False)
    two = _subject(rng, second, colours[1], lanes[1], alone=False, size=one.size if twins else None)
    return Scene(ground, tint(rng, GROUNDS[ground]), (one, two), twins)


def facts(scene: Scene) -> dict[str, Any]:
    """What is true of the clip, for tests and for a judge."""
    return {
        "number": len(scene.subjects),
        "backdrop": scene.ground,
        "subjects": tuple(
            {"subject": s.shape, "colour": s.colour, "size": s.size, "motion": s.motion} for s in scene.subjects
        ),
    }


def draw(scene: Scene, clock: Clock, size: int) -> NDArray[np.uint8]:
    """Shape: f h w 3."""
    ground = np.broadcast_to(np.asarray(scene.ground_rgb, np.float32), (size, size, 3))
    frames = []
    for frame in range(clock.num_frames):
        image = ground
        for subject in scene.subjects:
            image = over(image, subject.rgb, _mask(subject, clock, frame, size))
        frames.append(to_uint8(image))
    return np.stack(frames)


def colours_on(ground: str) -> tuple[str, ...]:
    """Colours that stand out from a ground."""
    return tuple(
        name for name, rgb in COLOURS.items() if np.linalg.norm(np.subtract(rgb, GROUNDS[ground])) >= MIN_CONTRAST
    )


def tint(rng: np.random.Generator, rgb: RGB) -> RGB:
    """A colour a little lighter or darker than its name says, and a trace off in hue."""
    shift = rng.uniform(-0.02, 0.02) + rng.uniform(-0.01, 0.01, 3)
    red, green, blue = np.clip(np.asarray(rgb) + shift, 0, 1)
    return float(red), float(green), float(blue)


def _kind(rng: np.random.Generator) -> tuple[str, str]:
    """A shape and a motion; a spinning circle would look like one that stands still."""
    shape = pick(rng, SHAPES)
    return shape, pick(rng, [motion for motion in MOTIONS if (shape, motion) != ("circle", "spin")])


def _lanes(rng: np.random.Generator, first: str, second: str) -> list[Lane]:
    """Split the frame so that each of two motions has its way free."""
    axes = [_axis(first), _axis(second)]
    if set(axes) == {"across", "upright"}:
        # The upright mover needs the taller lane.
        share = 0.38 if axes[0] == "across" else 0.62
        top_first = chance(rng, 0.5)
        cut = share if top_first else 1 - share
        lanes = [Lane(0, 0, 1, cut), Lane(0, cut, 1, 1)]
        return lanes if top_first else lanes[::-1]
    stacked = "across" in axes or ("upright" not in axes and chance(rng, 0.5))
    lanes = [Lane(0, 0, 1, 0.5), Lane(0, 0.5, 1, 1)] if stacked else [Lane(0, 0, 0.5, 1), Lane(0.5, 0, 1, 1)]
    return lanes if chance(rng, 0.5) else lanes[::-1]


def _axis(motion: str) -> str:
    step = DIRECTIONS.get(motion)
    return "still" if step is None else "across" if step[0] else "upright"


def _subject(
    rng: np.random.Generator,
    kind: tuple[str, str],
    colour: str,
    lane: Lane,
    *,
    alone: bool,
    size: str | None = None,
) -> Subject:
    shape, motion = kind
    reach = _reach(shape, spins=motion == "spin")
    if motion in ("grow", "shrink"):
        size = "changing"
        ends = rng.uniform(*SMALL_END), rng.uniform(*(LARGE_END_ALONE if alone else LARGE_END_IN_PAIR))
        widths = ends if motion == "grow" else ends[::-1]
    else:
        sizes = SIZES_ALONE if alone else SIZES_IN_PAIR
        size = size or pick(rng, [name for name in sizes if _fits(sizes[name][1] * reach, lane, motion)])
        widths = (rng.uniform(*sizes[size]),) * 2
    start, end = _way(rng, motion, lane, max(widths) * reach)
    return Subject(
        shape=shape,
        colour=colour,
        motion=motion,
        size=size,
        rgb=tint(rng, COLOURS[colour]),
        widths=widths,
        start=start,
        end=end,
        turns_per_s=rng.uniform(0.35, 0.6) * (1 if chance(rng, 0.5) else -1) if motion == "spin" else 0.0,
        period_s=rng.uniform(0.5, 0.7),
        phase=rng.random(),
    )


def _reach(shape: str, *, spins: bool) -> float:
    """Farthest point of a shape of width 1 from its middle, over all it does."""
    if shape == "circle" or (shape == "square" and not spins):
        return 0.5
    return float(np.linalg.norm(_vertices(shape), axis=1).max())


def _fits(reach: float, lane: Lane, motion: str) -> bool:
    step = DIRECTIONS.get(motion, (0, 0))
    wide = lane.right - lane.left - MIN_TRAVEL * abs(step[0])
    high = lane.bottom - lane.top - MIN_TRAVEL * abs(step[1])
    return 2 * (reach + MARGIN) <= min(wide, high)


def _way(
    rng: np.random.Generator, motion: str, lane: Lane, reach: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where the middle of a shape starts and ends: the same place unless it travels."""
    edge = reach + MARGIN
    step = DIRECTIONS.get(motion, (0, 0))
    from_x, to_x = _span(rng, lane.left + edge, lane.right - edge, step[0])
    from_y, to_y = _span(rng, lane.top + edge, lane.bottom - edge, step[1])
    return (from_x, from_y), (to_x, to_y)


def _span(rng: np.random.Generator, low: float, high: float, direction: int) -> tuple[float, float]:
    """Start and end along one axis; a traveller uses nearly all the room there is, and never under MIN_TRAVEL."""
    if direction == 0:
        place = rng.uniform(low, high)
        return place, place
    spare = min(0.2 * (high - low), high - low - MIN_TRAVEL)
    trims = rng.uniform(0, spare / 2, 2)
    ends = low + trims[0], high - trims[1]
    return ends if direction > 0 else ends[::-1]


def _mask(subject: Subject, clock: Clock, frame: int, size: int) -> FloatArray:
    """Share of each pixel that the shape covers. Shape: h w."""
    if subject.motion == "blink" and _cycle(subject, clock, frame) > 0.6:
        return np.zeros((size, size), np.float32)
    progress = clock.progress(frame)
    width = subject.widths[0] + (subject.widths[1] - subject.widths[0]) * progress
    if subject.motion == "bounce":
        flight = _cycle(subject, clock, frame)
        progress = 4 * flight * (1 - flight)  # a ball's parabola from the floor and back
    x = subject.start[0] + (subject.end[0] - subject.start[0]) * progress
    y = subject.start[1] + (subject.end[1] - subject.start[1]) * progress
    grid = pixel_centres(size)
    off_x, off_y = (grid - x)[None, :], (grid - y)[:, None]
    if subject.shape == "circle":
        return coverage(np.hypot(off_x, off_y) - width / 2, size)
    angle = 2 * np.pi * _turns(subject, clock, frame)
    return coverage(polygon_distance(_rotated(width * _vertices(subject.shape), angle), off_x, off_y), size)


def _cycle(subject: Subject, clock: Clock, frame: int) -> float:
    """Place within a bounce or a blink, from 0 to 1."""
    done = clock.cycles(frame, rate=1 / subject.period_s, least=1.5, most_per_frame=0.25)
    return (done + subject.phase) % 1


def _turns(subject: Subject, clock: Clock, frame: int) -> float:
    if subject.motion != "spin":
        return 0.0
    # A star looks the same after a fifth of a turn: over a tenth between frames it would seem to turn back.
    turns = clock.cycles(frame, rate=abs(subject.turns_per_s), least=0.25, most_per_frame=1 / 12)
    return float(np.copysign(turns, subject.turns_per_s))


def _vertices(shape: str) -> FloatArray:
    """Corners of a shape of nominal width 1 around its middle. Shape: m 2.

    Pointed shapes are drawn a little wider, or they would look smaller than a square of the same size.
    """
    if shape == "square":
        return _ring(4, np.sqrt(0.5), first=-0.75 * np.pi)
    if shape == "triangle":
        return _ring(3, 1.05 / np.sqrt(3), first=-0.5 * np.pi)
    points = _ring(10, 1.15 * 0.5 / np.cos(np.pi / 10), first=-0.5 * np.pi)
    points[1::2] *= 0.48  # plumper than a pentagram, so that its arms last at 32 pixels
    return points


def _ring(count: int, radius: float, *, first: float) -> FloatArray:
    angles = first + 2 * np.pi * np.arange(count) / count
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _rotated(vertices: FloatArray, angle: float) -> FloatArray:
    cos, sin = np.cos(angle), np.sin(angle)
    rotated: FloatArray = vertices @ np.array([[cos, sin], [-sin, cos]])
    return rotated
