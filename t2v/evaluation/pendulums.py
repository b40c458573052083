"""The judge's rules for the family `pendulums`: a round weight on a rod that swings before a plain ground."""

import numpy as np
from numpy.typing import NDArray

from t2v.evaluation.pixels import FloatArray, nearest_name, patches
from t2v.evaluation.reading import UNKNOWN, Reading, Seen
from t2v.evaluation.shapes import COLOURS, FARTHEST_COLOUR, FARTHEST_GROUND, GROUNDS, MIN_CONTRAST, plain_ground

THIN = 0.04  # half of what is so thin, in shares of the frame, is rod or beam and no weight
SMALL = 0.145  # radius; the worlds leave 0.12 to 0.17 free
MIN_SWING = 0.25  # share of the frame
MIN_ROD = 0.02  # share of the frame that rod and beam cover
# What holds the rod is as good as still: a beam at the top, in the middle, with next to nothing beside it or below it.
# All in shares of the frame; no shape is so flat, and no weight swings so high.
BEAM_ROWS, BEAM_COLUMNS = (0.0, 0.13), (0.40, 0.60)
BESIDE_BEAM, BELOW_BEAM = 0.28, (0.14, 0.25)
MIN_HELD = 0.7  # of the frames; speckles may hide a pixel of it in others
MAX_BESIDE, MAX_BELOW = 0.05, 0.2  # shares of the pixels there; below it is the rod, two pixels wide in a coarse clip
CYCLES = (0.3, 0.32)  # cycles looked for: in all at least, and between two frames at most
STEADY_SWING = 0.95
FAST = 0.75  # cycles; in a clip of a second or so a slow one swings across once, a fast one there and back


def read_pendulums(clip: FloatArray) -> Reading | None:
    """Read a clip of a pendulum; None where no weight hangs on a rod. clip: f h w 3 in [0, 1]."""
    ground = plain_ground(clip)
    if ground is None:
        return None
    mask = np.linalg.norm(clip - ground, axis=-1) > MIN_CONTRAST
    if not _hangs_from_beam(mask):
        return None
    size = clip.shape[1]
    thin = max(1, round(THIN * size))
    cores = [here[0] if here else None for here in patches(_eroded(mask, thin), least=4)]
    if any(core is None for core in cores):
        return None
    found = [core for core in cores if core is not None]
    x = np.array([core.columns.mean() for core in found]) / size
    y = np.array([core.rows.mean() for core in found]) / size
    # What was taken off all around is added again.
    radius = float(np.median([np.sqrt(len(core.rows) / np.pi) + thin for core in found])) / size
    rod = mask.mean(axis=(1, 2)) - np.pi * radius**2
    if np.median(rod) < MIN_ROD or np.ptp(x) < MIN_SWING or np.ptp(y) > np.ptp(x):
        return None
    colours = [frame[core.rows, core.columns].mean(axis=0) for frame, core in zip(clip, found, strict=True)]
    colour = nearest_name(np.median(colours, axis=0), COLOURS, farthest=FARTHEST_COLOUR)
    backdrop = nearest_name(ground, GROUNDS, farthest=FARTHEST_GROUND, light=0.5)
    cycles = _cycles(x)
    motion, speed = (UNKNOWN, UNKNOWN) if cycles is None else ("swing", "fast" if cycles > FAST else "slow")
    weight = Seen("pendulum", colour, "small" if radius < SMALL else "large", motion, speed)
    return Reading("pendulums", 1, backdrop, (weight,))


def _hangs_from_beam(mask: NDArray[np.bool_]) -> bool:
    """Whether a flat beam is there at the top in all frames. mask: f h w, what is not ground."""
    height, width = mask.shape[1:]
    first, last = (round(edge * height) for edge in BEAM_ROWS)
    left, right = (round(edge * width) for edge in BEAM_COLUMNS)
    is_held = mask[:, first:last, left:right].all(axis=2).mean(axis=0).max() > MIN_HELD
    beside = round(BESIDE_BEAM * width)
    around = mask[:, :last, np.r_[:beside, width - beside : width]]
    upper, lower = (round(edge * height) for edge in BELOW_BEAM)
    below = mask[:, upper:lower, beside : width - beside]
    return bool(is_held and around.mean() < MAX_BESIDE and below.mean() < MAX_BELOW)


def _eroded(mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    """Where all within so many pixels is in the mask. mask: f h w."""
    height, width = mask.shape[1:]
    padded = np.pad(mask, [(0, 0), (pixels, pixels), (pixels, pixels)])
    around = range(-pixels, pixels + 1)
    whole = mask
    for down, across in ((down, across) for down in around for across in around):
        if down**2 + across**2 <= pixels**2 + 1:
            whole = whole & padded[:, pixels + down : pixels + down + height, pixels + across : pixels + across + width]
    return whole


def _cycles(x: FloatArray) -> float | None:
    """How often it swings to and fro in the clip, or None where it does not swing evenly."""
    when = np.linspace(0, 1, len(x))
    least, most = CYCLES[0], CYCLES[1] * (len(x) - 1)
    fits = []
    for cycles in np.linspace(least, most, 40):
        # It starts at its farthest, as the worlds' do; a phase left open would make half a swing fit any speed.
        basis = np.stack([np.cos(2 * np.pi * cycles * when), np.ones_like(when)], axis=1)
        rest = x - basis @ np.linalg.lstsq(basis, x, rcond=None)[0]
        fits.append((1 - rest.var() / x.var(), float(cycles)))
    steadiness, cycles = max(fits)
    return cycles if steadiness > STEADY_SWING else None
