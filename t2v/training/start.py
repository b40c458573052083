"""Starting a run or going on with it: what was asked now, held against what the run's folder says."""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from t2v.checkpoint import Checkpoint, load_checkpoint
from t2v.checkpoint.run_folder import RunFolder
from t2v.config import Recipe, load_recipe, recipe_from_mapping
from t2v.data.captions import mentions_side
from t2v.data.folder import LoadedClips, describe_difference, load_clips, scan_folder
from t2v.errors import RunError, SettingsError
from t2v.model.text import CaptionTable, TextEncoder
from t2v.runtime import Precision, pick_device
from t2v.training.batches import TrainingClips
from t2v.training.choose import (
    DEFAULT_BUDGET_S,
    Cost,
    choose_recipe,
    fit_to_budget,
    fresh_network,
    measure_cost,
    steps_in,
)
from t2v.training.loop import Training, agreed, make_accelerator
from t2v.training.plan import Machine, Plan, Stretch, differences, load_plan, save_plan
from t2v.training.samples import draw_samples, write_sheet

NUM_SAMPLE_PROMPTS = 8

Say = Callable[[str], None]


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
    init_from: Path | None = None
    overrides: Mapping[str, str] = field(default_factory=dict)
    device: str = "auto"

    @property
    def run(self) -> RunFolder:
        """Where the run lies: as asked, or runs/<name of the clips' folder>."""
        return RunFolder(self.out or Path("runs") / self.clips.resolve().name)

    @property
    def typed(self) -> dict[str, str]:
        """The overrides together with the options that stand for one."""
        typed = dict(self.overrides)
        if self.seed is not None:
            typed["train.seed"] = str(self.seed)
        if self.num_steps is not None:
            typed["train.num_steps"] = str(self.num_steps)
        return typed


@dataclass(frozen=True)
class ReadyRun:
    """A run that can take its next step, and what its sample sheets need."""

    training: Training
    pooled: Tensor | None

    @property
    def is_finished(self) -> bool:
        return self.training.step >= self.training.plan.num_steps

    def write_samples(self) -> Path | None:
        """Draw the sample sheet of this moment from the averaged weights; only the main process does."""
        training, plan = self.training, self.training.plan
        if not training.accelerator.is_main_process:
            return None
        clips = draw_samples(
            training.ema.network,
            plan.recipe,
            self.pooled,
            num_clips=len(plan.prompts),
            bf16=plan.precision == "bf16",
        )
        return write_sheet(training.run.samples, training.step, clips, plan.prompts, plan.frame_ms)


def open_run(request: TrainRequest, say: Say) -> ReadyRun:
    """Start the run that is asked for, or go on with the one that is there.

    Raises RunError where the run on disk has other clips or settings than asked for now, and DatasetError,
    SettingsError, TextEncoderError or CheckpointError for what they name. Nothing on disk is lost by any of them.
    """
    if request.num_steps is not None and request.budget_s is not None:
        raise SettingsError("--steps and --budget both say when to stop; give one of them")
    run = request.run
    if request.fresh and run.exists():
        say(f"{run.path} is kept as {run.set_aside()}")
    return _resume(request, run, say) if run.exists() else _begin(request, run, say)


def _begin(request: TrainRequest, run: RunFolder, say: Say) -> ReadyRun:
    device = pick_device(request.device)
    parent = None if request.init_from is None else load_checkpoint(request.init_from)
    recipe, cost = _asked_recipe(request, parent), None
    if recipe is None:
        recipe, cost = agreed(_choose(request, device, say))
    clips = _load(request.clips, recipe, say)
    captions = _Captions.read(clips, recipe, say)
    if cost is None:
        cost = measure_cost(recipe, cond_dim=captions.cond_dim, device=device, precision=None)
        if request.budget_s is not None:
            recipe = fit_to_budget(recipe, request.budget_s, cost)
    recipe, cost = agreed((recipe, cost))
    say(f"arithmetic: {cost.precision.name} ({cost.precision.reason})")

    accelerator = make_accelerator(cost.precision.name, device)
    plan = Plan(
        recipe=recipe,
        precision=cost.precision.name,
        precision_reason=cost.precision.reason,
        seconds_per_step=cost.seconds_per_step,
        budget_s=request.budget_s,
        stretches=(Stretch(start=0, end=recipe.train.num_steps),),
        machine=Machine.here(accelerator.device, accelerator.num_processes),
        clips_folder=str(request.clips),
        clips=clips.scan.manifest,
        frame_ms=_frame_ms(clips, recipe.data.num_frames),
        cond_dim=captions.cond_dim,
        encoder_sha256=captions.encoder_sha256,
        prompts=_sample_prompts(recipe, captions),
    )
    network = fresh_network(recipe, captions.cond_dim)
    if parent is not None:
        _check_parent(parent, plan)
        network.load_state_dict({name: tensor.float() for name, tensor in parent.weights.items()})
        say(f"weights from {parent.path}, trained for {parent.header.step} steps")
    elif captions.pooled is not None:
        network.set_text_statistics(captions.pooled)
    if accelerator.is_main_process:
        run.create()
    training = Training(run, plan, network, captions.training_clips(clips), accelerator)
    training.save()
    # The plan comes last: a run exists from the moment that there is something to resume.
    if accelerator.is_main_process:
        save_plan(run, plan)
    _foretell(plan, 0, say)
    return ReadyRun(training, captions.rows(plan.prompts))


