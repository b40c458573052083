"""The judge's rules for the family `shapes`: plain shapes on a plain ground, each with a motion of its own.

A shape is known by its holomorphic moments c_n, the integrals of alpha * (x + iy)^n around its middle: of the four
only a triangle has c_3, only a square c_4, only a star c_5, and a circle has none of them, while c_2 vanishes for all.
As x + iy to any power is harmonic, no round blur changes them; and their phase tells how far the shape is turned
(Flusser, Suk and Zitova 2009, Moments and Moment Invariants in Pattern Recognition, chapter 2).
"""

from itertools import permutations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from t2v.evaluation.pixels import RGB, FloatArray, Patch, nearest_name, patches
from t2v.evaluation.reading import UNKNOWN, Reading, Seen, nothing
from t2v.evaluation.skies import OPEN_SKY
from t2v.evaluation.tracks import IN_PLACE, Track, motion_of

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
FARTHEST_COLOUR = 0.22  # names of colours are 0.33 apart or more
FARTHEST_GROUND = 0.11  # of the grounds white and cream are nearest, 0.2 apart; weighted for brightness 0.13

GROUND_NOISE = 0.12  # farther from the ground a pixel is no longer ground
MIN_GROUND_SHARE = 0.56  # of all pixels; the largest shapes leave 0.62
MAX_SLOPE = 0.025  # of a channel, between the upper and the lower third of what may be sky; the palest night has 0.045
MIN_CONTRAST = 0.2  # halfway to the palest shape there is
MIN_AREA = 0.009  # share of the frame; a star of a sixth of the width covers more
MAX_SUBJECTS = 4
MIN_PRESENCE = 0.2  # share of the frames in which as many subjects must be seen at once

EDGE = 2  # pixels around a patch in which its soft edge lies
FOLDS = (2, 3, 4, 5)
LEAST_COLOUR = 1e-6  # squared; opposite colours cancel out
LEAST_AREA = 1e-6  # pixels; of a mess of colours one may take away as much as another adds, or more
MIN_SYMMETRY, MAX_SYMMETRY = 0.6, 1.6  # a shape's own moment, where 1 is as it should be; coarse pixels make it larger
MAX_LOPSIDED = 0.03  # c_2 of area 1; an ellipse of 1.2 to 1 has 0.03
MAX_SPREAD = 0.025  # second moment beyond that of the shape
EDGE_SPREAD, BLUR_SPREAD = 1 / 6, 0.6  # what soft edges add to the second moment, and a slight blur may; pixels squared
SMALL, LARGE = 0.265, 0.36  # the worlds leave 0.25 to 0.28 and 0.34 to 0.38 free


class Outline(NamedTuple):
    """What tells one shape from another.

    fold: of its symmetry, 0 for a circle; area: at a nominal width of 1
    moment, spread: c_fold and second moment at an area of 1
    slack: how much of the others' moments is forgiven, as shares of theirs; pointed shapes reach far into the noise
    """

    fold: int
    moment: float
    area: float
    spread: float
    slack: float


# Pointed shapes are a little wider than they are called, as in the worlds, and the arms of a star are plump.
OUTLINES = {
    "circle": Outline(0, 0.0, np.pi / 4, 1 / (2 * np.pi), 0.4),
    "square": Outline(4, 1 / 60, 1.0, 1 / 6, 0.4),
    "triangle": Outline(3, 0.0675, 0.477, 0.1925, 0.8),
    "star": Outline(5, 0.0273, 0.516, 0.1912, 0.8),
}


class Sight(NamedTuple):
    """One patch in one frame. Places in units of the frame, area as a share of it.

    moments: c_2 to c_5 at an area of 1, complex
    spread: second moment at an area of 1, less what soft edges add
    blur: what a slight blur may have added to it
    """

    x: float
    y: float
    rgb: FloatArray
    area: float
    moments: FloatArray
    spread: float
    blur: float


def read_shapes(clip: FloatArray) -> Reading | None:
    """Read a clip of plain shapes; None where the ground is not plain. clip: f h w 3 in [0, 1]."""
    ground = plain_ground(clip)
    if ground is None:
        return None
    backdrop = nearest_name(ground, GROUNDS, farthest=FARTHEST_GROUND, light=0.5)
    size = clip.shape[1] * clip.shape[2]
    contrast = np.linalg.norm(clip - ground, axis=-1)
    found = [frame[:MAX_SUBJECTS] for frame in patches(contrast > MIN_CONTRAST, least=MIN_AREA * size)]
    sights = [
        [_sight(frame, ground, patch, [other for other in here if other is not patch]) for patch in here]
        for frame, here in zip(clip, found, strict=True)
    ]
    tracks = _tracks(sights)
    if not tracks:
        return nothing(backdrop)
    return Reading("shapes", len(tracks), backdrop, tuple(_seen(track) for track in tracks))


