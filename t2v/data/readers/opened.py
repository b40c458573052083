"""What a reader gives: the structure of a file at once, its pictures one after another."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import numpy as np

from t2v.config import FormatName

BROWSER_MS = 100.0  # what browsers show a frame for that asks for no more than MAX_HASTE_MS
MAX_HASTE_MS = 10.0


@dataclass(frozen=True)
class Opened:
    """A clip whose structure has been read, and none of its pixels.

    width, height: of the picture as it is shown
    frame_ms: float64 `f`, how long each frame is shown; [0] for a still, which knows no time
    work: pixels that are gone through to unpack every frame
    canvases: called with the numbers of the frames wanted; goes through all frames, as damage anywhere refuses the
        clip, and yields those in order, each uint8 `h w 4` with straight alpha, which may be drawn on again for the
        next. Raises ClipError for damage, and Retimed where the frames are not those that the structure promised.
    """

    format: FormatName
    width: int
    height: int
    frame_ms: np.ndarray
    work: int
    canvases: Callable[[Collection[int]], Iterator[np.ndarray]]


class Retimed(Exception):
    """Unpacked, a clip has other frames than its structure promised. `opened` has the true ones."""

    def __init__(self, opened: Opened) -> None:
        super().__init__()
        self.opened = opened


def shown_ms(delay_ms: float) -> float:
    """How long a browser shows a frame of an animated picture that asks for delay_ms."""
    return delay_ms if delay_ms > MAX_HASTE_MS else BROWSER_MS
