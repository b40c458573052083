"""The judge's rules for the family `fireworks`: bursts of light before a sky.

A burst is known by its birth: light that is strong, in one place and new, and that opens from there a moment later. The
rocket that climbs before it leaves nothing below.
"""

from typing import NamedTuple

import numpy as np

from t2v.evaluation.pixels import RGB, FloatArray
from t2v.evaluation.places import read_place
from t2v.evaluation.reading import UNKNOWN, Reading, Seen
from t2v.evaluation.skies import OPEN_SKY, emptiest, read_sky, row_colours

# Of light in the dark, and of what hides a bright sky.
COLOURS: dict[str, RGB] = {
    "red": (1.00, 0.10, 0.10),
    "green": (0.12, 0.95, 0.22),
    "blue": (0.15, 0.38, 1.00),
    "purple": (0.72, 0.16, 1.00),
    "gold": (1.00, 0.72, 0.14),
    "white": (0.95, 0.95, 1.00),
}
DAY_COLOURS: dict[str, RGB] = {
    "red": (0.88, 0.05, 0.08),
    "green": (0.02, 0.52, 0.12),
    "purple": (0.50, 0.05, 0.70),
    "gold": (1.00, 0.75, 0.00),
    "white": (1.00, 1.00, 1.00),
}
CELLS = 32  # of the grid on which bursts are looked for, whatever the size of the clip
SMOOTHING = 0.05  # of the frame, over which light is gathered
MIN_LIGHT = 0.15  # gathered, in RGB distance from the sky: of a burst in the palest colour by day
MIN_BIRTH = 0.25  # new light, as a share of the strongest in the clip
MIN_FLASH = 0.47  # the same, of the strongest within FLASH_REACH cells: a burst is never brighter than when it opens
FLASH_REACH = 5
APART = 4  # cells within which only the strongest birth counts
VALLEY = 0.85  # two births at once are one where the light between them is nowhere under this share of the weaker
MIN_BELOW = 5.0  # light found below a birth when it has opened, in cells as bright as the birth
BELOW = (0.02, 0.2)  # how far below, and half as wide, in shares of the frame
MOMENT = 0.11  # of the clip, in which a burst opens
MAX_REACH = 0.22  # radius around a birth in which its colour is looked for, unless another birth is near
MIN_SPARK = 0.12  # light of a pixel that has a say in the colour
MIN_COSINE = 0.93  # between the light of a pixel and a colour; colours are 0.89 apart or less
MIN_VOTE = 0.4
BEHIND = 20  # percentile over time, in the emptiest frames, that shows what stands behind the sparks


class Birth(NamedTuple):
    """Where and when a burst opens. row, column: cells."""

    row: int
    column: int
    frame: int


def read_fireworks(clip: FloatArray) -> Reading | None:
    """Read a clip of fireworks; None where there is no sky or nothing bursts. clip: f h w 3 in [0, 1]."""
    rows = row_colours(clip)
    sky = read_sky(clip, rows)
    if sky == UNKNOWN:
        return None
    births = _births(_gathered(np.linalg.norm(clip - rows[:, None], axis=-1)))
    if not births:
        return None
    colours = [_colour(clip, rows, birth, _reach(birth, births), by_day=sky == "day") for birth in births]
    bursts = tuple(Seen("fireworks", name, "changing", "burst") for name in colours)
    behind = np.percentile(clip[emptiest(clip)], BEHIND, axis=0)
    return Reading("fireworks", len(births), sky, bursts, {"place": read_place(behind, sky)})


def _gathered(light: FloatArray) -> FloatArray:
    """Moving light, gathered on the grid. light: f h w. Result: f CELLS CELLS."""
    moving = light - light.min(axis=0)  # stars, windows and hills stay
    down, across = (_gather_rows(length) for length in moving.shape[1:])
    gathered: FloatArray = down @ moving @ across.T
    return gathered


def _gather_rows(length: int) -> FloatArray:
    centres = (np.arange(CELLS)[:, None] + 0.5) / CELLS
    weights = np.exp(-0.5 * (((np.arange(length) + 0.5) / length - centres) / SMOOTHING) ** 2)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _births(light: FloatArray) -> list[Birth]:
    """Where bursts open, the strongest first. light: f CELLS CELLS."""
    strongest = light.max()
    if strongest < MIN_LIGHT:
        return []
    new, moment = light.copy(), _moment(light)
    # Sparks that fly on are not new: they were beside here a moment ago.
    new[moment:] -= np.maximum.accumulate(_highest_within(light, 1), axis=0)[:-moment]
    most, when = new.max(axis=0), new.argmax(axis=0)
    peaks = (most >= _highest_within(most, APART)) & (most > MIN_BIRTH * strongest)
    peaks &= most > MIN_FLASH * _highest_within(light.max(axis=0), FLASH_REACH)
    peaks[round(OPEN_SKY * CELLS) :] = False  # where water would mirror them
    found: list[Birth] = []
    for row, column in sorted(np.argwhere(peaks).tolist(), key=lambda cell: -most[tuple(cell)]):
        birth = Birth(row, column, int(when[row, column]))
        if _opens(light, birth) and not any(_are_one(light, birth, other) for other in found):
            found.append(birth)
    return found


