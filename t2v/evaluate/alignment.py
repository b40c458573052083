"""How often a clip shows what its prompt asks for, by the judge."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from t2v.evaluate.questions import KINDS, Question
from t2v.evaluate.request import FAMILY_NAMES, PROMPT_SPLITS
from t2v.evaluation.intervals import Interval, wilson
from t2v.evaluation.judge import judge
from t2v.evaluation.reading import TRAITS, WHOLE, Reading, agrees

MIN_SIZE, MIN_FRAMES = 32, 4  # of what the judge can read


@dataclass(frozen=True)
class Judged:
    """A clip that was drawn for a prompt and what the judge says of it. verdicts: for each attribute asked for."""

    question: Question
    reading: Reading
    verdicts: dict[str, bool]

    @property
    def is_right(self) -> bool:
        """Whether all that was asked for is there."""
        return all(self.verdicts.values())

    @property
    def wrong(self) -> tuple[str, ...]:
        """The attributes that are not as asked."""
        return tuple(name for name, right in self.verdicts.items() if not right)

    def as_dict(self) -> dict[str, Any]:
        """All but the clip itself, as JSON can hold it."""
        question, prompt = self.question, self.question.prompt
        return {
            "split": prompt.split,
            "kind": prompt.kind,
            "place": question.place,
            "repeat": question.repeat,
            "seed": question.seed,
            "prompt": prompt.caption,
            "asked": prompt.facts,
            "seen": reading_as_dict(self.reading),
            "verdicts": self.verdicts,
            "right": self.is_right,
        }


@dataclass(frozen=True)
class Score:
    """How many of some clips are right."""

    num_right: int
    num_all: int

    @property
    def share(self) -> float:
        return self.num_right / self.num_all

    @property
    def interval(self) -> Interval:
        return wilson(self.num_right, self.num_all)

    def as_dict(self) -> dict[str, Any]:
        low, high = self.interval
        return {"right": self.num_right, "clips": self.num_all, "share": self.share, "low": low, "high": high}


@dataclass
class Alignment:
    """The clips judged so far. num_asked: how many there will be."""

    num_asked: int
    judged: list[Judged] = field(default_factory=list)

    def of(self, split: str | None = None, kind: str | None = None, family: str | None = None) -> list[Judged]:
        """Those of a split, a kind and a family; None takes all."""
        wanted = {"split": split, "kind": kind, "family": family}
        return [one for one in self.judged if all(wish in (None, _trait(one, name)) for name, wish in wanted.items())]

    def values(self, name: str) -> list[str]:
        """The splits, kinds or families that were judged, in the order in which people name them."""
        there = {_trait(one, name) for one in self.judged}
        known: dict[str, Sequence[str]] = {"split": PROMPT_SPLITS, "kind": KINDS, "family": FAMILY_NAMES}
        return [value for value in known[name] if value in there]

    def as_dict(self) -> dict[str, Any]:
        """Scores by split, of kinds and of families, and every clip's verdicts."""
        kinds, families = self.values("kind"), self.values("family")
        return {
            "clips": len(self.judged),
            "asked": self.num_asked,
            "splits": {
                split: {
                    "kinds": _by_name((kind, self.of(split, kind)) for kind in kinds),
                    # Of one subject: two are always shapes, and fireworks at night have a row of their own.
                    "families": _by_name((family, self.of(split, "one", family)) for family in families),
                }
                for split in self.values("split")
            },
            "judged": [one.as_dict() for one in self.judged],
        }


class Mismatch(NamedTuple):
    """An attribute that is not as asked, in words."""

    attribute: str
    asked: str
    seen: str


def mismatches(one: Judged) -> list[Mismatch]:
    """What is wrong with a clip: of a clip of another family that alone, as all else follows from it."""
    facts, reading = one.question.prompt.facts, one.reading
    if "family" in one.wrong:
        return [Mismatch("family", facts["family"], reading.family)]
    found = []
    for name in one.wrong:
        if name in TRAITS:
            asked = [str(subject[name]) for subject in facts["subjects"] if subject.get(name) is not None]
            seen = [str(getattr(subject, name)) for subject in reading.subjects]
        else:
            asked, seen = [str(facts[name])], [str(getattr(reading, name, reading.others.get(name)))]
        found.append(Mismatch(name, " and ".join(asked), " and ".join(seen) or "nothing"))
    return found


def judged(question: Question, frames: np.ndarray) -> Judged:
    """What the judge says of a clip drawn for this question. frames: uint8 f h w 3"""
    reading = judge(frames)
    return Judged(question, reading, agrees(reading, question.prompt.facts))


def scores(clips: Sequence[Judged]) -> dict[str, Score]:
    """The score of each attribute over the clips that were asked for it, and of `all` attributes at once."""
    asked: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for one in clips:
        asked.update(one.verdicts.keys())
        right.update(name for name, is_right in one.verdicts.items() if is_right)
    names = sorted(asked, key=lambda name: (_ORDER.get(name, len(_ORDER)), name))
    whole = {"all": Score(sum(one.is_right for one in clips), len(clips))}
    return whole | {name: Score(right[name], asked[name]) for name in names}


def reading_as_dict(reading: Reading) -> dict[str, Any]:
    """A reading as JSON can hold it, without what is empty."""
    subjects = [{name: value for name, value in seen._asdict().items() if value} for seen in reading.subjects]
    whole = {"family": reading.family, "number": reading.number, "backdrop": reading.backdrop}
    return {**whole, **reading.others, "subjects": subjects}


_ORDER = {name: place for place, name in enumerate(("family", *TRAITS, *WHOLE[1:]))}


def _trait(one: Judged, name: str) -> str:
    prompt = one.question.prompt
    return {"split": prompt.split, "kind": prompt.kind, "family": prompt.facts["family"]}[name]


def _by_name(groups: Iterable[tuple[str, list[Judged]]]) -> dict[str, Any]:
    return {name: dict(_scores_as_dicts(clips)) for name, clips in groups if clips}


def _scores_as_dicts(clips: list[Judged]) -> Iterator[tuple[str, Any]]:
    return ((name, score.as_dict()) for name, score in scores(clips).items())
