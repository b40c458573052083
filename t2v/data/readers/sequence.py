"""Numbered frames of a folder, as one clip."""

from collections.abc import Collection, Iterator, Sequence

import numpy as np

from t2v.data.limits import Limits
from t2v.data.readers.opened import Opened
from t2v.errors import ClipError


def join_stills(stills: Sequence[Opened], limits: Limits, *, fps: float) -> Opened:
    """One clip of stills of one size, each shown for 1 / fps seconds. Raises ClipError where they make none."""
    limits.check_frames(len(stills))
    first = stills[0]
    for number, still in enumerate(stills, start=1):
        if len(still.frame_ms) > 1:
            raise ClipError(f"holds a moving picture as frame {number}")
        if (still.width, still.height) != (first.width, first.height):
            sizes = f"{first.width} x {first.height} and, in frame {number}, {still.width} x {still.height}"
            raise ClipError(f"holds frames of different sizes: {sizes}")

    def canvases(wanted: Collection[int]) -> Iterator[np.ndarray]:
        for number, still in enumerate(stills):
            try:
                for canvas in still.canvases((0,)):
                    if number in wanted:
                        yield canvas
            except ClipError as error:
                raise ClipError(f"holds frame {number + 1}, which {error}") from None

    return Opened(
        format="frames",
        width=first.width,
        height=first.height,
        frame_ms=np.full(len(stills), 1000 / fps),
        work=sum(still.work for still in stills),
        canvases=canvases,
    )