def _moment(clip: FloatArray) -> int:
    """Frames that a burst takes to open."""
    return max(1, round(MOMENT * (len(clip) - 1)))


def _highest_within(light: FloatArray, cells: int) -> FloatArray:
    """The highest value within so many cells of each. light: ... CELLS CELLS."""
    margin = [(0, 0)] * (light.ndim - 2) + [(cells, cells)] * 2
    padded = np.pad(light, margin)
    around = range(-cells, cells + 1)
    reach = cells**2 + 1
    highest = light
    for down, across in ((down, across) for down in around for across in around if down**2 + across**2 <= reach):
        shifted = padded[..., cells + down : cells + down + CELLS, cells + across : cells + across + CELLS]
        highest = np.maximum(highest, shifted)
    return highest


def _opens(light: FloatArray, birth: Birth) -> bool:
    """Whether light appears below a birth in the two moments after it."""
    moment = _moment(light)
    near, far = (round(distance * CELLS) for distance in BELOW)
    left = max(0, birth.column - far)
    below = light[:, birth.row + 1 + near : birth.row + 1 + far, left : birth.column + far + 1].sum(axis=(1, 2))
    after = below[birth.frame + 1 : birth.frame + 2 * moment + 1]
    before = below[max(0, birth.frame - moment)]
    return bool(len(after) and after.max() - before > MIN_BELOW * light[birth.frame, birth.row, birth.column])


def _are_one(light: FloatArray, birth: Birth, other: Birth) -> bool:
    """Whether two peaks of new light are parts of one burst."""
    if abs(birth.frame - other.frame) > _moment(light):
        return False
    rows = np.linspace(birth.row, other.row, 12).round().astype(int)
    columns = np.linspace(birth.column, other.column, 12).round().astype(int)
    between = light[max(birth.frame, other.frame), rows, columns].min()
    return bool(between >= VALLEY * min(light[one.frame, one.row, one.column] for one in (birth, other)))


def _reach(birth: Birth, births: list[Birth]) -> float:
    """Half the way to the next birth, in shares of the frame: light within it is this burst's own."""
    ways = [np.hypot(birth.row - other.row, birth.column - other.column) for other in births if other is not birth]
    return float(min([MAX_REACH, *(way / 2 / CELLS for way in ways)]))


def _colour(clip: FloatArray, rows: FloatArray, birth: Birth, reach: float, *, by_day: bool) -> str:
    """The colour that most light near a birth has just after it; its first flash is white whatever its colour."""
    num_frames, height, width = clip.shape[:3]
    frames = slice(min(birth.frame + 1, num_frames - 1), birth.frame + 2 * _moment(clip) + 1)
    y, x = (np.arange(height)[:, None] + 0.5) / height, (np.arange(width) + 0.5) / width
    middle_y, middle_x = (birth.row + 0.5) / CELLS, (birth.column + 0.5) / CELLS
    near = np.hypot(y - middle_y, x - middle_x) < reach
    sky = np.broadcast_to(rows[:, None], clip.shape[1:])[near]
    pixels = clip[frames, near]
    if by_day:
        light = pixels - sky
        table = {name: np.array(rgb) - sky.mean(axis=0) for name, rgb in DAY_COLOURS.items()}
    else:
        # Light is added on film without ever passing white.
        light = -np.log((1 - np.minimum(pixels, 0.98)) / (1 - np.minimum(sky, 0.98)))
        table = {name: np.array(rgb) for name, rgb in COLOURS.items()}
    names = list(table)
    directions = np.stack([vector / np.linalg.norm(vector) for vector in table.values()])
    strength = np.linalg.norm(light, axis=-1)
    cosines = (light @ directions.T) / (strength[..., None] + 1e-6)
    best = cosines.argmax(axis=-1)
    sure = (cosines.max(axis=-1) > MIN_COSINE) & (strength > MIN_SPARK)
    votes = np.bincount(best[sure], weights=strength[sure], minlength=len(names))
    all_votes = strength[strength > MIN_SPARK].sum()
    return names[int(votes.argmax())] if votes.max() > MIN_VOTE * all_votes and all_votes else UNKNOWN
