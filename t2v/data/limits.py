"""Bounds on what one clip may cost, checked before any of it is spent."""

from dataclasses import dataclass

import numpy as np

from t2v.config import LimitsSettings
from t2v.errors import ClipError

MAX_KEPT_BYTES = 1 << 29  # of the frames kept of one clip, at the size they are kept in


@dataclass(frozen=True)
class Limits:
    """The most that a clip may have, as `config.LimitsSettings` says. Time is kept by who runs the decoder."""

    max_bytes: int
    max_frame_pixels: int
    max_frames: int
    max_pixels: int
    max_duration_s: float
    max_decode_s: float

    def check_frames(self, num_frames: int) -> None:
        """Raise ClipError for more frames than a clip may have."""
        if num_frames > self.max_frames:
            raise ClipError(f"has more than {self.max_frames} frames (limits.max_frames)")

    def check_size(self, width: int, height: int) -> None:
        """Raise ClipError for a picture without pixels, or with too many."""
        if not (width > 0 and height > 0):
            raise ClipError(f"is {width} x {height} pixels large")
        if width * height > self.max_frame_pixels:
            most = f"the most is {self.max_frame_pixels:,} (limits.max_frame_pixels)"
            raise ClipError(f"claims frames of {width * height:,} pixels; {most}")

    def check_whole(self, frame_ms: np.ndarray, *, work: int) -> None:
        """Raise ClipError for a clip that takes too long to watch or to unpack.

        frame_ms: `f`; work: pixels gone through to unpack every frame
        """
        self.check_frames(len(frame_ms))
        if work > self.max_pixels:
            most = f"the most is {self.max_pixels:,} (limits.max_pixels)"
            raise ClipError(f"is too large: {work:,} pixels in {len(frame_ms)} frames; {most}")
        seconds = float(frame_ms.sum()) / 1000
        if seconds > self.max_duration_s:
            raise ClipError(f"lasts {seconds:g} s; the most is {self.max_duration_s:g} s (limits.max_duration_s)")

    def check_bytes(self, num_bytes: int) -> None:
        """Raise ClipError for more content than is read for one clip."""
        if num_bytes > self.max_bytes:
            raise ClipError(f"has {num_bytes >> 20} MB; the most is {self.max_bytes >> 20} MB (limits.max_bytes)")


USUAL = Limits(**LimitsSettings().model_dump())
