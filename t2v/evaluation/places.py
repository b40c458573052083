"""Where a clip is: before a city, hills or water, or nowhere, from what hides the foot of its sky."""

import numpy as np

from t2v.evaluation.pixels import RGB, FloatArray
from t2v.evaluation.reading import UNKNOWN
from t2v.evaluation.skies import OPEN_SKY

GROUNDS: dict[str, dict[str, RGB]] = {
    "city": {"night": (0.02, 0.02, 0.03), "dusk": (0.07, 0.04, 0.09), "day": (0.34, 0.37, 0.44)},
    "hills": {"night": (0.01, 0.04, 0.02), "dusk": (0.09, 0.06, 0.08), "day": (0.25, 0.50, 0.22)},
}
WATER: dict[str, RGB] = {"night": (0.01, 0.02, 0.06), "dusk": (0.12, 0.08, 0.16), "day": (0.12, 0.32, 0.60)}
MIRRORED, DEEP = 0.5, 0.6  # shares of the sky and of its own colour that make water

FOOT = 0.06  # share of the frame, at the lower edge of what is looked at, where the ground hides all
DARKER = 35  # percentile: of the pixels there some are lit windows
MIN_CHANGE = {"night": 0.055, "dusk": 0.18, "day": 0.2}  # from the sky to what hides it; water at night has 0.085
MAX_RIPPLE = 0.02  # spread of the height of the shore, which is level
MIN_SKYLINE = 0.006  # spread of the heights of hills or towers
HARDLY_WET = 0.5  # nearness to the colour of water over that to hills' and cities'
MIN_VERDICT = 0.05
TOWERS = (8, 9, 10, 11, 12)
HILL_WAVES = (0.5, 1.0, 1.5, 2.0, 2.5)  # across the frame
COLOUR_SAYS = 0.6  # how much of a verdict between city and hills is their colour, beside the form of the skyline
FINE = 4  # columns looked at within a pixel
SMALLEST = 5e-4  # share of the frame; heights are not known better


def read_place(still: FloatArray, sky: str) -> str:
    """City, hills, water or nowhere, or "unknown". still: h w 3, without what moves; sky: night, dusk or day."""
    behind, low = _sky_behind(still), round(OPEN_SKY * len(still))
    strip = still[-max(1, round(FOOT * len(still))) :].reshape(-1, 3)
    foot = np.percentile(strip, DARKER, axis=0)
    if np.linalg.norm(foot - behind[-1]) < MIN_CHANGE[sky]:
        return "nowhere"
    water = MIRRORED * behind[0] + DEEP * np.array(WATER[sky])
    distances = {name: float(np.linalg.norm(foot - colours[sky])) for name, colours in GROUNDS.items()}
    wetness = min(distances.values()) / (float(np.linalg.norm(foot - water)) + 1e-6)
    heights = _skyline(still[low:], behind[low:], foot) / len(still)
    # Water is level, and nothing else is.
    if heights.std() < MIN_SKYLINE:
        return "water" if wetness > HARDLY_WET else UNKNOWN
    if wetness > 1 and heights.std() < MAX_RIPPLE:
        return "water"
    hue = (distances["hills"] - distances["city"]) / (distances["hills"] + distances["city"])
    verdict = _steps(heights) + COLOUR_SAYS * hue
    return UNKNOWN if abs(verdict) < MIN_VERDICT else "city" if verdict > 0 else "hills"


def _sky_behind(still: FloatArray) -> FloatArray:
    """The colours of the sky as it would go on behind the ground, row by row. Shape: h 3."""
    rows = np.median(still[: round(OPEN_SKY * len(still))], axis=1)
    half = len(rows) // 2
    # Medians: a few rows may be lit by what is in the sky.
    slope = np.median(rows[half:] - rows[:-half], axis=0) / half
    start = np.median(rows - slope * np.arange(len(rows))[:, None], axis=0)
    behind: FloatArray = np.clip(start + slope * np.arange(len(still))[:, None], 0, 1)
    return behind


def _skyline(low: FloatArray, behind: FloatArray, colour: FloatArray) -> FloatArray:
    """How many pixels high something of a colour stands before the sky in each column. low: rows w 3. Shape: w."""
    way = behind - colour
    open_share = ((low - colour) * way[:, None]).sum(axis=-1) / ((way**2).sum(axis=-1)[:, None] + 1e-6)
    # Below a roof or a ridge there is no sky any more, though there are lit windows.
    hidden = np.maximum.accumulate(1 - np.clip(open_share, 0, 1), axis=0)
    heights: FloatArray = hidden.sum(axis=0)
    return heights


def _steps(heights: FloatArray) -> float:
    """Above 0 where a skyline is better told by towers of one width than by gentle waves. heights: w"""
    x = (np.arange(len(heights) * FINE) + 0.5) / (len(heights) * FINE)
    waves = [np.ones_like(x), *(form(2 * np.pi * rate * x) for rate in HILL_WAVES for form in (np.cos, np.sin))]
    hills = _rest(np.stack(waves, axis=1), heights)
    towers = min(_rest(np.eye(count)[(x * count).astype(int)], heights) for count in TOWERS)
    return float(np.log((hills + SMALLEST) / (towers + SMALLEST)))


def _rest(forms: FloatArray, heights: FloatArray) -> float:
    """What is left of heights by the best sum of some forms. forms: fine columns, number of forms."""
    seen = forms.reshape(len(heights), FINE, -1).mean(axis=1)
    found = seen @ np.linalg.lstsq(seen, heights, rcond=None)[0]
    return float(np.sqrt(((heights - found) ** 2).mean()))
