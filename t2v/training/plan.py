"""What a run decides at its start, and every later start of it takes from the disk; its end alone moves later."""

import json
import platform
from bisect import bisect_right
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, field_validator

import t2v
from t2v.checkpoint.run_folder import RunFolder
from t2v.config import LimitsSettings, Recipe, Settings
from t2v.errors import RunError, SettingsError
from t2v.reading import validate

# Settings that may change within a run: the weights of a step do not depend on them, but for rounding where activations
# are computed again.
FREE = {
    "about",
    "prompts",
    "train.num_steps",
    "train.save_every",
    "train.sample_every",
    "train.tensorboard",
    "train.ema_device",
    "train.checkpoint_activations",
    *(f"limits.{name}" for name in LimitsSettings.model_fields),  # the clips that they leave are compared by themselves
}


OLD_RULES = {"formats": ("gif",), "stills": "repeat"}


class Fit(Settings):
    """From `step` on, when the share `done` of the decay is over, the rest of it is taken up to `end`."""

    step: int
    done: float
    end: int


class Stretch(Settings):
    """Steps over which the learning rate rises and falls once: [start, end), as planned at its start."""

    start: int
    end: int
    by_budget: bool = Field(False, description="whether the end moves with the pace, so that a budget is kept")
    fits: tuple[Fit, ...] = Field((), description="how the end was moved on the way")

    @property
    def last(self) -> int:
        """The end as it is now."""
        return self.fits[-1].end if self.fits else self.end

    def done(self, step: int, *, warmup: int) -> float:
        """Share of the decay that is over at `step`: from 0 after the warm-up to 1 at the end, without a jump."""
        done, since, end = 0.0, self.start + warmup, self.end
        for fit in self.fits:
            if fit.step <= step:
                done, since, end = fit.done, fit.step, fit.end
        return done + (1 - done) * (step - since) / max(1, end - since)


class Machine(Settings):
    """What must be equal for a resumed run to be bit-identical to an unbroken one."""

    device: str
    num_processes: int
    threads: int
    versions: dict[str, str]

    @classmethod
    def here(cls, device: torch.device, num_processes: int) -> "Machine":
        names = ("torch", "accelerate", "bitsandbytes", "rotary-embedding-torch")
        versions = {"t2v": t2v.__version__, "python": platform.python_version()}
        versions |= {name: metadata.version(name) for name in names if _is_installed(name)}
        return cls(device=device.type, num_processes=num_processes, threads=torch.get_num_threads(), versions=versions)

    def changes(self, now: "Machine") -> list[str]:
        """In words, what is different now."""
        old, new = self._in_words(), now._in_words()
        return [
            f"{name} {old.get(name)} then and {new.get(name)} now"
            for name in (old | new)
            if old.get(name) != new.get(name)
        ]

    def _in_words(self) -> dict[str, Any]:
        counts = {"number of processes": self.num_processes, "number of threads": self.threads}
        return {"device": self.device, **counts, **self.versions}