def plain_ground(clip: FloatArray) -> FloatArray | None:
    """The colour that most of a clip has, or None where none is or where it fades as skies do. clip: f h w 3."""
    ground: FloatArray = np.median(clip.reshape(-1, 3), axis=0)
    is_ground = np.linalg.norm(clip - ground, axis=-1) < GROUND_NOISE
    if is_ground.mean() < MIN_GROUND_SHARE:
        return None
    height = round(OPEN_SKY * clip.shape[1])
    third = height // 3
    upper, lower = (clip[:, rows][is_ground[:, rows]] for rows in (slice(third), slice(height - third, height)))
    if not len(upper) or not len(lower) or np.abs(upper.mean(axis=0) - lower.mean(axis=0)).max() > MAX_SLOPE:
        return None
    return ground


def _sight(frame: FloatArray, ground: FloatArray, patch: Patch, others: list[Patch]) -> Sight:
    """Measure a patch with its soft edge. frame: h w 3."""
    height, width = frame.shape[:2]
    colours = frame[patch.rows, patch.columns] - ground
    strength = np.linalg.norm(colours, axis=1)
    # The middle of a shape has its colour; its edge is mixed with the ground.
    colour = colours[strength >= 0.85 * np.quantile(strength, 0.9)].mean(axis=0)
    top, left = max(0, patch.rows.min() - EDGE), max(0, patch.columns.min() - EDGE)
    bottom, right = patch.rows.max() + EDGE + 1, patch.columns.max() + EDGE + 1
    alpha = (frame[top:bottom, left:right] - ground) @ (colour / max(float(colour @ colour), LEAST_COLOUR))
    if others:
        alpha[_near(others, frame.shape[:2], but=patch)[top:bottom, left:right]] = 0
    y, x = np.mgrid[top : top + alpha.shape[0], left : left + alpha.shape[1]] + 0.5
    area = max(float(alpha.sum()), LEAST_AREA)
    middle_x, middle_y = (alpha * x).sum() / area, (alpha * y).sum() / area
    z = (x - middle_x) + 1j * (y - middle_y)
    # Far from the shape there is only noise, which high powers would make loud.
    reach = np.hypot(patch.columns + 0.5 - middle_x, patch.rows + 0.5 - middle_y).max() + 1
    alpha = np.where(np.abs(z) <= reach, alpha, 0)
    area = max(float(alpha.sum()), LEAST_AREA)
    moments = np.array([(alpha * z**fold).sum() / area ** (fold / 2 + 1) for fold in FOLDS])
    spread = (alpha * np.abs(z) ** 2).sum() / area**2 - EDGE_SPREAD / area
    return Sight(
        middle_x / width,
        middle_y / height,
        ground + colour,
        area / (width * height),
        moments,
        spread,
        BLUR_SPREAD / area,
    )


def _near(others: list[Patch], shape: tuple[int, ...], *, but: Patch) -> NDArray[np.bool_]:
    """Pixels of other patches and those beside them, but none of this patch. Shape: h w."""
    taken = np.zeros((shape[0] + 2, shape[1] + 2), bool)
    for other in others:
        for down in range(3):
            for across in range(3):
                taken[other.rows + down, other.columns + across] = True
    taken = taken[1:-1, 1:-1]
    taken[but.rows, but.columns] = False
    return taken


def _tracks(sights: list[list[Sight]]) -> list[list[Sight | None]]:
    """Follow each subject through the frames; None where it is not seen."""
    counts = sorted((len(here) for here in sights), reverse=True)
    # A patch that is there for a moment is no subject.
    number = counts[max(2, round(MIN_PRESENCE * len(sights))) - 1]
    if number == 0:
        return []
    if number == 1 and (by_turns := _by_turns(sights)):
        return by_turns
    start = next(frame for frame, here in enumerate(sights) if len(here) == number)
    tracks: list[list[Sight | None]] = [[None] * len(sights) for _ in range(number)]
    for frames in (range(start, len(sights)), range(start, -1, -1)):
        last = list(sights[start])
        for frame in frames:
            for track, sight in _assigned(last, sights[frame]):
                tracks[track][frame] = last[track] = sight
    return tracks


