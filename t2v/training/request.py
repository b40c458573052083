"""What a person asks of a run."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from t2v.checkpoint.run_folder import RunFolder
from t2v.data.shards import SHARD_ENDING
from t2v.reading import recipe_from_mapping


@dataclass(frozen=True)
class TrainRequest:
    """What a person typed. None and empty mean: not asked for."""

    clips: Path
    out: Path | None = None
    recipe: str | None = None
    num_steps: int | None = None
    budget_s: float | None = None
    fresh: bool = False
    seed: int | None = None
    template: str | None = None
    init_from: Path | None = None
    overrides: Mapping[str, str] = field(default_factory=dict)
    device: str = "auto"

    @property
    def run(self) -> RunFolder:
        """Where the run lies: as asked, or runs/<name of the clips' folder>."""
        clips = self.clips.resolve()
        folder = clips.parent if clips.suffix == SHARD_ENDING else clips
        return RunFolder(self.out or Path("runs") / folder.name)

    @property
    def typed(self) -> dict[str, str]:
        """The overrides together with the options that stand for one."""
        typed = dict(self.overrides)
        if self.seed is not None:
            typed["train.seed"] = str(self.seed)
        if self.template is not None:
            # Quoted, or a template such as 2024 would be read as a number.
            typed["text.template"] = json.dumps(self.template, ensure_ascii=False)
        if self.num_steps is not None:
            typed["train.num_steps"] = str(self.num_steps)
        return typed

    @property
    def asked_steps(self) -> int | None:
        """Steps asked for by --steps, or by its longer name behind --set."""
        given = self.typed.get("train.num_steps")
        return None if given is None else recipe_from_mapping({}, {"train.num_steps": given}).train.num_steps


def duration(seconds: float) -> str:
    """Seconds in the units a person would say: 45 s, 12 min, 2 h 5 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
