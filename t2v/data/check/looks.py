"""What can be said of a clip by looking at the pictures that training sees of it."""

import hashlib
from dataclasses import dataclass

import numpy as np

from t2v.data.near import as_rgb

FLAT = 4  # of 255: a picture that nowhere differs by more from its corner is one flat colour
DARK = 8.0  # mean of 255 under which a picture is black to the eye
FLASH = 40.0  # change of a picture's mean brightness, of 255, from one picture to the next


@dataclass(frozen=True)
class Look:
    """Measures of the pictures that training sees of one clip, in steps of 0 to 255 where they are of colour.

    num_pictures: as many as training may take from the clip; num_changes: how often one differs from that before
    num_flat: pictures of one flat colour; num_flashes: how often the whole picture turns from lighter to darker or back
    motion: mean change of a value from one picture to the next; brightness: mean of all values
    pixels_sha256: equal where the pictures are, whatever files they come from
    """

    num_pictures: int
    num_changes: int
    num_flat: int
    num_flashes: int
    motion: float
    brightness: float
    pixels_sha256: str

    @property
    def is_flat(self) -> bool:
        """Whether no picture shows anything."""
        return self.num_flat == self.num_pictures

    @property
    def is_dark(self) -> bool:
        """Whether all of it is black to the eye."""
        return self.brightness < DARK


def look_at(frames: np.ndarray) -> Look:
    """Measure the pictures of one clip, uint8 `n h w c`."""
    rgb = as_rgb(frames)
    values = np.ascontiguousarray(rgb).reshape(len(rgb), -1)
    changes = _differences(values[1:], values[:-1])
    from_corner = _differences(rgb, rgb[:, :1, :1]).reshape(values.shape)
    brightness = values.mean(axis=1)
    return Look(
        num_pictures=len(rgb),
        num_changes=int(changes.any(axis=1).sum()),
        num_flat=int((from_corner.max(axis=1) <= FLAT).sum()),
        num_flashes=_num_flashes(brightness),
        motion=round(float(changes.mean()), 3) if changes.size else 0.0,
        brightness=round(float(brightness.mean()), 3),
        pixels_sha256=hashlib.sha256(np.ascontiguousarray(frames).data).hexdigest(),
    )


def _differences(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """How far values of 0 to 255 lie apart, in uint8: four times as fast as by way of signed numbers."""
    return np.maximum(one, other) - np.minimum(one, other)


def _num_flashes(brightness: np.ndarray) -> int:
    """How often a large change of brightness is followed by one the other way."""
    steps = np.diff(brightness)
    large = np.sign(steps[np.abs(steps) >= FLASH])
    return int((large[1:] != large[:-1]).sum())
