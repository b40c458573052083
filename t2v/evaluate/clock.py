"""Says how long work on clips takes: once that is known, and then now and again."""

import time
from collections.abc import Callable

from t2v.data.folder import count
from t2v.training.request import duration

FORETOLD_FROM = 3  # clips
TELL_EVERY_S = 60.0


class Clock:
    """Counts clips that are done. what: is done with them, such as "to draw"; say: told of the time"""

    def __init__(self, num_clips: int, what: str, say: Callable[[str], None]) -> None:
        self._num_clips, self._what, self._say = num_clips, what, say
        self._done = 0
        self._is_foretold = False
        self._began = self._said = time.monotonic()

    def count(self, number: int = 1) -> None:
        """So many clips more are done."""
        self._done += number
        now = time.monotonic()
        left = (now - self._began) / self._done * (self._num_clips - self._done)
        if not self._is_foretold and self._done >= FORETOLD_FROM:
            self._say(f"{count(self._num_clips, 'clip')} {self._what}: about {duration(left)}")
            self._is_foretold = True
        elif self._is_foretold and now - self._said > TELL_EVERY_S:
            self._say(f"{self._done:,} of {count(self._num_clips, 'clip')} done, about {duration(left)} left")
        else:
            return
        self._said = now
