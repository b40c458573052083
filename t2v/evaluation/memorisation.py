"""Whether samples are copies: how near each is to its nearest training clip, against the same for held-out clips."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

NUMBERS_AT_A_TIME = 2**24  # of clips turned into float32: 64 MB, and a few times that in all


class Memorised(NamedTuple):
    """How many samples are nearer to a training clip than nearly all held-out clips are.

    share: of the samples, in [0, 1]; threshold: the distance that they are nearer than
    """

    share: float
    threshold: float


class Nearest(NamedTuple):
    """For each clip the root mean square distance to the nearest of a set, and its place in it. Both of shape n."""

    distance: NDArray[np.float64]
    place: NDArray[np.intp]


def nearest_clips(clips: ArrayLike, known: ArrayLike) -> Nearest:
    """Distance of each clip to the nearest known one: the root of the mean squared difference of their values.

        min over k of sqrt(|x - k|^2 / d), with |x - k|^2 = |x|^2 - 2 x . k + |k|^2

    clips, known: n ... and m ... arrays of the same shape but for the first axis; uint8 clips or features. Both are
        read a block at a time, so memory does not grow with either and a memory-mapped array need not fit in it.
    """
    queries, others = np.asanyarray(clips), np.asanyarray(known)
    assert queries.shape[1:] == others.shape[1:], f"clips are {queries.shape[1:]}, the known ones {others.shape[1:]}"
    block = max(1, NUMBERS_AT_A_TIME // int(np.prod(queries.shape[1:])))
    found = [
        _nearest_in_block(queries[start : start + block], others, block) for start in range(0, len(queries), block)
    ]
    index = np.concatenate([np.zeros(0, np.intp), *found])
    # Of near copies the difference of squares is mostly rounding, so the winners are measured directly.
    exact = [_distance(clip, others[nearest]) for clip, nearest in zip(queries, index, strict=True)]
    return Nearest(np.array(exact, np.float64), index)


def _nearest_in_block(clips: NDArray[np.generic], known: NDArray[np.generic], block: int) -> NDArray[np.intp]:
    """Index of the nearest known clip for a few clips."""
    flat = clips.reshape(len(clips), -1).astype(np.float32)
    # Around a common middle the numbers are small, and so is what the subtraction of large squares loses.
    middle = flat.mean(axis=0)
    flat -= middle
    best, index = np.full(len(flat), np.inf), np.zeros(len(flat), np.intp)
    for start in range(0, len(known), block):
        part = known[start : start + block].reshape(-1, flat.shape[1]).astype(np.float32) - middle
        # |x|^2 is the same for all of them, so it is left out.
        squared = (part**2).sum(axis=1, dtype=np.float64) - 2 * (flat @ part.T)
        nearest = squared.argmin(axis=1)
        closest = squared[np.arange(len(flat)), nearest]
        closer = closest < best
        best[closer], index[closer] = closest[closer], nearest[closer] + start
    return index


def memorised(samples: ArrayLike, held_out: ArrayLike, *, percentile: float = 1.0) -> Memorised:
    """Share of samples that are nearer to the training clips than nearly all clips that were never trained on.

    samples, held_out: distances to the nearest training clip, one a clip
    percentile: of the held-out distances below which a sample counts as memorised. A model that copies no more than
        chance does has this share itself, so `percentile` is the floor and not 0.
    """
    threshold = float(np.percentile(np.asarray(held_out, np.float64), percentile))
    return Memorised(float((np.asarray(samples, np.float64) < threshold).mean()), threshold)


def _distance(one: NDArray[np.generic], other: NDArray[np.generic]) -> float:
    difference = one.astype(np.float64) - other.astype(np.float64)
    return float(np.sqrt((difference**2).mean()))
