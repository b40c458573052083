"""The skies that the judge knows: night, dusk and day, read from what stays the same along each row."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from t2v.evaluation.pixels import RGB, FloatArray
from t2v.evaluation.reading import UNKNOWN

# Colours at the top of the frame and at its foot.
SKIES: dict[str, tuple[RGB, RGB]] = {
    "night": ((0.01, 0.01, 0.05), (0.06, 0.06, 0.18)),
    "dusk": ((0.13, 0.09, 0.30), (0.68, 0.32, 0.20)),
    "day": ((0.33, 0.60, 0.95), (0.74, 0.88, 1.00)),
}
OPEN_SKY = 0.7  # share of the frame, from the top, that nothing on the ground hides
FARTHEST_SKY = 0.25  # mean difference in colour; the worlds' own skies are up to 0.2 lighter or darker than this table
MIN_SLOPE = 0.4  # of the way from the top's colour to the foot's that the sky of that name goes; a plain ground has 0
MIN_SURENESS = 0.6  # the nearest sky is nearer than this share of the distance to the second
SKY_NOISE = 0.12  # a pixel farther from its row than this is not sky
MIN_SKY_SHARE = 0.4
EMPTY_SHARE = 0.34  # of the frames, those with the emptiest skies show the colours of the sky


def row_colours(clip: FloatArray) -> FloatArray:
    """The commonest colour of each row in the frames in which least stands out from it: a sky. Shape: h 3."""
    colours: FloatArray = np.median(np.median(clip[emptiest(clip)], axis=2), axis=0)
    return colours


def emptiest(clip: FloatArray) -> NDArray[np.intp]:
    """The frames in which least stands out from its row. clip: f h w 3."""
    rows = np.median(clip, axis=2, keepdims=True)
    height = round(OPEN_SKY * clip.shape[1])
    unrest = np.abs(clip - rows)[:, :height].mean(axis=(1, 2, 3))
    return np.argsort(unrest)[: max(2, round(EMPTY_SHARE * len(clip)))]


def read_sky(
    clip: FloatArray,
    rows: FloatArray,
    *,
    skies: Mapping[str, tuple[RGB, RGB]] = SKIES,
    open_sky: float = OPEN_SKY,
) -> str:
    """The name of the sky, or "unknown" where its rows are not those of any.

    clip: f h w 3; rows: h 3, from row_colours; open_sky: share of the frame, from the top, that is looked at
    """
    height = round(open_sky * len(rows))
    is_sky = np.linalg.norm(clip[:, :height] - rows[:height, None], axis=-1) < SKY_NOISE
    if is_sky.mean() < MIN_SKY_SHARE:
        return UNKNOWN
    share = (np.arange(height)[:, None] + 0.5) / len(rows)
    distances = {
        name: np.linalg.norm(rows[:height] - (np.array(top) * (1 - share) + np.array(foot) * share), axis=1).mean()
        for name, (top, foot) in skies.items()
    }
    nearest, second = sorted(distances, key=lambda name: distances[name])[:2]
    if distances[nearest] > min(FARTHEST_SKY, MIN_SURENESS * distances[second]):
        return UNKNOWN
    top, foot = skies[nearest]
    # The middles of the outer thirds are two thirds of the open sky apart.
    goes = (np.array(foot) - np.array(top)) * open_sky * 2 / 3
    return nearest if _slope(rows[:height], goes) > MIN_SLOPE else UNKNOWN


def _slope(rows: FloatArray, goes: FloatArray) -> float:
    """How far rows change from their upper to their lower third, as a share of how a sky does."""
    third = len(rows) // 3
    # Medians: a few rows may be hidden all along.
    gone = np.median(rows[-third:], axis=0) - np.median(rows[:third], axis=0)
    return float(gone @ goes / (goes @ goes))
