"""The judge's rules for the family `suns`: a disc that rises or sinks behind a horizon under a coloured sky."""

import numpy as np

from t2v.evaluation.pixels import RGB, FloatArray, patches
from t2v.evaluation.places import read_place
from t2v.evaluation.reading import UNKNOWN, Reading, Seen
from t2v.evaluation.tracks import steadiness, way

SUNS: dict[str, RGB] = {"yellow": (1.0, 0.90, 0.30), "orange": (1.0, 0.52, 0.06), "red": (0.93, 0.10, 0.08)}
# Skies at their brightest, at the top of the frame and near the horizon.
SKIES: dict[str, tuple[RGB, RGB]] = {
    "orange": ((0.36, 0.34, 0.56), (0.98, 0.66, 0.36)),
    "pink": ((0.42, 0.40, 0.70), (0.97, 0.66, 0.78)),
    "purple": ((0.20, 0.14, 0.46), (0.56, 0.34, 0.72)),
}
FARTHEST_SUN = 0.16  # names of suns are 0.42 apart or more
MIN_AREA = 0.02  # share of the frame, where the sun is seen best; the smallest has 0.034
MIN_SLICE = 0.006  # the same, in a frame that counts for its way
MIN_PRESENCE = 0.5  # share of such frames; a burst of fireworks is as round and as large, but soon over
ROUNDNESS = (0.62, 0.92)  # share of its box that a disc fills: pi / 4, and 0.89 or 0.65 where it is six pixels wide
SMALL = 0.145  # radius; the worlds leave 0.12 to 0.175 free
MIN_TRAVEL, STEADY = 0.2, 0.9
BRIGHTEST = 0.3  # share of the frames that show the ground best: the sun is high above it
SKY_ROWS = (0.05, 0.65)
FARTHEST_SKY = 0.25


def read_suns(clip: FloatArray) -> Reading | None:
    """Read a clip of a rising or setting sun; None where no disc of a sun's colour is seen. clip: f h w 3 in [0, 1]."""
    colour, mask = max(
        ((name, np.linalg.norm(clip - rgb, axis=-1) < FARTHEST_SUN) for name, rgb in SUNS.items()),
        key=lambda found: found[1].sum(axis=(1, 2)).max(),
    )
    pixels = clip.shape[1] * clip.shape[2]
    largest = [here[0] if here else None for here in patches(mask, least=MIN_SLICE * pixels)]
    areas = np.array([0 if patch is None else len(patch.rows) for patch in largest])
    best = int(areas.argmax())
    patch = largest[best]
    if patch is None or areas[best] < MIN_AREA * pixels or np.mean(areas > 0) < MIN_PRESENCE:
        return None
    box = (np.ptp(patch.rows) + 1) * (np.ptp(patch.columns) + 1)
    if not ROUNDNESS[0] < areas[best] / box < ROUNDNESS[1]:
        return None
    # The frame in which the sun stands highest is the brightest.
    rims = np.array([np.nan if one is None else one.rows.min() / clip.shape[1] for one in largest])
    sky = _sky(clip[int(np.nanargmin(rims))])
    if sky == UNKNOWN:
        return None
    size = "small" if np.sqrt(areas[best] / pixels / np.pi) < SMALL else "large"
    brightest = np.argsort(-clip.mean(axis=(1, 2, 3)))[: max(1, round(BRIGHTEST * len(clip)))]
    place = read_place(np.median(clip[brightest], axis=0), "dusk")
    return Reading("suns", 1, sky, (Seen("sun", colour, size, _motion(rims)),), {"place": place})


def _motion(rims: FloatArray) -> str:
    """Up or down, from where the upper rim is in each frame, NaN where it is hidden."""
    when = np.flatnonzero(~np.isnan(rims)).astype(float)
    seen = rims[~np.isnan(rims)]
    if len(seen) < 3 or abs(way(when, seen)) < MIN_TRAVEL or steadiness(when, seen) < STEADY:
        return UNKNOWN
    return "down" if way(when, seen) > 0 else "up"


def _sky(frame: FloatArray) -> str:
    first, last = (round(edge * len(frame)) for edge in SKY_ROWS)
    rows = np.median(frame[first:last], axis=1)
    share = ((np.arange(first, last) + 0.5) / len(frame))[:, None]
    table = {name: np.array(top) * (1 - share) + np.array(foot) * share for name, (top, foot) in SKIES.items()}
    distances = {name: np.linalg.norm(rows - sky, axis=1).mean() for name, sky in table.items()}
    nearest, second = sorted(distances, key=lambda name: distances[name])[:2]
    return nearest if distances[nearest] < min(FARTHEST_SKY, 0.75 * distances[second]) else UNKNOWN
