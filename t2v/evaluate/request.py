"""What is asked of an evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, get_args

from t2v.config import NUM_HELD_OUT, NUM_KNOWN, FamilyName, GenerationSettings, MeasureName, SplitName
from t2v.errors import SettingsError

Name = TypeVar("Name", bound=str)

MEASURES: tuple[MeasureName, ...] = get_args(MeasureName)
FAMILY_NAMES: tuple[FamilyName, ...] = get_args(FamilyName)
PROMPT_SPLITS: tuple[SplitName, ...] = ("seen", "unseen-combinations", "unseen-wordings")


@dataclass(frozen=True)
class EvaluationRequest:
    """What is measured, and on what.

    settings: how clips are drawn; its seed is that of the whole evaluation, its prompt and num_clips are not used
    splits, families: of the prompts that are judged; families also of the worlds that take the place of a folder
    num_prompts: of each split; None for all
    clips: the folder that was trained on; None stands for worlds. held_out: clips that were not trained on
    num_held_out: clips that likelihood and likeness look at, at most; num_known: clips of training that are searched
        for copies, at most
    """

    settings: GenerationSettings
    measures: tuple[MeasureName, ...] = MEASURES
    splits: tuple[SplitName, ...] = PROMPT_SPLITS
    families: tuple[FamilyName, ...] = FAMILY_NAMES
    num_prompts: int | None = None
    clips: Path | None = None
    held_out: Path | None = None
    num_held_out: int = NUM_HELD_OUT
    num_known: int = NUM_KNOWN

    @property
    def seed(self) -> int:
        assert self.settings.seed is not None
        return self.settings.seed


def chosen(names: str | None, known: Sequence[Name], what: str) -> tuple[Name, ...]:
    """The names in a text such as "shapes,suns", in the order of those known; all where there is no text.

    Raises SettingsError for one that is not known.
    """
    asked = None if names is None else [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in asked or () if name not in known]
    if unknown or asked == []:
        given = f"unknown {what} {unknown[0]!r}" if unknown else f"no {what} named"
        raise SettingsError(f"{given}; known are {', '.join(known)}")
    return tuple(name for name in known if asked is None or name in asked)
