"""What the judge says of a clip, and whether that is what was asked for."""

from collections.abc import Callable, Mapping, Sequence
from itertools import permutations
from typing import Any, NamedTuple

UNKNOWN = "unknown"  # something is there that is none of what the judge knows
STILL = "still"  # the motion of what does not move
NOTHING = "nothing"  # the family of a clip in which nothing is seen
MANY = "many"  # asked as a colour: of at least MANY_COLOURS kinds
MANY_COLOURS = 3

TRAITS = ("subject", "colour", "size", "motion")


class Seen(NamedTuple):
    """One subject as it was seen; every entry may be "unknown"."""

    subject: str
    colour: str
    size: str
    motion: str


class Reading(NamedTuple):
    """What a clip shows, in the names of the worlds' facts."""

    family: str
    number: int
    backdrop: str
    subjects: tuple[Seen, ...]


def nothing(backdrop: str = UNKNOWN) -> Reading:
    """The reading of a clip in which nothing is seen, at most a backdrop."""
    return Reading(NOTHING, 0, backdrop, ())


def agrees(reading: Reading, asked: Mapping[str, Any]) -> dict[str, bool]:
    """Whether a reading is what was asked for, attribute by attribute; what was not asked gets no verdict.

    asked: any of family, number, backdrop and subjects; subjects is a sequence of any of subject, colour, size, motion
        for each subject asked for (facts of the worlds have this form; what else they say is not judged)
    Result: for each attribute asked of any subject one verdict over all subjects. Subjects are matched to those seen in
        the order in which most is right, so that a red circle and a blue square are wrong where a blue circle was asked.
        Of fireworks the colours are compared as a set, as captions name them; the colour "many" is right where three or
        more are seen.
    """
    verdicts: dict[str, bool] = {}
    for attribute in ("family", "number", "backdrop"):
        if asked.get(attribute) is not None:
            verdicts[attribute] = getattr(reading, attribute) == asked[attribute]
    subjects = asked.get("subjects", ())
    compare = _SUBJECT_VERDICTS.get(reading.family, _one_by_one)
    return verdicts | compare(reading.subjects, subjects)


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
