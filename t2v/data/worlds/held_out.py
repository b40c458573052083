"""What is held out: combinations of attributes that no clip to train on shows, whatever its seed, index or size.

A combination is held out if the BLAKE2b hash of its words after the salt is divisible by eight. Nothing else decides,
so a family that grows keeps what was held out before. A clip is held out if any of its combinations is. Left and right
are one word to the hash, sideways: training mirrors clips whose caption names no side, and a mirror image must not show
what is held out.

Held-out wordings need no hash: they stand in tables of their own (named UNSEEN), beside those that training draws from.
A hash over the one table there was would have taken phrases out of it and so changed the captions of every seed.
"""

from collections.abc import Mapping
from hashlib import blake2b
from itertools import combinations as choices
from typing import Any, NamedTuple

from t2v.data.worlds.grammar import Told

# Of the salts tried in order the first under which 10 to 15% of the combinations of every family are held out, every
# two values of a family still meet in training, and data/ and the example prompts, which people train on and see first,
# hold none of the combinations.
SALT = "worlds 269270"
ONE_IN = 8

# What makes a combination in each family but the shapes.
KEYS: dict[str, tuple[Told, ...]] = {
    "fireworks": ("colours", "number", "backdrop"),
    "weather": ((0, "subject"), "amount", "wind", "backdrop"),
    "suns": ((0, "motion"), (0, "colour"), "backdrop", "place"),
    "waves": ((0, "colour"), (0, "motion"), (0, "size"), "backdrop"),
    "candles": ((0, "colour"), "number", (0, "motion")),
    "rockets": ((0, "colour"), (0, "size"), "backdrop"),
    "pendulums": ((0, "colour"), (0, "speed"), "backdrop"),
}


class Combination(NamedTuple):
    """Values that come together in a clip.

    words: the family and the values, e.g. `shapes: red circle up` or `shapes: red circle sideways`
    told: which facts they are, as a caption that names the combination says them
    """

    words: str
    told: frozenset[Told]


def combinations(facts: Mapping[str, Any]) -> tuple[Combination, ...]:
    """The combinations in a clip: of shapes one a subject, and one of the pair; of other families one."""
    family, subjects = facts["family"], facts["subjects"]
    if family != "shapes":
        told = [key for name in KEYS[family] for key in _keys(name, len(subjects))]
        values = (unsided(_value(facts, name)) for name in KEYS[family])
        return (Combination(f"{family}: {' '.join(values)}", frozenset(told)),)
    alone = [
        Combination(
            f"shapes: {subject['colour']} {subject['subject']} {unsided(subject['motion'])}",
            frozenset((number, key) for key in ("colour", "subject", "motion")),
        )
        for number, subject in enumerate(subjects)
    ]
    return (*alone, *(_pair(one, two) for one, two in choices(subjects, 2)))


def is_held_out(combination: Combination) -> bool:
    """Whether no clip to train on may show this combination."""
    digest = blake2b(f"{SALT}|{combination.words}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) % ONE_IN == 0


def shows_held_out(facts: Mapping[str, Any]) -> bool:
    """Whether a clip of these facts is of a held-out combination."""
    return any(is_held_out(combination) for combination in combinations(facts))


def unsided(value: str) -> str:
    """The value, the same for a clip and its mirror image."""
    return "sideways" if value in ("left", "right") else value


def _pair(one: Mapping[str, str], two: Mapping[str, str]) -> Combination:
    """Two subjects side by side, whatever they do; their order in the facts means nothing."""
    names = sorted(f"{subject['colour']} {subject['subject']}" for subject in (one, two))
    told = frozenset((number, key) for number in (0, 1) for key in ("colour", "subject"))
    return Combination(f"shapes: {names[0]} and {names[1]}", told)


def _keys(name: Told, num_subjects: int) -> list[Told]:
    return [(number, "colour") for number in range(num_subjects)] if name == "colours" else [name]


def _value(facts: Mapping[str, Any], name: Told) -> str:
    if name == "colours":
        return "+".join(sorted({subject["colour"] for subject in facts["subjects"]}))
    if isinstance(name, str):
        return str(facts[name])
    number, key = name
    return str(facts["subjects"][number][key])