def _resume(request: TrainRequest, run: RunFolder, say: Say) -> ReadyRun:
    plan = load_plan(run)
    if request.init_from is not None:
        raise RunError(f"{run.path} holds a run already, which --init-from cannot change; add --fresh or another --out")
    newest = run.newest_step()
    if newest is None:
        raise RunError(f"every saved step of {run.path} is damaged; start anew with --fresh")
    _refuse_other_settings(request, run, plan)
    clips = _load(request.clips, plan.recipe, say)
    changed = describe_difference(plan.clips, clips.scan.manifest)
    if changed:
        raise RunError(
            f"the clips changed since {run.path} was started: {'; '.join(changed)}; put them back, start anew "
            f"with --fresh, or "
            f"carry the weights over with --out NEW_RUN --init-from {run.path}"
        )
    captions = _Captions.read(clips, plan.recipe, say)
    if captions.encoder_sha256 != plan.encoder_sha256:
        raise RunError(f"the text encoder found now has other weights than the one {run.path} was started with")
    accelerator = make_accelerator(plan.precision, pick_device(request.device))
    _say_what_is_inexact(plan.machine, Machine.here(accelerator.device, accelerator.num_processes), say)
    extended = _extended(request, plan, newest.step, say)
    if extended is not plan and accelerator.is_main_process:
        save_plan(run, extended)
    network = fresh_network(plan.recipe, plan.cond_dim)
    training = Training(run, extended, network, captions.training_clips(clips), accelerator)
    training.resume(newest)
    ready = ReadyRun(training, captions.rows(plan.prompts))
    if not ready.is_finished:
        say(f"going on with {run.path} at step {training.step} of {extended.num_steps}")
        _foretell(extended, training.step, say)
    return ready


def _asked_recipe(request: TrainRequest, parent: Checkpoint | None) -> Recipe | None:
    """The recipe that was named or follows from the parent's settings; None where t2v is to choose."""
    if request.recipe is not None:
        return load_recipe(request.recipe, request.typed)
    if parent is not None:
        return recipe_from_mapping(parent.header.recipe.model_dump(), request.typed, source="--set")
    if not request.overrides and request.num_steps is None:
        return None
    return load_recipe("small", request.typed)


def _choose(request: TrainRequest, device: torch.device, say: Say) -> tuple[Recipe, Cost]:
    say(f"looking at {request.clips}")
    scan = scan_folder(request.clips)
    side = int(statistics.median(min(clip.width, clip.height) for clip in scan.clips))
    budget_s = request.budget_s or DEFAULT_BUDGET_S
    # Widths of text vectors differ little in cost; the encoder itself is not loaded for a timing.
    cond_dim = 384 if any(clip.captions for clip in scan.clips) else None
    precision: Precision | None = None

    def measure(recipe: Recipe) -> Cost:
        nonlocal precision
        cost = measure_cost(recipe, cond_dim=cond_dim, device=device, precision=precision)
        precision = cost.precision
        return cost

    seed = 0 if request.seed is None else request.seed
    choice = choose_recipe(num_clips=len(scan.clips), side=side, budget_s=budget_s, seed=seed, measure=measure)
    if request.budget_s is None:
        say(f"no --budget given: taking {duration(budget_s)}")
    for reason in choice.reasons:
        say(reason)
    return choice.recipe, choice.cost


def _load(folder: Path, recipe: Recipe, say: Say) -> LoadedClips:
    data = recipe.data
    loaded = load_clips(
        folder,
        num_frames=data.num_frames,
        size=data.size,
        channels=data.channels,
        background=data.background,
        fit=data.fit,
    )
    for item in loaded.left_out:
        say(f"left out: {item.key} {item.reason}")
    for warning in loaded.scan.warnings:
        say(f"warning: {warning}")
    left_out = f"; {len(loaded.left_out)} left out" if loaded.left_out else ""
    say(f"{len(loaded.records)} clips as {data.num_frames} frames of {data.size}x{data.size}{left_out}")
    return loaded


