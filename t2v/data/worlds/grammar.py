"""The little that captions of every family share: choosing words, articles, and which words there are."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")

# The forms of a verb: with he, and as a participle. The key goes with they.
VERBS: dict[str, tuple[str, str]] = {
    "blink": ("blinks", "blinking"),
    "bloom": ("blooms", "blooming"),
    "bounce": ("bounces", "bouncing"),
    "burst": ("bursts", "bursting"),
    "climb": ("climbs", "climbing"),
    "drift": ("drifts", "drifting"),
    "drop": ("drops", "dropping"),
    "expand": ("expands", "expanding"),
    "explode": ("explodes", "exploding"),
    "fall": ("falls", "falling"),
    "flash": ("flashes", "flashing"),
    "float": ("floats", "floating"),
    "get": ("gets", "getting"),
    "glide": ("glides", "gliding"),
    "go": ("goes", "going"),
    "grow": ("grows", "growing"),
    "hop": ("hops", "hopping"),
    "light": ("lights", "lighting"),
    "move": ("moves", "moving"),
    "rise": ("rises", "rising"),
    "rotate": ("rotates", "rotating"),
    "shrink": ("shrinks", "shrinking"),
    "sink": ("sinks", "sinking"),
    "slide": ("slides", "sliding"),
    "spin": ("spins", "spinning"),
    "travel": ("travels", "travelling"),
    "turn": ("turns", "turning"),
}


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    """One of the options, each as likely."""
    return options[int(rng.integers(len(options)))]


def chance(rng: np.random.Generator, prob: float) -> bool:
    """True with this probability."""
    return bool(rng.random() < prob)


def singular(phrase: str) -> str:
    """`move left` as one thing does it: `moves left`."""
    verb, _, rest = phrase.partition(" ")
    return f"{VERBS[verb][0]} {rest}".rstrip()


def participle(phrase: str) -> str:
    """`move left` as `moving left`."""
    verb, _, rest = phrase.partition(" ")
    return f"{VERBS[verb][1]} {rest}".rstrip()


def with_article(noun: str) -> str:
    """`a circle`, `an orange circle`."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def plural(noun: str) -> str:
    """`circles`, `boxes`."""
    return noun + ("es" if noun.endswith("x") else "s")


def wordings(rng: np.random.Generator, make: Callable[[], str], *, most: int = 3) -> tuple[str, ...]:
    """One to `most` different captions from `make`, which draws a new wording at every call."""
    return tuple(dict.fromkeys(make() for _ in range(rng.integers(1, most + 1))))


def words_in(*tables: object) -> set[str]:
    """Every word in the strings of nested tables (of a mapping, its values); `{slots}` are not words."""
    found: set[str] = set()
    for table in tables:
        if isinstance(table, str):
            found.update(re.findall(r"[a-z]+", re.sub(r"\{.*?\}", " ", table.lower())))
        elif isinstance(table, Mapping):
            found |= words_in(*table.values())
        elif isinstance(table, Iterable):
            found |= words_in(*table)
    return found