class Plan(Settings):
    """The decisions of a run."""

    recipe: Recipe
    precision: str
    precision_reason: str
    compiled: bool = Field(False, description="whether torch.compile makes the network's code; older runs are not")
    compile_reason: str = ""
    seconds_to_compile: float = Field(0.0, description="spent at the start on compiling and on measuring what it gives")
    seconds_per_step: float = Field(
        description="of a step at full size, measured at the start; what the time foretold rests on"
    )
    half_size_steps: int = Field(0, description="steps, the first of the run, that show clips at half their size")
    half_size_cost: float = Field(1.0, description="what such a step takes, measured in steps at full size")
    seconds_per_sheet: float = Field(0.0, description="of a sample sheet, as expected at the start")
    seconds_per_save: float = Field(0.0, description="of a saved state, as measured at the start")
    budget_s: float | None = Field(None, description="the last budget that the steps were fitted to")
    stretches: tuple[Stretch, ...]
    machine: Machine
    clips_folder: str
    clips: dict[str, Any] = Field(
        description="every clip or shard by name: hash of its file, captions, and of a shard the number of its clips"
    )
    still_share: float | None = Field(
        None, description="share of a batch that stills take; None where they are shown as clips that stand still"
    )
    frame_ms: float
    cond_dim: int | None
    encoder_sha256: str | None
    prompts: tuple[str, ...]

    @field_validator("recipe", mode="before")
    @classmethod
    def _read_old(cls, given: Any) -> Any:
        """Runs from before other formats were read took .gif files alone, and one frame as a clip that is still."""
        data = given.get("data") if isinstance(given, Mapping) else None
        if not isinstance(data, Mapping) or "stills" in data:
            return given
        return {**given, "data": {**data, **OLD_RULES}}

    @property
    def num_steps(self) -> int:
        return self.stretches[-1].last

    @property
    def picture_share(self) -> float:
        """Share of a batch that pictures take: stills, and single frames of clips."""
        return (self.still_share or 0.0) + self.recipe.train.frame_share

    def stretch_at(self, step: int) -> Stretch:
        """The stretch that `step` lies in."""
        return next(stretch for stretch in reversed(self.stretches) if stretch.start <= step)

    def knows_half_size(self, step: int) -> bool:
        """Whether the weights of `step` have learned from clips at half their size, and from no others."""
        return 0 < step <= self.half_size_steps

    def work(self, start: int, end: int) -> float:
        """What the steps from `start` to `end` take, measured in steps at full size."""
        num_half = max(0, min(end, self.half_size_steps) - start)
        return end - start - num_half * (1 - self.half_size_cost)

    @property
    def seconds_beside_step(self) -> float:
        """Mean time of saves and sample sheets, per step."""
        train = self.recipe.train
        return self.seconds_per_sheet / train.sample_every + self.seconds_per_save / train.save_every

    def seconds_left(self, step: int, *, seconds_per_step: float) -> float:
        """Time from `step` to the end, with the saves and sample sheets on the way. seconds_per_step: at full size"""
        train, end = self.recipe.train, self.num_steps
        return (
            self.work(step, end) * seconds_per_step
            + _num_due(step, end, train.sample_every) * self.seconds_per_sheet
            + _num_due(step, end, train.save_every) * self.seconds_per_save
        )

    def seconds_spent(self, step: int, seconds: float) -> float:
        """Of a budget, by a run whose steps took `seconds`: with compiling, saves and sample sheets as foretold."""
        return seconds + step * self.seconds_beside_step + self.seconds_to_compile

    def steps_within(self, budget_s: float, *, step: int, spent: float, seconds_per_step: float) -> int:
        """Steps that a budget allows in all when `spent` seconds of it are gone after `step` steps.

        seconds_per_step: at full size
        """
        left = max(0.0, budget_s - spent)
        full_s = seconds_per_step + self.seconds_beside_step
        half_s = seconds_per_step * self.half_size_cost + self.seconds_beside_step

        def seconds(num_steps: int) -> float:
            num_half = max(0, self._half_size_steps(step, num_steps) - step)
            return num_half * half_s + (num_steps - step - num_half) * full_s

        possible = range(step, step + int(left / half_s) + 2)
        return step + bisect_right(possible, left, key=seconds) - 1

    def extended(self, *, at: int, num_steps: int, budget_s: float | None) -> "Plan":
        """A plan for more steps, with a new rise and fall of the learning rate from step `at`.

        budget_s: what the steps were fitted to, if they were. What `fitted` says of half the size holds here too.
        """
        kept = tuple(stretch for stretch in self.stretches if stretch.start < at)
        shortened = (*kept[:-1], Stretch(start=kept[-1].start, end=at)) if kept else ()
        added = Stretch(start=at, end=num_steps, by_budget=budget_s is not None)
        num_half = self._half_size_steps(at, num_steps)
        update = {"budget_s": budget_s or self.budget_s, "half_size_steps": num_half}
        return self._with_stretches((*shortened, added)).model_copy(update=update)

    def ended_by(self, budget_s: float | None) -> "Plan":
        """The plan whose end a budget moves from now on, or none does."""
        *before, last = self.stretches
        ended = last.model_copy(update={"by_budget": budget_s is not None})
        return self._with_stretches((*before, ended)).model_copy(update={"budget_s": budget_s or self.budget_s})

    def fitted(self, *, at: int, done: float, num_steps: int) -> "Plan":
        """A plan whose last stretch ends elsewhere. The learning rate goes on from step `at` as high as it is.

        Steps at half the size, while they last, keep their share of all; those before `at` stay what they were.
        """
        *before, last = self.stretches
        fits = (*last.fits, Fit(step=at, done=done, end=num_steps))
        fitted = self._with_stretches((*before, last.model_copy(update={"fits": fits})))
        return fitted.model_copy(update={"half_size_steps": self._half_size_steps(at, num_steps)})

    def _half_size_steps(self, at: int, num_steps: int) -> int:
        """How many there are if at step `at` the end becomes num_steps."""
        if at >= self.half_size_steps:
            return self.half_size_steps
        return max(at, half_size_steps(self.recipe.train.half_size_share, num_steps))

    def _with_stretches(self, stretches: tuple[Stretch, ...]) -> "Plan":
        train = self.recipe.train.model_copy(update={"num_steps": stretches[-1].last})
        recipe = self.recipe.model_copy(update={"train": train})
        return self.model_copy(update={"recipe": recipe, "stretches": stretches})


