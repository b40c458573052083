"""The judge's rules for the family `rockets`: something upright of one colour that climbs a sky on a flame."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from t2v.evaluation.pixels import RGB, FloatArray, Patch, patches
from t2v.evaluation.reading import UNKNOWN, Reading, Seen
from t2v.evaluation.shapes import COLOURS as SHAPE_COLOURS
from t2v.evaluation.skies import read_sky, row_colours

COLOURS: dict[str, RGB] = {name: rgb for name, rgb in SHAPE_COLOURS.items() if name != "black"}
MIN_CONTRAST = 0.2  # to the sky; the worlds have 0.42
MIN_STIR = 0.15  # change of a channel over the clip; stars, towers and hills have none
SMOKE = 0.8  # below this height, in shares of the frame, smoke hides what there is
MIN_AREA = 0.004  # share of the frame
MIN_PRESENCE = 0.8  # share of the frames

NOSE = 0.4  # share of the height of rocket and flame, from the top, that is free of fire
MIN_COSINE = 0.95  # between the change of a pixel and that to a colour; yellow and orange before night are 0.97 apart
MIN_VOTE = 0.45  # share of all change there that is towards the rocket's colour; the worlds have 0.6 or more
FARTHEST_COLOUR = 0.2  # of a pixel of its own from what some share of the rocket makes of the sky
MIN_UPRIGHT = 1.3  # height over width
MAX_SWAY = 0.08  # of its middle, in shares of the frame
MIN_FIRE = 0.0015  # share of the frame below the middle of rocket and flame that is fire; the least flame has 0.003
MIN_FIRED = 0.35  # share of the frames in which it is so; before and shortly after it lifts off none is seen

PAD = 0.90  # where it stands at first
TALL = 0.36  # height; the worlds leave 0.30 to 0.42 free
FEWEST_LARGE, MOST_SMALL = 0.034, 0.039  # share of the frame of its colour: in flight the same size must be seen
MIN_CLIMB = 0.25
MAX_DROP = 0.04  # between two frames; at 32 pixels one has 0.031


class Sight(NamedTuple):
    """The rocket in one frame. Lengths and areas in shares of the frame; x is NaN where no pixel is its own."""

    nose: float
    x: float
    area: float
    fire: float
    is_upright: bool


def read_rockets(clip: FloatArray) -> Reading | None:
    """Read a clip of a rocket; None where none climbs a sky on a flame. clip: f h w 3 in [0, 1]."""
    rows = row_colours(clip)
    sky = read_sky(clip, rows)
    if sky == UNKNOWN:
        return None
    found = _moving(clip, rows)
    if len(found) < MIN_PRESENCE * len(clip):
        return None
    colour = _colour(clip, rows, found)
    if colour == UNKNOWN:
        return None
    sights = [_sight(clip[frame], rows, patch, np.array(COLOURS[colour])) for frame, patch in found.items()]
    # The highest are seen whole, in whatever order the frames come.
    flying = sorted(sights, key=lambda sight: sight.nose)[: max(2, len(sights) // 2)]
    is_fired = np.mean([sight.fire > MIN_FIRE for sight in sights]) > MIN_FIRED
    is_upright = np.mean([sight.is_upright for sight in flying]) > 0.5
    if not is_fired or not is_upright or not np.ptp([sight.x for sight in flying]) < MAX_SWAY:
        return None
    noses = np.array([sight.nose for sight in sights])
    rocket = Seen("rocket", colour, _size(noses, float(np.median([sight.area for sight in flying]))), _motion(noses))
    # No place: the pad may hide all of the hills behind it.
    return Reading("rockets", 1, sky, (rocket,))


def _moving(clip: FloatArray, rows: FloatArray) -> dict[int, Patch]:
    """The largest thing that moves before the sky, by frame. rows: h 3, the sky's colours."""
    mask = np.linalg.norm(clip - rows[:, None], axis=-1) > MIN_CONTRAST
    mask &= np.ptp(clip, axis=0).max(axis=-1) > MIN_STIR
    mask[:, round(SMOKE * clip.shape[1]) :] = False
    found = patches(mask, least=MIN_AREA * clip.shape[1] * clip.shape[2])
    return {frame: here[0] for frame, here in enumerate(found) if here}


def _colour(clip: FloatArray, rows: FloatArray, found: dict[int, Patch]) -> str:
    """The colour towards which the sky is changed near the nose, however little of a pixel the rocket covers."""
    votes, all_votes = np.zeros(len(COLOURS)), 0.0
    for frame, patch in found.items():
        upper = patch.rows <= patch.rows.min() + NOSE * np.ptp(patch.rows)
        sky = rows[patch.rows[upper]]
        change = clip[frame, patch.rows[upper], patch.columns[upper]] - sky
        whole = np.array(list(COLOURS.values()), np.float32) - sky[:, None]
        strength = np.linalg.norm(change, axis=-1)
        cosines = (change[:, None] * whole).sum(axis=-1) / (strength[:, None] * np.linalg.norm(whole, axis=-1) + 1e-6)
        sure = cosines.max(axis=1) > MIN_COSINE
        votes += np.bincount(cosines.argmax(axis=1)[sure], weights=strength[sure], minlength=len(COLOURS))
        all_votes += float(strength.sum())
    return list(COLOURS)[int(votes.argmax())] if votes.max() > MIN_VOTE * all_votes else UNKNOWN


def _sight(frame: FloatArray, rows: FloatArray, patch: Patch, rgb: FloatArray) -> Sight:
    """Measure the patch of a rocket of this colour and its flame. frame: h w 3; rows: h 3, the sky's colours."""
    height, width = frame.shape[:2]
    sky, pixels = rows[patch.rows], frame[patch.rows, patch.columns]
    share = ((pixels - sky) * (rgb - sky)).sum(axis=-1) / ((rgb - sky) ** 2).sum(axis=-1)
    rest = pixels - sky - np.minimum(share, 1)[:, None] * (rgb - sky)
    own = (share > 0.5) & (np.linalg.norm(rest, axis=-1) < FARTHEST_COLOUR)
    own_rows, own_columns = patch.rows[own], patch.columns[own]
    red, green, blue = pixels.T
    is_low = patch.rows > patch.rows.min() + np.ptp(patch.rows) / 2
    fire = is_low & (red > 0.8) & (green > 0.42 * red) & (blue < red - 0.2)
    return Sight(
        nose=patch.rows.min() / height,
        x=own_columns.mean() / width if own.any() else np.nan,
        area=own.sum() / (height * width),
        fire=fire.sum() / (height * width),
        is_upright=own.any() and np.ptp(own_rows) + 1 > MIN_UPRIGHT * (np.ptp(own_columns) + 1),
    )


def _size(noses: NDArray[np.float64], area: float) -> str:
    """Small or large, from how high the nose stands at first and how much is seen in flight: both must say so."""
    if PAD - noses[0] > TALL:
        return "large" if area > FEWEST_LARGE else UNKNOWN
    return "small" if area < MOST_SMALL else UNKNOWN


def _motion(noses: NDArray[np.float64]) -> str:
    is_climb = noses[0] - noses[-1] > MIN_CLIMB and np.diff(noses).max() < MAX_DROP
    return "up" if is_climb else UNKNOWN
