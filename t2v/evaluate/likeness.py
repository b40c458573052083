"""How like real clips drawn ones are: distances between the two, how much moves, and whether any is a copy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from t2v.data.near import as_rgb
from t2v.evaluate.real import RealClips, RealData
from t2v.evaluation.distances import frechet_distance, kernel_distance
from t2v.evaluation.features import clip_features, features_sha256
from t2v.evaluation.intervals import Interval, wilson
from t2v.evaluation.liveliness import flicker, motion_energy
from t2v.evaluation.memorisation import Nearest, memorised, nearest_clips

MIN_FOR_MOTION, MIN_FOR_FLICKER = 2, 3  # frames
MIN_FOR_DISTANCES = 2  # clips
MIN_FOR_COPIES = 20  # held-out clips: of fewer the first percentile says nothing
PERCENTILE = 1.0
NUM_PAIRS = 24


class Beside(NamedTuple):
    """A figure of drawn clips beside the same of real ones, None where there are too few of those."""

    drawn: float
    real: float | None


class Pair(NamedTuple):
    """A drawn clip and the clip of training that is nearest to it: uint8 f h w c, and their distance in levels."""

    caption: str
    distance: float
    drawn: NDArray[np.uint8]
    known: NDArray[np.uint8]


class Copies(NamedTuple):
    """How near drawn clips are to clips of training, beside how near held-out clips are.

    num_near: drawn clips nearer than `threshold`, the 1st percentile of the held-out ones' distances
    drawn, held_out: distances, one a clip; pairs: those of the drawn clips that are nearest, the nearest first
    """

    num_near: int
    threshold: float
    drawn: NDArray[np.float64]
    held_out: NDArray[np.float64]
    pairs: tuple[Pair, ...]

    @property
    def share(self) -> float:
        return self.num_near / len(self.drawn)

    @property
    def interval(self) -> Interval:
        return wilson(self.num_near, len(self.drawn))


@dataclass(frozen=True)
class Likeness:
    """Measures of so many drawn clips, each beside as many real ones.

    frechet, kernel: distance of drawn from held-out clips, beside that of as many clips of training from them: the
        floor
    motion, flicker: means; None of clips too short
    copies: None where that cannot be told, for the reason in `no_copies`
    """

    num_clips: int
    num_known: int
    frechet: Beside
    kernel: Beside
    motion: Beside | None
    flicker: Beside | None
    copies: Copies | None
    no_copies: str

    def as_dict(self) -> dict[str, Any]:
        """All figures, as JSON can hold them."""
        return {
            "clips": self.num_clips,
            "features_sha256": features_sha256(),
            "frechet_distance": {"drawn": self.frechet.drawn, "floor": self.frechet.real},
            "kernel_distance": {"drawn": self.kernel.drawn, "floor": self.kernel.real},
            "motion_energy": None if self.motion is None else self.motion._asdict(),
            "flicker": None if self.flicker is None else self.flicker._asdict(),
            "memorised": self._copies_as_dict(),
        }

    def _copies_as_dict(self) -> dict[str, Any]:
        if self.copies is None:
            return {"unknown": self.no_copies}
        copies = self.copies
        low, high = copies.interval
        return {
            "near": copies.num_near,
            "clips": len(copies.drawn),
            "share": copies.share,
            "low": low,
            "high": high,
            "threshold": copies.threshold,
            "searched": self.num_known,
            "median_distance": {"drawn": median(copies.drawn), "held_out": median(copies.held_out)},
        }


def likeness(drawn: Sequence[NDArray[np.uint8]], real: RealData, *, mirrored: bool) -> Likeness:
    """Hold drawn clips against real ones; at least two of each.

    drawn: each uint8 f h w c, for the captions of the first held-out clips
    mirrored: whether training mirrors clips, so that the mirror image of one is a copy too
    """
    held_out, known = real.held_out.first(len(drawn)), real.known.first(len(drawn))
    features, beside = _features(drawn), _features(held_out.frames)
    # The bias of a distance depends on the number of clips; and what was trained on has no distance from itself.
    has_floor = len(known) == len(drawn) and not real.is_trained_on
    floor = _features(known.frames) if has_floor else None
    num_frames = len(drawn[0])
    reason = _no_copies(real)
    return Likeness(
        num_clips=len(drawn),
        num_known=len(real.known),
        frechet=Beside(frechet_distance(features, beside), None if floor is None else frechet_distance(floor, beside)),
        kernel=Beside(kernel_distance(features, beside), None if floor is None else kernel_distance(floor, beside)),
        motion=_means(motion_energy, drawn, held_out) if num_frames >= MIN_FOR_MOTION else None,
        flicker=_means(flicker, drawn, held_out) if num_frames >= MIN_FOR_FLICKER else None,
        copies=None if reason else _copies(drawn, real, mirrored=mirrored),
        no_copies=reason,
    )


def _features(clips: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    return clip_features([as_rgb(frames) for frames in clips])


def _means(
    measure: Callable[[NDArray[np.uint8]], float], drawn: Sequence[NDArray[np.uint8]], real: RealClips
) -> Beside:
    return Beside(*(fmean(measure(as_rgb(frames)) for frames in clips) for clips in (drawn, real.frames)))


def _no_copies(real: RealData) -> str:
    """Why it cannot be told whether drawn clips are copies; empty where it can."""
    if real.is_trained_on:
        return "no clip was held out from training to compare with; --held-out names a folder of such clips"
    if not len(real.known):
        return "no clip of training is known"
    if len(real.held_out) < MIN_FOR_COPIES:
        return f"{len(real.held_out)} clips were held out, and at least {MIN_FOR_COPIES} are needed"
    return ""


def _copies(drawn: Sequence[NDArray[np.uint8]], real: RealData, *, mirrored: bool) -> Copies:
    known = np.stack(real.known.frames)
    ours = _nearest(np.stack(drawn), known, mirrored=mirrored)
    theirs = _nearest(np.stack(real.held_out.frames), known, mirrored=mirrored)
    threshold = memorised(ours.distance, theirs.distance, percentile=PERCENTILE).threshold
    num_near = int((ours.distance < threshold).sum())
    pairs = tuple(
        Pair(real.held_out.captions[at], float(ours.distance[at]), drawn[at], real.known.frames[ours.place[at]])
        for at in np.argsort(ours.distance)[:NUM_PAIRS]
    )
    return Copies(num_near, threshold, ours.distance, theirs.distance, pairs)


def _nearest(clips: NDArray[np.uint8], known: NDArray[np.uint8], *, mirrored: bool) -> Nearest:
    """The nearest known clip of each, as it is or mirrored."""
    found = nearest_clips(clips, known)
    if not mirrored:
        return found
    turned = nearest_clips(clips[..., ::-1, :], known)
    nearer = turned.distance < found.distance
    return Nearest(np.where(nearer, turned.distance, found.distance), np.where(nearer, turned.place, found.place))
