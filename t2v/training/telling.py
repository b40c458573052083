"""Progress of what takes long before a first step, said now and then."""

import time
from collections.abc import Callable

from t2v.training.request import duration

TELL_EVERY_S = 10.0


def telling(say: Callable[[str], None], what: str) -> Callable[[int, int], None]:
    """A function to be told how many are done and of how many, which says so now and then. what: e.g. `files read`"""
    began = said = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal said
        now = time.monotonic()
        if now - said > TELL_EVERY_S:
            said = now
            say(f"{done:,} of {total:,} {what}, about {duration((now - began) / done * (total - done))} left")

    return tell
