"""Clips drawn from a checkpoint and kept in the person's cache, so that no clip is drawn twice.

An evaluation that was stopped goes on where it was, a larger one draws only what is missing, and a new judge judges
what was drawn for the old one.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
import torch

import t2v
from t2v.cache import RowCache
from t2v.config import GenerationSettings
from t2v.data.folder import count
from t2v.evaluate.clock import Clock
from t2v.sampling import GROUPS
from t2v.service import GenerationService

DRAWING_CODE = ("diffusion", "model", "runtime.py", "sampling.py", "service.py")


class Wish(NamedTuple):
    """A clip to be drawn."""

    prompt: str
    seed: int


@dataclass(frozen=True)
class DrawnClip:
    """A clip that was drawn. frames: uint8 f h w c; seconds: it took, then"""

    frames: np.ndarray
    seconds: float


class Drawer:
    """Draws clips with fixed settings, or finds them; to be used in a `with`.

    cache: where clips are kept from one start to the next; None keeps them in memory
    used: the settings, nothing left open but prompt and seed; seconds: that each clip took which was asked for
    """

    def __init__(
        self,
        service: GenerationService,
        settings: GenerationSettings,
        *,
        cache: Path | None,
        say: Callable[[str], None],
    ) -> None:
        self._service, self._settings, self._say = service, settings, say
        self.used = service.resolve(settings.model_copy(update={"prompt": settings.prompt or "a clip"}))
        size, channels = self.used.size, service.header.recipe.data.channels
        assert size is not None
        kind = f"drawn/{_fingerprint(service, self.used)}"
        self.seconds: list[float] = []
        self._rows = RowCache(cache, kind, shape=(size, size, channels), dtype=np.uint8, say=say)

    def __enter__(self) -> Self:
        self._rows.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rows.__exit__(kind, error, trace)

    def draw(self, wishes: Sequence[Wish]) -> Iterator[DrawnClip | None]:
        """The clips wished for, in order; None after each denoising step that finishes none.

        Says beforehand how many are to be drawn, and from the first of them how long all will take.
        """
        num_missing = len({wish for wish in wishes if self._rows.facts(_key(wish)) is None})
        if num_missing < len(wishes):
            self._say(f"{count(len(wishes) - num_missing, 'clip')} of {len(wishes):,} were drawn before")
        clock = Clock(num_missing, "to draw", self._say)
        at_once = GROUPS[self._service.device.type]
        for start in range(0, len(wishes), at_once):
            few = wishes[start : start + at_once]
            missing = [wish for wish in dict.fromkeys(few) if self._rows.facts(_key(wish)) is None]
            if missing:
                yield from self._draw(missing)
                clock.count(len(missing))
            for clip in map(self.kept, few):
                self.seconds.append(clip.seconds)
                yield clip

    def kept(self, wish: Wish) -> DrawnClip:
        """A clip that was drawn."""
        facts = self._rows.facts(_key(wish))
        assert facts is not None, f"{wish} is not drawn yet"
        return DrawnClip(self._rows.array(_key(wish)), facts["seconds"])

    def _draw(self, wishes: Sequence[Wish]) -> Iterator[None]:
        alike = self.used.model_copy(update={"num_clips": 1})
        asked = [alike.model_copy(update=wish._asdict()) for wish in wishes]
        for step in self._service.generate_each(asked):
            if not step.finished:
                yield None
            for clip in step.finished:
                self._rows.add(
                    _key(Wish(clip.settings.prompt, clip.seed)), clip.frames, {"seconds": round(clip.seconds, 4)}
                )


def _key(wish: Wish) -> str:
    return hashlib.sha256(json.dumps(wish).encode()).hexdigest()


def _fingerprint(service: GenerationService, used: GenerationSettings) -> str:
    """Equal where equal prompts and seeds give equal clips: weights, settings, arithmetic, and the code that draws."""
    settings = used.model_dump(mode="json", exclude={"prompt", "seed", "num_clips"})
    guide = None if service.guide is None else service.guide.sha256
    basis = [service.checkpoint.sha256, guide, settings, service.device.type, service.precision.name, _code()]
    return hashlib.sha256(json.dumps(basis, sort_keys=True).encode()).hexdigest()[:32]


def _code() -> str:
    """Hash of the code that clips depend on: a number that somebody has to raise would one day not be raised."""
    digest = hashlib.sha256(torch.__version__.encode())
    root = Path(t2v.__file__).parent
    for place in DRAWING_CODE:
        for file in sorted((root / place).glob("*.py")) or [root / place]:
            digest.update(file.read_bytes())
    return digest.hexdigest()
