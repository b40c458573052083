"""Which prompts are drawn, with which seeds and in which order.

The seed of a clip is a function of the evaluation's seed, the split, the prompt's place in it and which of the prompt's
clips it is. So a prompt gets the same clip whatever else is asked for.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from t2v.config import FamilyName, SplitName
from t2v.data.worlds.prompts import NUM_ONE, NUM_TWO, Prompt, prompts
from t2v.runtime import derived_seed
from t2v.service import MAX_DRAWN_SEED

AT_NIGHT = "fireworks at night"
KINDS = ("one", "two", AT_NIGHT)
NUM_REPEATS = 10  # clips of each wording of fireworks at night, where all prompts are asked
GOLDEN = (5**0.5 - 1) / 2

Item = TypeVar("Item")


@dataclass(frozen=True)
class Question:
    """One clip to draw. place: of the prompt in its split, in the order of the file; repeat: which clip of it."""

    prompt: Prompt
    place: int
    repeat: int
    seed: int


def questions(
    seed: int, splits: Sequence[SplitName], families: Sequence[FamilyName], num_prompts: int | None
) -> list[Question]:
    """The clips to draw, in an order in which every beginning is spread evenly over splits, kinds and families.

    num_prompts: of each split, evenly spread, and of each of their halves and so on: a smaller number asks for some of
        what a larger one does. Those of fireworks at night are drawn as many times fewer. None takes all
    """
    ranked: list[tuple[float, Question]] = []
    for split in splits:
        there = [
            (place, prompt)
            for place, prompt in enumerate(one for one in prompts() if one.split == split)
            if prompt.facts["family"] in families
        ]
        usual = [(place, prompt) for place, prompt in there if prompt.kind != AT_NIGHT]
        asked = [(place, prompt, 0) for place, prompt in spread_order(usual)[:num_prompts]]
        repeats = range(num_repeats(num_prompts))
        at_night = [(*one, repeat) for repeat in repeats for one in there if one[1].kind == AT_NIGHT]
        for group in (asked, at_night):
            ranked += [
                ((rank + 0.5) / len(group), Question(prompt, place, repeat, clip_seed(seed, split, place, repeat)))
                for rank, (place, prompt, repeat) in enumerate(group)
            ]
    return [question for _, question in sorted(ranked, key=lambda one: one[0])]


def num_repeats(num_prompts: int | None) -> int:
    """Clips of each wording of fireworks at night."""
    whole = NUM_ONE + NUM_TWO
    return -(-NUM_REPEATS * min(num_prompts or whole, whole) // whole)


def clip_seed(seed: int, *keys: int | str) -> int:
    """The seed that a clip is drawn with."""
    return derived_seed("evaluate", seed, *keys) % MAX_DRAWN_SEED


def spread_order(items: Sequence[Item]) -> list[Item]:
    """The items in an order in which the first few, however many, are spread evenly over all.

    By multiples of the golden section, which leave no large gap at any time (the additive recurrence of the lowest
    discrepancy; Niederreiter 1992, section 3.1).
    """
    return [items[place] for place in _spread_places(len(items))]


def _spread_places(length: int) -> Iterator[int]:
    seen: set[int] = set()
    number = 0
    while len(seen) < length:
        place = int(length * ((number * GOLDEN + 0.5) % 1))
        if place not in seen:
            seen.add(place)
            yield place
        number += 1
