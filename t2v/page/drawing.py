"""A visitor's request, from its settings to clips on the shelf, told in moments that a page can show."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import numpy as np

from t2v.config import GenerationSettings
from t2v.page.shelf import KeptClip, Shelf
from t2v.service import GenerationService

# A browser needs no more, and every moment told costs the machine that draws.
PROGRESS_EVERY_S = 0.5
PREVIEW_EVERY_S = 1.0


@dataclass(frozen=True)
class Moment:
    """How far a request is.

    done, total: denoising steps over all its clips
    preview: uint8 b f h w c, the clips at work as they look by now; None where the last one shown is still good
    finished: the clips that are complete, all of them so far
    """

    done: int
    total: int
    seconds: float
    frame_ms: float
    preview: np.ndarray | None = None
    finished: tuple[KeptClip, ...] = ()
    is_stopped: bool = False

    @property
    def seconds_left(self) -> float | None:
        """At the rate so far; None before there is one."""
        return self.seconds / self.done * (self.total - self.done) if self.done > 1 else None


def draw(
    service: GenerationService,
    settings: GenerationSettings,
    shelf: Shelf,
    *,
    is_stopped: Callable[[], bool],
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Moment]:
    """Draw what resolved settings ask for. Once `is_stopped`, the network is not asked again.

    Yields a moment now and then, whenever a clip is complete, and at the end.
    """
    assert settings.fps is not None
    total, frame_ms = settings.num_steps * settings.num_clips, 1000 / settings.fps
    done = 0
    finished: tuple[KeptClip, ...] = ()
    started = clock()
    told = shown = -np.inf
    with closing(service.generate(settings)) as steps:
        while not is_stopped() and (step := next(steps, None)) is not None:
            done += len(step.clips)
            total = step.num_steps * settings.num_clips  # a spacing may take some more than were asked for
            finished += tuple(shelf.add(clip) for clip in step.finished)
            now = clock()
            if step.finished:
                yield Moment(done, total, now - started, frame_ms, finished=finished)
                told = clock()
            elif now - told >= PROGRESS_EVERY_S:
                preview = step.preview() if now - shown >= PREVIEW_EVERY_S else None
                yield Moment(done, total, now - started, frame_ms, preview, finished)
                told = clock()
                shown = shown if preview is None else told
    if done < total:
        yield Moment(done, total, clock() - started, frame_ms, finished=finished, is_stopped=True)


class StopButtons:
    """One for each visitor, which ends what that visitor has under way and nothing of anybody else's."""

    def __init__(self) -> None:
        self._under_way: defaultdict[str, list[threading.Event]] = defaultdict(list)
        self._changing = threading.Lock()

    @contextmanager
    def watched(self, visitor: str) -> Iterator[Callable[[], bool]]:
        """For the time of one request: whether its visitor has pressed since it began."""
        pressed = threading.Event()
        with self._changing:
            self._under_way[visitor].append(pressed)
        try:
            yield pressed.is_set
        finally:
            with self._changing:
                self._under_way[visitor].remove(pressed)
                if not self._under_way[visitor]:
                    del self._under_way[visitor]

    def is_under_way(self, visitor: str) -> bool:
        """Whether the visitor has a request that is not over."""
        with self._changing:
            return visitor in self._under_way

    def press(self, visitor: str) -> bool:
        """End the visitor's requests under way; says whether there were any."""
        with self._changing:
            under_way = list(self._under_way.get(visitor, ()))
        for pressed in under_way:
            pressed.set()
        return bool(under_way)
