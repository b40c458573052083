"""The judge's rules for motion: what a subject does, from where it is seen, how large and how far turned."""

from typing import NamedTuple

import numpy as np

from t2v.evaluation.pixels import FloatArray
from t2v.evaluation.reading import STILL, UNKNOWN

IN_PLACE = 0.05  # a subject whose middle keeps within this share of the frame does not travel
MIN_TRAVEL = 0.15  # shares of the frame
MAX_DRIFT = 0.35  # of the way, across its direction
MIN_GROWTH = 0.15  # logarithm of the widths at the ends
SAME_WIDTH = 0.12  # the same, over the whole clip
MIN_TURNS = 0.12
STEADY = 0.9  # share of the variance that a steady motion explains; shuffled frames have next to nothing of it
MIN_BOUNCES, MAX_BOUNCE_RATE = 1.3, 0.26  # cycles in all and between two frames
BOUNCE_RATES, BOUNCE_PHASES = 30, 30  # how finely they are searched
STEADY_BOUNCE = 0.96
MIN_HIDDEN = 0.15  # share of the frames in which what blinks is gone


class Track(NamedTuple):
    """One subject through the frames, NaN where it is not seen; all of shape f.

    x, y: its middle; width: the root of its area; all in units of the frame
    phase: angle of its turn times `fold`, known up to whole turns of it; None for what looks the same at every turn
    """

    x: FloatArray
    y: FloatArray
    width: FloatArray
    phase: FloatArray | None
    fold: int


def motion_of(track: Track) -> str:
    """The motion in the worlds' words, "still", or "unknown" for a motion that is none of these."""
    present = ~np.isnan(track.x)
    when = np.flatnonzero(present).astype(float)
    x, y, width = track.x[present], track.y[present], track.width[present]
    if present.sum() < 3:
        return UNKNOWN
    if not present[int(when[0]) : int(when[-1]) + 1].all() or not present.all():
        return "blink" if _blinks(present) and _in_place(x, y) and _keeps_width(width) else UNKNOWN
    if not _in_place(x, y):
        return _travel(when, x, y) or (_bounce(x, y) if _keeps_width(width) else "") or UNKNOWN
    if not _keeps_width(width):
        return _growth(when, width) or UNKNOWN
    return _spin(when, track)


def _in_place(x: FloatArray, y: FloatArray) -> bool:
    return bool(max(np.ptp(x), np.ptp(y)) < IN_PLACE)


def _keeps_width(width: FloatArray) -> bool:
    return bool(np.ptp(np.log(width)) < SAME_WIDTH)


def _blinks(present: FloatArray) -> bool:
    """Whether it comes and goes: what vanishes once and for all, or comes late, does not blink."""
    hidden = len(present) - present.sum()
    changes = np.count_nonzero(np.diff(present.astype(int)))
    return bool(changes >= 2 and hidden >= max(1, round(MIN_HIDDEN * len(present))))


def _travel(when: FloatArray, x: FloatArray, y: FloatArray) -> str:
    """Left, right, up or down, or nothing where the way is not straight, steady and long."""
    ways = {axis: way(when, places) for axis, places in (("x", x), ("y", y))}
    main, other, places = ("x", y, x) if np.ptp(x) > np.ptp(y) else ("y", x, y)
    far = ways[main]
    if abs(far) < MIN_TRAVEL or np.ptp(other) > MAX_DRIFT * abs(far) or steadiness(when, places) < STEADY:
        return ""
    return {("x", True): "right", ("x", False): "left", ("y", True): "down", ("y", False): "up"}[main, far > 0]


def _growth(when: FloatArray, width: FloatArray) -> str:
    far = way(when, np.log(width))
    if abs(far) < MIN_GROWTH or steadiness(when, width) < STEADY:
        return ""
    return "grow" if far > 0 else "shrink"


def _spin(when: FloatArray, track: Track) -> str:
    """Spin, still, or unknown where it turns to and fro."""
    if track.phase is None:
        return STILL
    turns = np.unwrap(track.phase) / (2 * np.pi * track.fold)
    if np.ptp(turns) < MIN_TURNS / 2:
        return STILL
    if abs(way(when, turns)) < MIN_TURNS or steadiness(when, turns) < STEADY:
        return UNKNOWN
    return "spin"


def _bounce(x: FloatArray, y: FloatArray) -> str:
    """Bounce, or nothing where the heights are not those of a ball that comes back again and again."""
    if np.ptp(x) > IN_PLACE or np.ptp(y) < MIN_TRAVEL:
        return ""
    steps = len(y) - 1
    fastest = MAX_BOUNCE_RATE * steps
    cycles = np.linspace(min(MIN_BOUNCES, fastest), fastest, BOUNCE_RATES)
    phases = np.arange(BOUNCE_PHASES) / BOUNCE_PHASES
    flight = (cycles[:, None, None] * np.linspace(0, 1, steps + 1) + phases[:, None]) % 1
    # y points down, so a ball on the floor is where y is largest.
    fall = -4 * flight * (1 - flight)
    fall -= fall.mean(axis=-1, keepdims=True)
    places = y - y.mean()
    along = (fall * places).sum(axis=-1)
    explained = np.where(along > 0, along, 0) ** 2 / ((fall**2).sum(axis=-1) + 1e-9) / (places**2).sum()
    return "bounce" if explained.max() > STEADY_BOUNCE else ""


def way(when: FloatArray, values: FloatArray) -> float:
    """How far the straight line through the values goes from the first to the last."""
    slope = np.polyfit(when, values, 1)[0]
    return float(slope * (when[-1] - when[0]))


def steadiness(when: FloatArray, values: FloatArray) -> float:
    """Share of the variance that a straight line explains."""
    return float(np.corrcoef(when, values)[0, 1] ** 2)
