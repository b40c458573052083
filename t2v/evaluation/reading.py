"""What the judge says of a clip, and whether that is what was asked for."""

from collections.abc import Callable, Mapping, Sequence
from itertools import permutations
from types import MappingProxyType
from typing import Any, NamedTuple

UNKNOWN = "unknown"  # something is there that is none of what the judge knows
STILL = "still"  # the motion of what does not move
NOTHING = "nothing"  # the family of a clip in which nothing is seen
MANY = "many"  # asked as a colour: of at least MANY_COLOURS kinds
MANY_COLOURS = 3

WHOLE = ("family", "number", "backdrop")
TRAITS = ("subject", "colour", "size", "motion", "speed")


class Seen(NamedTuple):
    """One subject as it was seen; every entry may be "unknown". speed: empty where the family has none."""

    subject: str
    colour: str
    size: str
    motion: str
    speed: str = ""


class Reading(NamedTuple):
    """What a clip shows, in the names of the worlds' facts.

    others: what only some families have (a place, an amount, a wind); what a reader does not read is not in it
    """

    family: str
    number: int
    backdrop: str
    subjects: tuple[Seen, ...]
    others: Mapping[str, str] = MappingProxyType({})


def nothing(backdrop: str = UNKNOWN) -> Reading:
    """The reading of a clip in which nothing is seen, at most a backdrop."""
    return Reading(NOTHING, 0, backdrop, ())


def agrees(reading: Reading, asked: Mapping[str, Any]) -> dict[str, bool]:
    """Whether a reading is what was asked for, attribute by attribute; what was not asked gets no verdict.

    asked: facts of the worlds, or any part of them: family, number, backdrop, place and so on, and subjects, a sequence
        of any of subject, colour, size, motion and speed for each subject asked for
    Result: a verdict for each attribute asked, those of subjects over all subjects at once. Subjects are matched to
        those seen in the order in which most is right, so that a red circle and a blue square are wrong where a blue
        circle and a red square were asked. Fireworks nobody tells apart: their colours are compared as a set, and
        "many" is right where three or more are seen. What the right family's reader does not read gets no verdict.
    """
    verdicts: dict[str, bool] = {}
    for attribute, wish in asked.items():
        if attribute == "subjects" or wish is None:
            continue
        if attribute in WHOLE:
            verdicts[attribute] = getattr(reading, attribute) == wish
        elif attribute in reading.others or reading.family != asked.get("family", reading.family):
            verdicts[attribute] = reading.others.get(attribute) == wish
    compare = _SUBJECT_VERDICTS.get(reading.family, _one_by_one)
    return verdicts | compare(reading.subjects, asked.get("subjects", ()))


def _one_by_one(seen: Sequence[Seen], asked: Sequence[Mapping[str, str]]) -> dict[str, bool]:
    """Verdicts under the best match of subjects; a subject that is missing is wrong in all that was asked of it."""
    padded = [*seen, *[None] * (len(asked) - len(seen))]
    matches = [_matched(order, asked) for order in permutations(padded, len(asked))]
    return max(matches, key=lambda verdicts: sum(verdicts.values()))


def _matched(seen: Sequence[Seen | None], asked: Sequence[Mapping[str, str]]) -> dict[str, bool]:
    verdicts: dict[str, bool] = {}
    for trait in TRAITS:
        pairs = [(one, wish[trait]) for one, wish in zip(seen, asked, strict=True) if wish.get(trait) is not None]
        if pairs:
            verdicts[trait] = all(one is not None and getattr(one, trait) == wish for one, wish in pairs)
    return verdicts


def _as_a_set(seen: Sequence[Seen], asked: Sequence[Mapping[str, str]]) -> dict[str, bool]:
    """Verdicts where nobody tells the subjects apart: the same names must be seen as were asked, however often."""
    verdicts: dict[str, bool] = {}
    for trait in TRAITS:
        wishes = {wish[trait] for wish in asked if wish.get(trait) is not None}
        found = {str(getattr(one, trait)) for one in seen}
        if wishes:
            verdicts[trait] = len(found) >= MANY_COLOURS if wishes == {MANY} else found == wishes
    return verdicts


_SUBJECT_VERDICTS: dict[str, Callable[[Sequence[Seen], Sequence[Mapping[str, str]]], dict[str, bool]]] = {
    "fireworks": _as_a_set,
}
