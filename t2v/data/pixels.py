"""What is seen of a file: its facts, and the pixels that training takes from it."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import PIL

from t2v.cache import Facts
from t2v.data import clip, gif, video_files
from t2v.data.clip import Clip, parse_colour, to_training
from t2v.data.video_files import decode_clip
from t2v.errors import ClipError

if TYPE_CHECKING:  # a process that only decodes starts three times as fast without pydantic
    from t2v.config import FitName


@dataclass(frozen=True)
class Pixels:
    """The settings that decide which pixels of a file training sees; `clip.to_training` says what each does.

    Raises SettingsError for a background that is no colour.
    """

    num_frames: int
    size: int
    channels: int
    background: str
    fit: "FitName"

    def __post_init__(self) -> None:
        parse_colour(self.background)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """f h w c"""
        return (self.num_frames, self.size, self.size, self.channels)

    @property
    def kind(self) -> str:
        """A name that is equal where the pixels of every file are: the settings, and the code that reads files."""
        shape = "x".join(map(str, self.shape))
        # With an alpha channel nothing is laid on a colour.
        colour = "" if self.channels == 4 else "-" + bytes(parse_colour(self.background)).hex()
        return f"clips/{shape}-{self.fit}{colour}-{code_fingerprint()}"

    def decode(self, data: bytes) -> tuple[Facts, np.ndarray | None]:
        """Facts of a file's content, and uint8 f h w c; of a damaged one the reason alone."""
        try:
            read = decode_clip(data, max_side=self.size, num_frames=self.num_frames)
        except ClipError as error:
            return {"reason": str(error)}, None
        frames = to_training(
            read,
            num_frames=self.num_frames,
            size=self.size,
            channels=self.channels,
            background=self.background,
            fit=self.fit,
        )
        return facts_of(read), frames


def facts_of(read: Clip) -> Facts:
    """What a record tells of a clip, as JSON can hold it."""
    return {
        "num_frames": len(read.frames),
        "duration_ms": read.duration_ms,
        "width": read.width,
        "height": read.height,
    }


def code_fingerprint() -> str:
    """Short hash of our code that reads files, and of Pillow's version: other code may see other pixels."""
    # Of the files themselves: a number that somebody has to raise would one day not be raised.
    digest = hashlib.sha256(PIL.__version__.encode())
    for module in (clip, gif, video_files):
        assert module.__file__ is not None
        digest.update(Path(module.__file__).read_bytes())
    return digest.hexdigest()[:12]
