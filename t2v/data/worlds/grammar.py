"""The little that captions of every family share: choosing words, articles, and which words there are."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")
Told = str | tuple[int, str]  # a key of the facts, or of one subject's
UNSEEN_PROB = 0.5  # where a caption may use held-out wordings, how often each choice is among them

# The forms of a verb: with he, and as a participle. The key goes with they.
VERBS: dict[str, tuple[str, str]] = {
    "ascend": ("ascends", "ascending"),
    "blink": ("blinks", "blinking"),
    "bloom": ("blooms", "blooming"),
    "bounce": ("bounces", "bouncing"),
    "burst": ("bursts", "bursting"),
    "climb": ("climbs", "climbing"),
    "descend": ("descends", "descending"),
    "drift": ("drifts", "drifting"),
    "drop": ("drops", "dropping"),
    "dwindle": ("dwindles", "dwindling"),
    "expand": ("expands", "expanding"),
    "explode": ("explodes", "exploding"),
    "fall": ("falls", "falling"),
    "flash": ("flashes", "flashing"),
    "float": ("floats", "floating"),
    "get": ("gets", "getting"),
    "glide": ("glides", "gliding"),
    "go": ("goes", "going"),
    "grow": ("grows", "growing"),
    "head": ("heads", "heading"),
    "hop": ("hops", "hopping"),
    "illuminate": ("illuminates", "illuminating"),
    "jump": ("jumps", "jumping"),
    "light": ("lights", "lighting"),
    "move": ("moves", "moving"),
    "rise": ("rises", "rising"),
    "rotate": ("rotates", "rotating"),
    "shrink": ("shrinks", "shrinking"),
    "sink": ("sinks", "sinking"),
    "slide": ("slides", "sliding"),
    "sparkle": ("sparkles", "sparkling"),
    "spin": ("spins", "spinning"),
    "swell": ("swells", "swelling"),
    "switch": ("switches", "switching"),
    "travel": ("travels", "travelling"),
    "turn": ("turns", "turning"),
    "whirl": ("whirls", "whirling"),
}


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    """One of the options, each as likely."""
    return options[int(rng.integers(len(options)))]


def chance(rng: np.random.Generator, prob: float) -> bool:
    """True with this probability."""
    return bool(rng.random() < prob)


class Voice:
    """Chooses the words of one caption, and remembers what was said.

    said: what the caption tells of the clip's facts: a key of the facts, or (number of the subject, key)
    used_unseen: whether a held-out wording is among the words

    Held-out wordings are a second list beside each ordinary one, so that training captions draw from a list without
    them: which of them are held out can never change what a seed says.
    """

    def __init__(self, rng: np.random.Generator, *, unseen: bool = False) -> None:
        self.rng = rng
        self.unseen = unseen
        self.said: set[Told] = set()
        self.used_unseen = False

    def pick(self, options: Sequence[T], held_out: Sequence[T] = (), *, says: Told | None = None) -> T:
        """One of the options, or, where unseen wordings are wanted, perhaps one of those held out."""
        if says is not None:
            self.said.add(says)
        if self.unseen and held_out and self.chance(UNSEEN_PROB):
            self.used_unseen = True
            return pick(self.rng, held_out)
        return pick(self.rng, options)

    def maybe(
        self, prob: float, options: Sequence[str], held_out: Sequence[str] = (), *, says: Told | None = None
    ) -> str:
        """`pick` with this probability, or nothing."""
        return self.pick(options, held_out, says=says) if self.chance(prob) else ""

    def chance(self, prob: float) -> bool:
        """True with this probability."""
        return chance(self.rng, prob)

    def says(self, *told: Told) -> None:
        """Remember what is said without a choice of words."""
        self.said.update(told)

    def aside(self) -> "Voice":
        """A voice on the same stream for words that may yet be left out."""
        return Voice(self.rng, unseen=self.unseen)

    def take(self, aside: "Voice") -> None:
        """Remember what an aside said: its words are in the caption after all."""
        self.said |= aside.said
        self.used_unseen |= aside.used_unseen


def speak(rng: np.random.Generator, make: Callable[[Voice], str], *, unseen: bool = False) -> tuple[str, Voice]:
    """One caption and the voice that said it. unseen: it holds at least one held-out wording."""
    while True:
        voice = Voice(rng, unseen=unseen)
        caption = make(voice)
        if voice.used_unseen == unseen:
            return caption, voice


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


def joined(*parts: str) -> str:
    """The parts that are not empty, with a space between."""
    return " ".join(part for part in parts if part)


def wordings(
    rng: np.random.Generator, make: Callable[[Voice], str], *, unseen: bool = False, most: int = 3
) -> tuple[str, ...]:
    """One to `most` different captions from `make`, which draws a new wording at every call."""
    return tuple(dict.fromkeys(speak(rng, make, unseen=unseen)[0] for _ in range(rng.integers(1, most + 1))))


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
