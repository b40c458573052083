"""How much moves in a clip, and how much merely flickers."""

import numpy as np
from numpy.typing import NDArray

GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


def motion_energy(frames: NDArray[np.uint8]) -> float:
    """Mean squared change of a pixel from one frame to the next, of levels in [0, 1]; 0 for a still.

        mean over t, y, x, c of (x[t+1] - x[t])^2

    frames: uint8 f h w c, at least two frames
    """
    steps = np.diff(_levels(frames), axis=0)
    return float((steps**2).mean())


def flicker(frames: NDArray[np.uint8]) -> float:
    """Root mean square of the second difference over time of the whole frame's brightness, in [0, 1].

        sqrt(mean over t of (m[t+1] - 2 m[t] + m[t-1])^2), where m[t] is the mean brightness of frame t

    A steady change (a sunrise) is no flicker, nor is motion that leaves the mean as it is; a frame that is too bright
    or too dark is. For a brightness that alternates between -a and a it is 4 a, for white noise of spread s sqrt(6) s.
    frames: uint8 f h w c with c of 1 or 3, at least three frames
    """
    levels = _levels(frames)
    brightness = (levels @ GREY if levels.shape[-1] == len(GREY) else levels[..., 0]).mean(
        axis=(1, 2), dtype=np.float64
    )
    return float(np.sqrt((np.diff(brightness, n=2) ** 2).mean()))


def _levels(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    return frames.astype(np.float32) / np.float32(255)
