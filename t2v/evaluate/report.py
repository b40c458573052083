"""What came of an evaluation, and all that is needed to take it again."""

import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import Any

import torch

import t2v
from t2v.config import GenerationSettings
from t2v.data.worlds import prompts
from t2v.evaluate.alignment import Alignment
from t2v.evaluate.likelihood import Likelihood
from t2v.evaluate.likeness import Likeness
from t2v.evaluate.real import RealData
from t2v.evaluate.request import EvaluationRequest
from t2v.evaluation.judge import JUDGE_VERSION
from t2v.service import GenerationService


@dataclass(frozen=True)
class Report:
    """What is known of a checkpoint.

    about: what was measured and with what; seconds: that this took, without what was drawn before
    seconds_per_clip: the median of drawing one, whenever it was drawn; None where none was
    is_partial: whether it was stopped; notes: sentences; alignment, likelihood, likeness: None where not taken
    real: the clips that likelihood and likeness looked at
    """

    about: dict[str, Any]
    seconds: float
    seconds_per_clip: float | None
    is_partial: bool
    notes: tuple[str, ...]
    alignment: Alignment | None
    likelihood: Likelihood | None
    likeness: Likeness | None
    real: RealData | None

    def as_dict(self) -> dict[str, Any]:
        """Everything but the clips, as JSON can hold it."""
        measures = {"alignment": self.alignment, "likelihood": self.likelihood, "likeness": self.likeness}
        taken = {name: measure.as_dict() for name, measure in measures.items() if measure is not None}
        return {
            **self.about,
            "partial": self.is_partial,
            "seconds": round(self.seconds, 1),
            "seconds_per_clip": self.seconds_per_clip,
            "notes": list(self.notes),
            "real_clips": None if self.real is None else self.real.about,
            **taken,
        }


def about(service: GenerationService, request: EvaluationRequest, used: GenerationSettings) -> dict[str, Any]:
    """What was measured, with which rules and on what machine.

    used: the settings of every clip, nothing left open but prompt and seed, which each has of its own
    """
    guide = service.guide
    settings = used.model_dump(mode="json", exclude={"prompt", "seed", "num_clips"})
    return {
        "made_by": f"t2v {t2v.__version__}",
        "checkpoint": service.checkpoint.name,
        "checkpoint_sha256": service.checkpoint.sha256,
        "step": service.header.step,
        "guide": None if guide is None else guide.name,
        "guide_sha256": None if guide is None else guide.sha256,
        "judge_version": JUDGE_VERSION,
        "prompts_sha256": _prompts_hash(),
        "settings": settings,
        "seed": request.seed,
        "measures": list(request.measures),
        "splits": list(request.splits),
        "families": list(request.families),
        "num_prompts": request.num_prompts,
        "clips": None if request.clips is None else str(request.clips),
        "held_out": None if request.held_out is None else str(request.held_out),
        "device": service.device.type,
        "precision": service.precision.name,
        "torch": torch.__version__,
    }


def _prompts_hash() -> str:
    """By which a reader can tell that two reports are of the same prompts."""
    return hashlib.sha256((resources.files("t2v.data.worlds") / prompts.FILE).read_bytes()).hexdigest()