@dataclass(frozen=True)
class _Captions:
    """The captions of a folder and their features; no features where no clip has a caption."""

    table: CaptionTable | None
    encoder: TextEncoder | None

    @classmethod
    def read(cls, clips: LoadedClips, recipe: Recipe, say: Say) -> "_Captions":
        texts = [caption for record in clips.records for caption in record.captions]
        if not texts:
            say("no clip has a caption: training without text")
            return cls(None, None)
        text = recipe.text
        encoder = TextEncoder.load(text.encoder, pooling=text.pooling, max_tokens=text.max_tokens)
        say(f"captions read by {encoder.name} (from {encoder.source})")
        table = CaptionTable.build(encoder, texts)
        for caption in table.truncated:
            say(f"warning: only the first {text.max_tokens} tokens are read of {caption[:60]!r}...")
        return cls(table, encoder)

    @property
    def texts(self) -> tuple[str, ...]:
        """Every caption once."""
        return () if self.table is None else tuple(self.table.rows)

    @property
    def encoder_sha256(self) -> str | None:
        return None if self.encoder is None else self.encoder.fingerprint

    @property
    def pooled(self) -> Tensor | None:
        return None if self.table is None else self.table.pooled

    @property
    def cond_dim(self) -> int | None:
        return None if self.table is None else self.table.pooled.shape[1]

    def rows(self, prompts: tuple[str, ...]) -> Tensor | None:
        """Features of the prompts of a sample sheet, n d."""
        return None if self.encoder is None else self.encoder.encode(prompts).pooled

    def training_clips(self, clips: LoadedClips) -> TrainingClips:
        """Pixels and captions as batches are drawn from them."""
        frames = torch.from_numpy(clips.frames)
        if self.table is None:
            return TrainingClips(frames, [()] * len(frames), (), None)
        rows = [tuple(self.table.index(caption) for caption in record.captions) for record in clips.records]
        keeps_side = [mentions_side(caption) for caption in self.texts]
        return TrainingClips(frames, rows, keeps_side, self.table.pooled)


def _refuse_other_settings(request: TrainRequest, run: RunFolder, plan: Plan) -> None:
    """Only what is typed now is compared: a resumed run needs no options."""
    typed = {key: value for key, value in request.typed.items() if key != "train.num_steps"}
    if request.recipe is not None:
        asked = load_recipe(request.recipe, typed)
        # A budget chose these by the clock when the run began.
        fitted = plan.recipe.train if plan.budget_s is not None else asked.train
        kept = {name: getattr(fitted, name) for name in ("warmup_steps", "ema_decay", "ema_start")}
        asked = asked.model_copy(update={"train": asked.train.model_copy(update=kept)})
    else:
        asked = recipe_from_mapping(plan.recipe.model_dump(), typed, source="--set")
    different = differences(plan.recipe, asked)
    if different:
        raise RunError(
            f"{run.path} was started with other settings: {'; '.join(different)}; leave them out to go on, start anew "
            f"with --fresh, or carry the weights over with --out NEW_RUN --init-from {run.path}"
        )


def _extended(request: TrainRequest, plan: Plan, at: int, say: Say) -> Plan:
    """The plan with more steps, if more were asked for."""
    num_steps = request.num_steps
    if request.budget_s is not None and request.budget_s != plan.budget_s:
        num_steps = steps_in(request.budget_s, plan.seconds_per_step)
    if num_steps is None or num_steps == plan.num_steps:
        return plan
    if num_steps < plan.num_steps:
        raise RunError(f"the run is planned for {plan.num_steps} steps; it can be extended but not cut to {num_steps}")
    say(f"extended from {plan.num_steps} to {num_steps} steps; the learning rate rises and falls once more")
    return plan.extended(at=at, num_steps=num_steps, budget_s=request.budget_s)


def _check_parent(parent: Checkpoint, plan: Plan) -> None:
    header = parent.header
    same = header.recipe.model == plan.recipe.model and header.recipe.data.channels == plan.recipe.data.channels
    if not same or header.cond_dim != plan.cond_dim:
        raise RunError(
            f"{parent.path} has another network than the recipe asks for; leave --recipe and --set model.* out and "
            "its own settings are taken"
        )
    if header.encoder_sha256 not in (None, plan.encoder_sha256):
        raise RunError(f"{parent.path} was trained with another text encoder; set text.encoder to that one")


def _say_what_is_inexact(stored: Machine, here: Machine, say: Say) -> None:
    old, new = stored.model_dump(), here.model_dump()
    changed = [f"{name} was {old[name]} and is {new[name]}" for name in old if old[name] != new[name]]
    if changed:
        say(f"the result will not be bit-identical to an unbroken run: {'; '.join(changed)}")


def _foretell(plan: Plan, step: int, say: Say) -> None:
    left = plan.num_steps - step
    say(f"{left} steps of {plan.seconds_per_step:.2g} s: about {duration(left * plan.seconds_per_step * 1.05)}")


def _frame_ms(clips: LoadedClips, num_frames: int) -> float:
    """Mean time between two of the frames that training sees: the rate that generated files are written at."""
    durations = [record.duration_ms for record in clips.records if record.num_frames > 1]
    return float(np.median(durations)) / num_frames if durations else 100.0


def _sample_prompts(recipe: Recipe, captions: _Captions) -> tuple[str, ...]:
    """The recipe's prompts, or captions spread over the folder."""
    if recipe.prompts or captions.table is None:
        return recipe.prompts or ("",) * 4
    chosen = np.linspace(0, len(captions.texts) - 1, min(NUM_SAMPLE_PROMPTS, len(captions.texts))).round().astype(int)
    return tuple(captions.texts[index] for index in chosen)


def duration(seconds: float) -> str:
    """Seconds in the units a person would say: 45 s, 12 min, 2 h 5 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
