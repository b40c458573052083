"""What is seen of a clip: its facts, and the pixels that training takes from it."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Self

import numpy as np
import PIL

from t2v.cache import Facts
from t2v.config import DataSettings, FitName, FormatName, LimitsSettings, ShortName, StillsName, WindowName
from t2v.data import clip, gif, limits, readers, reading
from t2v.data.clip import frame_times, grid_times, lengthened, parse_colour, to_square
from t2v.data.limits import USUAL, Limits
from t2v.data.readers import open_clip
from t2v.data.reading import facts_of, unpack
from t2v.errors import ClipError

DEFAULTS = DataSettings()


@dataclass(frozen=True)
class Pixels:
    """The settings that decide which files are clips and which of their pixels training sees.

    `config.DataSettings` says what each does. window, short: not used where fps is None
    Raises SettingsError for a background that is no colour.
    """

    num_frames: int
    size: int
    channels: int
    background: str
    fit: FitName
    fps: float | None = None
    window: WindowName = "random"
    short: ShortName = "loop"
    stills: StillsName = DEFAULTS.stills
    formats: tuple[FormatName, ...] = DEFAULTS.formats
    sequence_fps: float = DEFAULTS.sequence_fps
    limits: Limits = USUAL

    def __post_init__(self) -> None:
        parse_colour(self.background)

    @classmethod
    def of(cls, data: DataSettings, limits: LimitsSettings) -> Self:
        """The pixels that a recipe asks for."""
        asked = data.model_dump(exclude={"flip_prob", "hold_out", "lengths"}) | {
            "num_frames": data.most_frames,
            "window": data.window or cls.window,
            "short": data.short or cls.short,
        }
        return cls(**asked, limits=Limits(**limits.model_dump()))

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """What `as_json` gave."""
        return cls(**{**content, "formats": tuple(content["formats"]), "limits": Limits(**content["limits"])})

    def as_json(self) -> dict[str, Any]:
        """All settings, as JSON can hold them."""
        return asdict(self)

    @property
    def item_shape(self) -> tuple[int, int, int]:
        """h w c of a frame"""
        return (self.size, self.size, self.channels)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """f h w c of what training sees at once"""
        return (self.num_frames, *self.item_shape)

    @property
    def kind(self) -> str:
        """A name that is equal where the pixels of every clip are: the settings, and the code that reads files."""
        shape = "x".join(map(str, self.shape))
        # With an alpha channel nothing is laid on a colour.
        colour = "" if self.channels == 4 else "-" + bytes(parse_colour(self.background)).hex()
        return f"clips/{shape}-{self.fit}{colour}-{self._rules_hash()}-{code_fingerprint()}"

    def decode(self, contents: Sequence[bytes]) -> tuple[Facts, np.ndarray | None]:
        """Facts of a clip's content, and uint8 `n h w c`; of a damaged one the reason alone.

        n: num_frames; 1 for a still that is trained jointly; at least num_frames where windows are to be chosen
        """
        try:
            opened, frames = self._unpack(contents)
        except ClipError as error:
            return {"reason": str(error)}, None
        return facts_of(opened), frames

    def refusal(self, facts: Facts) -> str | None:
        """Why a clip that can be read is none by these settings; None where it is one. Follows the clip's name."""
        if facts["format"] not in self.formats:
            return f"is a {facts['format']} file; data.formats has only {', '.join(self.formats)}"
        if facts["num_frames"] == 1 and self.stills == "leave_out":
            return "is a single picture; data.stills is leave_out"
        return None

    def choose(self, frame_ms: np.ndarray) -> np.ndarray:
        """Numbers of the frames that are seen of a clip, int64 `n`. frame_ms: float64 `f`"""
        if len(frame_ms) == 1:
            return np.zeros(self.num_frames if self.stills == "repeat" else 1, dtype=np.int64)
        if self.fps is None:
            return frame_times(frame_ms, self.num_frames)
        chosen = lengthened(grid_times(frame_ms, self.fps), self.num_frames, self.short)
        return chosen[: self.num_frames] if self.window == "head" else chosen

    def _unpack(self, contents: Sequence[bytes]) -> reading.Unpacked:
        colour = parse_colour(self.background)

        def finish(canvas: np.ndarray) -> np.ndarray:
            return to_square(canvas, size=self.size, channels=self.channels, colour=colour, fit=self.fit)

        opened = open_clip(contents, limits=self.limits, sequence_fps=self.sequence_fps)
        return unpack(opened, self.choose, finish, shape=self.item_shape)

    def _rules_hash(self) -> str:
        """Short hash of the settings by which frames are chosen and files refused."""
        # Every window and a random one are chosen from the same frames.
        window = None if self.fps is None else self.window == "head"
        short = None if self.fps is None else self.short
        bounds = asdict(self.limits) | {"max_decode_s": None}  # time is no matter of the content
        rules = [self.fps, window, short, self.stills == "repeat", self.sequence_fps, bounds]
        return hashlib.sha256(repr(rules).encode()).hexdigest()[:8]


def code_fingerprint() -> str:
    """Short hash of our code that reads files, and of the versions of Pillow and libav's binding: other code may see
    other pixels."""
    # Of the files themselves: a number that somebody has to raise would one day not be raised.
    digest = hashlib.sha256(f"{PIL.__version__} {metadata.version('av')}".encode())
    for path in code_files():
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def code_files() -> list[Path]:
    """The files of our code that pixels depend on."""
    assert readers.__file__ is not None
    modules = [Path(module.__file__ or "") for module in (clip, gif, limits, reading)]
    return [*modules, *sorted(Path(readers.__file__).parent.glob("*.py")), Path(__file__)]
