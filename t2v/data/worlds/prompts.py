"""The prompts that `t2v evaluate` scores: 500 of each split and "fireworks at night" in 20 wordings, frozen as a file.

Every prompt but those twenty names all combinations of its scene (see `held_out.py`), so that each split asks for
equally much. The file is what is scored; `make_prompts` says how it came about:
`python -c "from t2v.data.worlds.prompts import freeze_prompts; freeze_prompts()"` writes it anew.
"""

import json
from collections.abc import Iterator, Mapping
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from t2v.config import SplitName
from t2v.data.worlds import FAMILIES, plan_scene
from t2v.data.worlds.grammar import Told, speak
from t2v.data.worlds.held_out import combinations

SEED = 2026
SPLITS: tuple[SplitName, ...] = ("seen", "unseen-combinations", "unseen-wordings")
NUM_ONE, NUM_TWO = 300, 200  # prompts a split for one subject (families by their shares) and for two shapes told apart
NUM_NIGHT = 10  # "fireworks at night" in seen and in unseen wordings, each
JUST_NIGHT = {"family": "fireworks", "backdrop": "night", "subjects": [{"subject": "fireworks"}]}
FILE = "prompts.jsonl"


class Prompt(NamedTuple):
    """One prompt.

    split: "seen", "unseen-combinations" or "unseen-wordings"
    kind: "one", "two" or "fireworks at night"
    facts: what the caption asks for, in the words of a clip's facts, and nothing that it leaves open; where the number
        is open, subjects holds each kind that is asked for once
    """

    split: SplitName
    kind: str
    caption: str
    facts: dict[str, Any]


def prompts() -> tuple[Prompt, ...]:
    """All prompts, as frozen."""
    lines = resources.files("t2v.data.worlds").joinpath(FILE).read_text(encoding="utf-8").splitlines()
    return tuple(Prompt(**json.loads(line)) for line in lines)


def make_prompts() -> Iterator[Prompt]:
    """Draw all prompts, in the order of the file; no two of a split are the same."""
    for split in SPLITS:
        said: set[str] = set()
        for family in FAMILIES:
            for number in range(round(NUM_ONE * FAMILIES[family].share)):
                yield _drawn(family, split, "one", number, said)
        for number in range(NUM_TWO):
            yield _drawn("shapes", split, "two", number, said)
    for split in ("seen", "unseen-wordings"):
        said = set()
        for number in range(NUM_NIGHT):
            yield _drawn("fireworks", split, "fireworks at night", number, said)


def freeze_prompts() -> None:
    """Write the file that `prompts` reads."""
    lines = (json.dumps(prompt._asdict(), separators=(",", ":")) for prompt in make_prompts())
    Path(__file__).with_name(FILE).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def asked(facts: Mapping[str, Any], said: set[Told]) -> dict[str, Any]:
    """The part of a clip's facts that a caption says."""
    subjects = [
        {key: value for key, value in subject.items() if (number, key) in said}
        for number, subject in enumerate(facts["subjects"])
    ]
    if "number" not in said:
        subjects = [subject for number, subject in enumerate(subjects) if subject not in subjects[:number]]
    whole = {key: value for key, value in facts.items() if key in said}
    return {"family": facts["family"], **whole, "subjects": subjects}


def _drawn(family: str, split: SplitName, kind: str, number: int, taken: set[str]) -> Prompt:
    """Prompt `number` of its family, split and kind: the first draw that asks for what the kind asks, in new words."""
    rng = np.random.default_rng([SEED, SPLITS.index(split), list(FAMILIES).index(family), ord(kind[0]), number])
    while True:
        scene, facts = plan_scene(family, rng, split)
        caption, voice = speak(rng, partial(FAMILIES[family].sentence, scene), unseen=split == "unseen-wordings")
        if caption not in taken and _fits(kind, facts, voice.said):
            taken.add(caption)
            return Prompt(split, kind, caption, asked(facts, voice.said))


def _fits(kind: str, facts: Mapping[str, Any], said: set[Told]) -> bool:
    if kind == "fireworks at night":
        return asked(facts, said) == JUST_NIGHT
    if facts["family"] == "shapes" and facts["number"] != (2 if kind == "two" else 1):
        return False
    one, *others = facts["subjects"]
    if kind == "two" and one["colour"] == others[0]["colour"]:
        return False  # twins, which nothing tells apart
    return all(combination.told <= said for combination in combinations(facts))
