"""The judge's rules for the family `waves`: a line of crests between a sky and the sea that rolls to one side."""

import numpy as np

from t2v.evaluation.pixels import RGB, FloatArray, blurred
from t2v.evaluation.reading import UNKNOWN, Reading, Seen
from t2v.evaluation.skies import read_sky, row_colours

WATER: dict[str, RGB] = {"blue": (0.08, 0.32, 0.80), "green": (0.05, 0.55, 0.36), "grey": (0.44, 0.46, 0.49)}
OPEN = 0.32  # share of the frame, from the top, that no crest reaches
SEA = 0.55  # and below which there is only water
MIN_COSINE = 0.96  # between the colour of the sea and its name's, by whatever light; they are 0.83 apart or less
HIGHEST, LOWEST = 0.30, 0.60  # between these lies the line of the farthest crests
THICK = 0.05  # share of the frame
SMALL = 0.021  # spread of that line's height
MIN_CONTRAST = 0.1  # between sea and sky
MIN_SPREAD = 0.001  # foam may hide most of a crest
SMOOTHING = 0.02  # share of the frame, over which the edge of the water and the sea are smoothed
MIN_ROLL = 0.45  # correlation of the sea's change with its slope: 1 where it only slides sideways


def read_waves(clip: FloatArray) -> Reading | None:
    """Read a clip of waves; None where no sea lies under a sky. clip: f h w 3 in [0, 1]."""
    rows = row_colours(clip)
    sky = read_sky(clip, rows, open_sky=OPEN)
    colour = _colour(clip)
    if UNKNOWN in (sky, colour):
        return None
    line = _line(clip, rows)
    if line is None:
        return None
    spread = float(line.std(axis=1).mean())
    if spread < MIN_SPREAD:
        return None
    motion = _roll(clip)
    if motion == UNKNOWN:
        return None
    return Reading("waves", 1, sky, (Seen("waves", colour, "small" if spread < SMALL else "large", motion),))


def _colour(clip: FloatArray) -> str:
    sea = np.median(clip[:, round(SEA * clip.shape[1]) :].reshape(-1, 3), axis=0)
    names, table = list(WATER), np.array(list(WATER.values()))
    cosines = table @ sea / (np.linalg.norm(table, axis=1) * np.linalg.norm(sea) + 1e-6)
    return names[int(cosines.argmax())] if cosines.max() > MIN_COSINE else UNKNOWN


def _line(clip: FloatArray, rows: FloatArray) -> FloatArray | None:
    """How high the farthest crests reach in each column, or None where the sky goes on. Shape: f w."""
    height = clip.shape[1]
    first, last = round(HIGHEST * height), round(LOWEST * height)
    # The sky goes on behind the water as it does above it.
    above = rows[: round(OPEN * height)]
    slope = np.polyfit(np.arange(len(above)), above, 1)
    sky = np.arange(first, last)[:, None] * slope[0] + slope[1]
    sea = np.median(clip[:, last - 2 : last], axis=(0, 1, 2))
    if np.linalg.norm(sea - sky[-1]) < MIN_CONTRAST:
        return None
    band = clip[:, first:last]
    # Nothing is said of how near it is to the sea: foam is neither, and by day it looks more like the sky.
    wet = np.minimum(np.linalg.norm(band - sky[:, None], axis=-1) / np.linalg.norm(sea - sky[-1]), 1)
    wet = blurred(wet, SMOOTHING * height)
    # Water is where it is thick: a star is not, and light crests below the first may look like sky.
    thick = max(2, round(THICK * height))
    solid = np.lib.stride_tricks.sliding_window_view(wet > 0.5, thick, axis=1).all(axis=-1)
    top = np.where(np.any(solid, axis=1), solid.argmax(axis=1), last - first - 1)
    # Where between two pixels the edge lies is at 32 pixels half of what is known of a small wave.
    above_top, at_top = (np.take_along_axis(wet, np.maximum(row, 0)[:, None], axis=1)[:, 0] for row in (top - 1, top))
    line: FloatArray = (top - np.clip((at_top - 0.5) / (at_top - above_top + 1e-6), 0, 1)) / height
    return line


def _roll(clip: FloatArray) -> str:
    """Left or right, from how the sea changes where it slopes: h(x - v t) changes by -v times its slope."""
    height = clip.shape[1]
    sea = blurred(clip.mean(axis=-1), SMOOTHING * height)[:, round(HIGHEST * height) :]
    change = sea[1:] - sea[:-1]
    slope = np.gradient((sea[1:] + sea[:-1]) / 2, axis=2)
    together = (change * slope).sum() / (np.sqrt((change**2).sum() * (slope**2).sum()) + 1e-9)
    if abs(together) < MIN_ROLL:
        return UNKNOWN
    return "right" if together < 0 else "left"
