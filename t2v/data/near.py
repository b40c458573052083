"""Which clips look alike: the same pictures saved again, made smaller or recoloured a little.

A clip's signature is a few of its pictures as thumbnails. Two clips are near where their thumbnails differ little
beside what there is to see in them, so that small figures on the same white ground are not all alike.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from t2v.data.clip import composite

MOMENTS = 4
SIDE = 16
COARSE_SIDE = 4
# Of 100 real clips saved again with 16 dithered colours or at half the size, all lie within this; of 713 emoji and
# sprites, 10 pairs do, all of which are hard to tell apart. Moved by two pixels, a clip is another one.
NEAR = 0.2
MIN_CONTRAST = 8.0  # what counts as something to see, of 255: else noise on a flat ground would decide
BLOCK = 512  # clips compared with all others at once: bounds the memory
SLACK = 0.1  # float32 may err by so much where coarse signatures are compared

Group = tuple[int, ...]


def signature(frames: np.ndarray) -> np.ndarray:
    """Thumbnails of a few moments, evenly chosen: uint8 `f h w c` of any channels to uint8 `4 16 16 3`."""
    chosen = frames[((np.arange(MOMENTS) + 0.5) * len(frames) / MOMENTS).astype(int)]
    return np.stack([_thumbnail(frame) for frame in as_rgb(chosen)])


def as_rgb(frames: np.ndarray) -> np.ndarray:
    """uint8 `f h w c` as `f h w 3`: grey repeated, what is transparent laid on white."""
    match frames.shape[-1]:
        case 1:
            return frames.repeat(3, axis=-1)
        case 4:
            return composite(frames, (255, 255, 255))
    return frames


def near_groups(signatures: Sequence[np.ndarray] | np.ndarray) -> tuple[Group, ...]:
    """Places of the clips that are near each other, directly or by way of others; each group and their list in order.

    Every pair is compared, the unlikely ones by coarser signatures: averages of both can only lie nearer than they
    themselves. Time grows as the square of the clips (20,000 take seconds), memory as their number.
    """
    if len(signatures) < 2:
        return ()
    flat = np.asarray(signatures).reshape(len(signatures), -1)
    coarse, variance = _measures(flat)
    order = np.argsort(coarse.mean(axis=1), kind="stable")
    flat, coarse, variance = flat[order], coarse[order], variance[order]
    labels = np.arange(len(flat))
    for start in range(0, len(flat), BLOCK):
        close = _close(coarse, variance, start)
        for place, row in enumerate(close, start=start):
            others = start + np.flatnonzero(row)
            # Those in its group already need no look: in a folder full of one clip these are nearly all.
            others = others[labels[others] != labels[place]]
            near = others[_is_near(flat, variance, place, others)]
            if len(near):
                labels[np.isin(labels, labels[near])] = labels[place]
    members = order[np.argsort(labels, kind="stable")]
    groups = np.split(members, np.flatnonzero(np.diff(np.sort(labels))) + 1)
    return tuple(sorted(tuple(sorted(group.tolist())) for group in groups if len(group) > 1))


def _thumbnail(frame: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(np.ascontiguousarray(frame)).resize((SIDE, SIDE), Image.Resampling.BOX))


def _measures(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of signatures `n d`: coarser ones, float32 `n d/16` around 0, and the variance of what is seen, `n`."""
    step = SIDE // COARSE_SIDE
    coarse, variance = [], []
    for start in range(0, len(flat), BLOCK):
        block = flat[start : start + BLOCK].astype(np.float32) - 127.5  # around 0, float32 loses the least
        thumbnails = block.reshape(-1, MOMENTS, COARSE_SIDE, step, COARSE_SIDE, step, 3)
        coarse.append(thumbnails.mean(axis=(3, 5)).reshape(len(block), -1))
        variance.append(block.reshape(len(block), -1, 3).var(axis=1).mean(axis=-1))
    return np.concatenate(coarse), np.concatenate(variance)


def _close(coarse: np.ndarray, variance: np.ndarray, start: int) -> np.ndarray:
    """Which signatures from `start` on may be near those of the block that begins there: bool `block n`."""
    block = coarse[start : start + BLOCK]
    # In the order of brightness, which differs by less than the pictures do; near clips have about equal contrasts.
    brightness = coarse.mean(axis=1)
    reach = NEAR / (1 - NEAR) * max(MIN_CONTRAST, float(np.sqrt(variance[start : start + BLOCK].max())))
    stop = int(np.searchsorted(brightness, brightness[start + len(block) - 1] + reach + SLACK, side="right"))
    ahead = coarse[start:stop]
    distances = np.square(block).mean(axis=1)[:, None] + np.square(ahead).mean(axis=1)
    distances -= (block @ ahead.T) * (2 / coarse.shape[1])
    close: np.ndarray = distances <= _allowed(variance[start : start + len(block), None], variance[start:stop]) + SLACK
    return np.triu(close, 1)


def _is_near(flat: np.ndarray, variance: np.ndarray, place: int, others: np.ndarray) -> np.ndarray:
    """Whether each of `others` is near the signature at `place`: bool."""
    distances = [
        np.square(flat[some].astype(np.float32) - flat[place]).mean(axis=1)
        for some in np.split(others, range(BLOCK, len(others), BLOCK))
    ]
    near: np.ndarray = np.concatenate(distances) <= _allowed(variance[place], variance[others])
    return near


def _allowed(variance: np.ndarray, other_variance: np.ndarray) -> np.ndarray:
    """The mean square difference up to which two signatures are near."""
    allowed: np.ndarray = NEAR**2 * np.maximum(MIN_CONTRAST**2, (variance + other_variance) / 2)
    return allowed
