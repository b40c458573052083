"""The judge: reads from the pixels of a clip what it shows, by rules and not by a network.

Its rules know the worlds' tables of colours and the names of their motions; they were never shown what a clip was drawn
from. A reader is a function of a clip and one entry in READERS; every family of the worlds has one.

What no viewer can tell it does not say: hills may lie wholly behind a rocket's pad, so of rockets it reads no place.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from t2v.evaluation.candles import read_candles
from t2v.evaluation.fireworks import read_fireworks
from t2v.evaluation.pendulums import read_pendulums
from t2v.evaluation.pixels import FloatArray
from t2v.evaluation.reading import UNKNOWN, Reading, nothing
from t2v.evaluation.rockets import read_rockets
from t2v.evaluation.shapes import read_shapes
from t2v.evaluation.skies import read_sky, row_colours
from t2v.evaluation.suns import read_suns
from t2v.evaluation.waves import read_waves
from t2v.evaluation.weather import read_weather

# Which judge a score was given by. Raised whenever a change of any rule could change a verdict; every row of every
# table is then scored anew, since figures of two judges cannot be compared.
JUDGE_VERSION = 1

# Each reads a clip f h w 3 in [0, 1], or gives None where it does not see the backdrop of its family.
READERS: dict[str, Callable[[FloatArray], Reading | None]] = {
    # The first that is sure has its way: a pendulum at 32 pixels is two shapes as well, candles are shapes of a kind,
    # and drops, foam and a sun that sets may look like bursts.
    "pendulums": read_pendulums,
    "candles": read_candles,
    "shapes": read_shapes,
    "weather": read_weather,
    "waves": read_waves,
    "rockets": read_rockets,
    "suns": read_suns,
    "fireworks": read_fireworks,
}


def judge(frames: NDArray[np.uint8]) -> Reading:
    """Say what a clip shows; what it cannot tell is "unknown", and where nothing is seen the family is "nothing".

    frames: uint8 f h w 3, at least four frames of at least 32 pixels
    """
    clip = frames.astype(np.float32) / 255
    unsure = []
    for read in READERS.values():
        reading = read(clip)
        if reading is None:
            continue
        if any(seen.subject != UNKNOWN for seen in reading.subjects):
            return reading
        unsure.append(reading)
    sky = read_sky(clip, row_colours(clip))
    if sky != UNKNOWN or not unsure:
        return nothing(sky)
    # Something on a plain ground that is no shape is still that, unless it is something else to another reader.
    return unsure[0]