def half_size_steps(share: float, num_steps: int) -> int:
    """How many of a run's steps, its first, show clips at half their size; the last never does."""
    return int(share * num_steps)


def _num_due(start: int, end: int, every: int) -> int:
    """How often something happens in steps start + 1 to end that is due every so often and at the end."""
    return end // every - start // every + (1 if end % every and end > start else 0)


def load_plan(run: RunFolder) -> Plan:
    """The stored plan of a run. Raises RunError where it cannot be read."""
    try:
        return validate(Plan, _read_json(run.plan), source=str(run.plan))
    except (OSError, ValueError, SettingsError) as error:
        raise RunError(f"{run.path} cannot be resumed: {error}; start anew with --fresh") from None


def save_plan(run: RunFolder, plan: Plan) -> None:
    """Store the plan, and its recipe once more as a file that people can read and start other runs from."""
    run.write_text(run.recipe, recipe_toml(plan.recipe))
    run.write_json(run.plan, plan.model_dump(mode="json"))


def recipe_toml(recipe: Recipe) -> str:
    """A recipe as TOML that load_recipe reads back as it was."""
    lines: list[str] = []
    content = recipe.model_dump(mode="json")
    lines += [f"{key} = {_toml_value(value)}" for key, value in content.items() if not isinstance(value, dict)]
    for section, values in content.items():
        if isinstance(values, dict):
            lines += ["", f"[{section}]"]
            lines += [f"{key} = {_toml_value(value)}" for key, value in values.items() if value is not None]
    return "\n".join(lines) + "\n"


def differences(stored: Recipe, asked: Recipe) -> list[str]:
    """The settings in which two recipes differ, in words, save those that may change within a run."""
    old, new = _flat(stored), _flat(asked)
    return [
        f"{key} is {old[key]} in the run and {new[key]} now" for key in old if old[key] != new[key] and key not in FREE
    ]


def _flat(recipe: Recipe) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in recipe.model_dump(mode="json").items():
        flat |= {f"{key}.{name}": item for name, item in value.items()} if isinstance(value, dict) else {key: value}
    return flat


def _toml_value(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace(
            "\x7f", "\\u007f"
        )  # the one that JSON leaves and TOML bans
    return repr(value)


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
