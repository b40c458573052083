"""The judge's rules for the family `candles`: upright bodies of wax in the dark, and the flames above them.

A candle is known by its flame and the glow around it; a body above which nothing ever burns is none.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from t2v.evaluation.pixels import RGB, FloatArray, nearest_name
from t2v.evaluation.reading import STILL, UNKNOWN, Reading, Seen

WAX: dict[str, RGB] = {
    "white": (0.95, 0.93, 0.88),
    "red": (0.85, 0.10, 0.12),
    "green": (0.10, 0.60, 0.22),
    "blue": (0.15, 0.32, 0.90),
    "purple": (0.55, 0.16, 0.75),
    "yellow": (0.95, 0.82, 0.15),
}
GROUNDS: dict[str, RGB] = {"black": (0.03, 0.03, 0.03), "dark blue": (0.05, 0.08, 0.26), "brown": (0.24, 0.13, 0.07)}
GLOW: RGB = (1.0, 0.55, 0.18)
MIDDLING = 0.88  # what the light on its lower half makes of a body, within a tenth
FARTHEST_COLOUR = 0.22  # names of wax are 0.42 apart or more
FARTHEST_GROUND = 0.1  # grounds are 0.2 apart or more
OVER, UNDER = 0.08, 0.94  # above and below these heights, in shares of the frame, there is only ground
GROUND_NOISE, MIN_GROUND_SHARE = 0.12, 0.5  # how far a pixel there may be from its colour, and how many must be so near

LOWER = (0.74, 0.86)  # rows in which every body stands
MIN_CONTRAST = 0.25  # there, between wax and ground; the least is 0.5, and glow has 0.2
NEARLY = 0.85
SAME_WAX, MIN_HELD = 0.25, 0.85  # how much its colour may change, and in what share of the frames it stands there
BRIGHTEST = 1.2  # times its usual colour, just under the flame
FARTHEST_WAX = 0.17  # of a pixel of wax from what light and ground make of its colour
MIN_FULL = 0.6  # of its width that a body has at every height
FOOT = (0.80, 0.98)
WIDTHS = (0.06, 0.25)  # the worlds have 0.12 to 0.18
HEIGHTS = (0.15, 0.6)  # the worlds have 0.21 to 0.50
SMALL = 0.34  # height; the worlds leave 0.26 to 0.42 free
MAX_CANDLES = 4

ABOVE = (-0.26, -0.015)  # where light is looked for, above the top of a body
FLAME = (0.0, 0.075)  # and how far from its middle to either side: there the flame, and farther out only its glow
AROUND = (0.075, 0.14)
FLAME_AREA = 0.0085  # share of the frame that a whole flame covers
MIN_FLAME = 0.22  # share of that area that is fire in a frame in which a candle burns
GLARE, MAX_GLARE = 0.75, 0.04  # red beyond which it is no glow, and the share of pixels around a flame that may be so
MIN_BURNING = 0.25  # share of the frames
MIN_GLOW = 0.05  # light around a flame; of a shape on a plain ground there is none
MIN_FLICKER = 0.02  # spread of that light from frame to frame, as a share of it; the worlds' flames have 0.1


class Body(NamedTuple):
    """A body of wax. Lengths in shares of the frame; rgb: of its middle."""

    x: float
    top: float
    height: float
    rgb: FloatArray


def read_candles(clip: FloatArray) -> Reading | None:
    """Read a clip of candles; None where none burns before a dark ground. clip: f h w 3 in [0, 1]."""
    ground = _ground(clip)
    if ground is None:
        return None
    bodies = _bodies(clip, ground)
    glows = [_glow(clip, ground, body) for body in bodies]
    burning = [_fire(clip, body) & (glow > MIN_GLOW) for body, glow in zip(bodies, glows, strict=True)]
    backdrop = nearest_name(ground, GROUNDS, farthest=FARTHEST_GROUND)
    if backdrop == UNKNOWN or not any(np.mean(burns) > MIN_BURNING for burns in burning):
        return None
    candles = [
        Seen(
            "candle",
            nearest_name(body.rgb / MIDDLING, WAX, farthest=FARTHEST_COLOUR),
            "small" if body.height < SMALL else "large",
            _motion(burns, glow),
        )
        for body, burns, glow in zip(bodies, burning, glows, strict=True)
    ]
    return Reading("candles", len(candles), backdrop, tuple(candles))


def _ground(clip: FloatArray) -> FloatArray | None:
    """The colour under the candles, or None where it is not the same nearly everywhere and high above them as well."""
    height = clip.shape[1]
    under, over = clip[:, round(UNDER * height) :], clip[:, : round(OVER * height)]
    ground: FloatArray = np.median(under.reshape(-1, 3), axis=0)
    shares = [np.mean(np.linalg.norm(part - ground, axis=-1) < GROUND_NOISE) for part in (under, over)]
    return ground if min(shares) > MIN_GROUND_SHARE else None


def _bodies(clip: FloatArray, ground: FloatArray) -> list[Body]:
    """What stands on the floor most of the time, from left to right."""
    still = np.median(clip, axis=0)
    first, last = (round(edge * len(still)) for edge in LOWER)
    columns = np.median(still[first:last], axis=0) - ground
    strength = np.linalg.norm(columns, axis=-1)
    bodies = []
    for run in _runs(strength > MIN_CONTRAST):
        # Glow and blur are weaker than wax.
        solid = run[strength[run] > strength[run].max() / 2]
        middle = solid[strength[solid] > NEARLY * strength[solid].max()]
        rgb = ground + np.median(columns[middle], axis=0)
        # What only passes by, as shapes do, is no candle.
        there = np.linalg.norm(np.median(clip[:, first:last, middle], axis=(1, 2)) - rgb, axis=-1) < SAME_WAX
        body = _body(still, ground, solid, rgb) if there.mean() > MIN_HELD else None
        if body is not None:
            bodies.append(body)
    return bodies[:MAX_CANDLES]


def _runs(found: NDArray[np.bool_]) -> list[NDArray[np.intp]]:
    """Places that hang together. found: n."""
    places = np.flatnonzero(found)
    return [run for run in np.split(places, np.flatnonzero(np.diff(places) > 1) + 1) if len(run)]


def _body(still: FloatArray, ground: FloatArray, columns: NDArray[np.intp], rgb: FloatArray) -> Body | None:
    """What is of one colour in these columns as a body, or None where it is none. still: h w 3."""
    height, width = still.shape[:2]
    wax = rgb - ground
    share = (still[:, columns] - ground) @ wax / (wax @ wax)
    rest = still[:, columns] - ground - np.minimum(share, BRIGHTEST)[..., None] * wax
    is_wax = (share > 0.5) & (np.linalg.norm(rest, axis=-1) < FARTHEST_WAX)
    # What is narrower than the body is of its flame.
    rows = max(_runs(is_wax.mean(axis=1) > MIN_FULL), key=len, default=columns[:0])
    wide, tall = len(columns) / width, len(rows) / height
    if (
        not WIDTHS[0] < wide < WIDTHS[1]
        or not HEIGHTS[0] < tall < HEIGHTS[1]
        or not FOOT[0] < (rows[-1] + 1) / height < FOOT[1]
    ):
        return None
    return Body((columns.mean() + 0.5) / width, rows[0] / height, tall, rgb)


def _above(clip: FloatArray, body: Body, beside: tuple[float, float]) -> FloatArray:
    """The pixels above a body that are so far beside its middle, to either side. Shape: f rows columns 3."""
    height, width = clip.shape[1:3]
    upper, lower = (max(0, round((body.top + edge) * height)) for edge in ABOVE)
    away = np.abs((np.arange(width) + 0.5) / width - body.x)
    return clip[:, upper:lower][:, :, (away >= beside[0]) & (away < beside[1])]


def _fire(clip: FloatArray, body: Body) -> NDArray[np.bool_]:
    """Whether a flame stands on a body. Shape: f."""
    red, green, blue = np.moveaxis(_above(clip, body, FLAME), -1, 0)
    # From orange to a pale yellow; the glow is never so bright.
    is_fire = (red > 0.75) & (green > 0.38 * red) & (green < red - 0.04) & (blue < red - 0.25)
    enough = MIN_FLAME * FLAME_AREA * clip.shape[1] * clip.shape[2]
    # A flame is slender: farther out there is only its glow, or it is a yellow shape.
    is_slender = (_above(clip, body, AROUND)[..., 0] > GLARE).mean(axis=(1, 2)) < MAX_GLARE
    found: NDArray[np.bool_] = (is_fire.sum(axis=(1, 2)) > enough) & is_slender
    return found


def _glow(clip: FloatArray, ground: FloatArray, body: Body) -> FloatArray:
    """How much light of the colour of candles lies around where the flame would be. Shape: f."""
    glow = np.array(GLOW) / np.linalg.norm(GLOW)
    return (_above(clip, body, AROUND) - ground).mean(axis=(1, 2)) @ glow


def _motion(burns: NDArray[np.bool_], glow: FloatArray) -> str:
    """Flicker, light up or go out, still for a flame that never stirs, unknown for one that comes and goes."""
    changes = np.flatnonzero(burns[1:] != burns[:-1])
    if not len(changes):
        return "flicker" if glow.std() > MIN_FLICKER * glow.mean() else STILL
    if len(changes) > 1:
        return UNKNOWN
    return "light up" if burns[-1] else "go out"