def _by_turns(sights: list[list[Sight]]) -> list[list[Sight | None]]:
    """The tracks of two that blink and happen never to be seen at once; empty where it is one that moves."""
    seen = [here[0] for here in sights if here]
    is_first = [_is_same(seen[0], one) for one in seen]
    others = [one for one, first in zip(seen, is_first, strict=True) if not first]
    if sum(is_first) < 2 or len(others) < 2 or not all(_is_same(others[0], one) for one in others):
        return []
    # What is seen by turns in two places above each other bounces.
    if abs(seen[0].x - others[0].x) < IN_PLACE and np.linalg.norm(seen[0].rgb - others[0].rgb) < FARTHEST_COLOUR:
        return []
    firsts = [here[0] if here and _is_same(seen[0], here[0]) else None for here in sights]
    seconds = [here[0] if here and _is_same(others[0], here[0]) else None for here in sights]
    return [firsts, seconds]


def _is_same(one: Sight, other: Sight) -> bool:
    """Whether both are one thing that has not moved."""
    return (
        _apart(one, other) < IN_PLACE**2 + FARTHEST_COLOUR**2 / 4
        and max(abs(one.x - other.x), abs(one.y - other.y)) < IN_PLACE
    )


def _assigned(last: list[Sight], here: list[Sight]) -> list[tuple[int, Sight]]:
    """Which of the patches of a frame belongs to which track: those nearest in place and colour to where it was."""
    if len(here) > len(last):
        orders = [list(enumerate(order)) for order in permutations(here, len(last))]
    else:
        orders = [list(zip(order, here, strict=True)) for order in permutations(range(len(last)), len(here))]
    return min(orders, key=lambda order: sum(_apart(last[track], sight) for track, sight in order))


def _apart(one: Sight, other: Sight) -> float:
    return (one.x - other.x) ** 2 + (one.y - other.y) ** 2 + float(((one.rgb - other.rgb) ** 2).sum())


def _seen(track: list[Sight | None]) -> Seen:
    sights = [sight for sight in track if sight is not None]
    colour = nearest_name(np.median([sight.rgb for sight in sights], axis=0), COLOURS, farthest=FARTHEST_COLOUR)
    shape = _shape(sights)
    motion = motion_of(_path(track, OUTLINES[shape].fold if shape in OUTLINES else 0))
    if shape not in OUTLINES:
        return Seen(shape, colour, UNKNOWN, motion)
    width = np.sqrt(np.median([sight.area for sight in sights]) / OUTLINES[shape].area)
    size = "changing" if motion in ("grow", "shrink") else _size(width)
    return Seen(shape, colour, size, motion)


def _shape(sights: list[Sight]) -> str:
    """The shape whose moments these are, or "unknown" where they are not nearly those of any."""
    strength = np.median([np.abs(sight.moments) for sight in sights], axis=0)
    spread = np.median([sight.spread for sight in sights])
    blur = np.median([sight.blur for sight in sights])
    whole = {outline.fold: outline.moment for outline in OUTLINES.values()}
    seen = {fold: value / whole[fold] for fold, value in zip(FOLDS[1:], strength[1:], strict=True)}
    for name, outline in OUTLINES.items():
        is_own = not outline.fold or MIN_SYMMETRY < seen[outline.fold] < MAX_SYMMETRY
        is_no_other = all(value < outline.slack for fold, value in seen.items() if fold != outline.fold)
        is_as_wide = -MAX_SPREAD < spread - outline.spread < MAX_SPREAD + blur
        if is_own and is_no_other and is_as_wide and strength[0] < MAX_LOPSIDED:
            return name
    return UNKNOWN


def _size(width: float) -> str:
    return "small" if width < SMALL else "large" if width > LARGE else "medium"


def _path(track: list[Sight | None], fold: int) -> Track:
    """What the rules of motion look at. fold: of the shape's symmetry, 0 where no turn can be seen."""
    gone = Sight(np.nan, np.nan, np.full(3, np.nan), np.nan, np.full(len(FOLDS), np.nan), np.nan, np.nan)
    sights = [sight or gone for sight in track]
    turns = None
    if fold:
        turns = np.array([np.angle(sight.moments[FOLDS.index(fold)]) for sight in sights])
    return Track(
        x=np.array([sight.x for sight in sights]),
        y=np.array([sight.y for sight in sights]),
        width=np.sqrt([sight.area for sight in sights]),
        phase=turns,
        fold=fold,
    )
