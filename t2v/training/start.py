"""Starting a run or going on with it: what was asked now, held against what the run's folder says."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState

from t2v.checkpoint import Checkpoint, load_checkpoint
from t2v.checkpoint.run_folder import RunFolder, StepFolder
from t2v.config import Recipe
from t2v.data.folder import describe_difference
from t2v.errors import RunError, SettingsError
from t2v.model import Unet3D
from t2v.model.text import TextFeatures
from t2v.reading import check_key, load_recipe, recipe_from_mapping
from t2v.runtime import Precision, pick_device
from t2v.training.captions import RunCaptions
from t2v.training.changes import check_parent, extended, pace, ways_on, with_what_is_typed
from t2v.training.choose import (
    DEFAULT_BUDGET_S,
    Cost,
    choose_recipe,
    fit_to_budget,
    fresh_network,
    measure_cost,
)
from t2v.training.clips import (
    clips_to_draw_from,
    decide_still_share,
    frame_ms,
    load_run_clips,
    moving_clips,
    survey,
    texts_to_sample,
)
from t2v.training.compiled import Compilation, choose_compiled, compile_again
from t2v.training.loop import Training
from t2v.training.plan import Machine, Plan, Stretch, half_size_steps, load_plan, save_plan
from t2v.training.processes import agreed, make_accelerator, meet_processes
from t2v.training.request import TrainRequest, duration
from t2v.training.samples import draw_samples, write_sheet
from t2v.training.tensorboard import check_tensorboard

NUM_SAMPLE_PROMPTS = 8

Say = Callable[[str], None]


@dataclass(frozen=True)
class ReadyRun:
    """A run that can take its next step, and what its sample sheets need."""

    training: Training
    text: TextFeatures | None

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
            self.text,
            num_clips=len(plan.prompts),
            size=training.header().size,
            frame_ms=plan.frame_ms,
            precision=plan.precision,
        )
        sheet = write_sheet(training.run.samples, training.step, clips, plan.prompts, plan.frame_ms)
        if training.events is not None:
            training.events.add_sheet(training.step, sheet)
        return sheet

    def agreed_signal(self, number: int) -> int:
        """The largest number of all processes: a signal that reached one of them stops all after the same step."""
        accelerator = self.training.accelerator
        if accelerator.num_processes == 1:
            return number
        return int(accelerator.gather(torch.tensor([number], device=accelerator.device)).max())


@contextmanager
def hold_run(request: TrainRequest, say: Say) -> Iterator[ReadyRun]:
    """`open_run`, with the run kept from other processes meanwhile, and parted from this run's own at the end.

    Raises what that does, and RunError where another process trains the run.
    """
    meet_processes(pick_device(request.device))
    with request.run.locked() if PartialState().is_main_process else nullcontext():
        ready = open_run(request, say)
        try:
            yield ready
        finally:
            ready.training.close()


def open_run(request: TrainRequest, say: Say) -> ReadyRun:
    """Start the run that is asked for, or go on with the one that is there.

    Raises RunError where the run on disk has other clips or settings than asked for now, and DatasetError,
    SettingsError, TextEncoderError or CheckpointError for what they name. Nothing on disk is lost by any of them.
    """
    if request.budget_s is not None and "train.num_steps" in request.typed:
        raise SettingsError("--steps and --budget both say when to stop; give one of them")
    for key in request.typed:
        check_key(key)
    run = request.run
    if run.path.resolve().is_relative_to(request.clips.resolve()):
        raise RunError(
            f"the run folder {run.path} lies among the clips, where its sample sheets would be trained on; "
            "name another with --out"
        )
    device = pick_device(request.device)
    meet_processes(device)
    if agreed(request.fresh or not run.exists()):
        return _begin(request, run, device, say)
    return _resume(request, run, device, say)


def _begin(request: TrainRequest, run: RunFolder, device: torch.device, say: Say) -> ReadyRun:
    run.check_free()
    parent = None if request.init_from is None else load_checkpoint(request.init_from)
    if parent is not None:
        parent.check_shapes()
    budget_s, cost = request.budget_s, None
    recipe = _asked_recipe(request, parent, say)
    if recipe is None:
        budget_s = request.budget_s or DEFAULT_BUDGET_S
        recipe, cost = _choose(request, device, budget_s, say)
    check_tensorboard(recipe.train)
    clips = load_run_clips(request.clips, recipe, say)
    captions = RunCaptions.read(clips, recipe, say)
    if parent is not None:
        check_parent(parent, recipe, captions)
    prompts = _sample_prompts(recipe, texts_to_sample(captions.texts, clips.records))
    still_share = decide_still_share(clips, recipe, say)
    if cost is None:
        cost = measure_cost(recipe, cond_dim=captions.cond_dim, num_prompts=len(prompts), device=device, precision=None)
        if budget_s is not None:
            recipe = fit_to_budget(recipe, budget_s, cost, request.typed)
    say(f"arithmetic: {cost.precision.name} ({cost.precision.reason})")
    accelerator = make_accelerator(device)
    picture_share = (still_share or 0.0) + recipe.train.frame_share
    network, compilation = _maybe_compiled(recipe, captions.cond_dim, picture_share, cost, accelerator.device, say)
    cost = replace(cost, seconds_per_step=compilation.seconds_per_step or cost.seconds_per_step)
    if budget_s is not None and compilation.seconds:
        recipe = fit_to_budget(recipe, budget_s - compilation.seconds, cost, request.typed)

    plan = Plan(
        recipe=recipe,
        precision=cost.precision.name,
        precision_reason=cost.precision.reason,
        compiled=compilation.used,
        compile_reason=compilation.reason,
        seconds_to_compile=compilation.seconds,
        seconds_per_step=cost.seconds_per_step,
        half_size_steps=half_size_steps(recipe.train.half_size_share, recipe.train.num_steps),
        half_size_cost=cost.half_size_cost,
        seconds_per_sheet=cost.seconds_per_sheet,
        budget_s=budget_s,
        stretches=(Stretch(start=0, end=recipe.train.num_steps, by_budget=budget_s is not None),),
        machine=Machine.here(accelerator.device, accelerator.num_processes),
        clips_folder=str(request.clips),
        clips=clips.scan.manifest,
        still_share=still_share,
        frame_ms=frame_ms(clips.records, recipe.data),
        cond_dim=captions.cond_dim,
        encoder_sha256=captions.encoder_sha256,
        prompts=prompts,
    )
    if parent is not None:
        # What the parent does not have changes nothing at first; check_parent allows for nothing else.
        network.load_state_dict(network.state_dict() | {name: each.float() for name, each in parent.weights.items()})
        say(f"weights from {parent.path}, trained for {parent.header.step} steps")
    elif captions.pooled is not None:
        network.set_text_statistics(captions.pooled, captions.tokens())
    training = Training(run, plan, network, clips_to_draw_from(captions, clips, plan), accelerator)
    if accelerator.is_main_process:
        # The old run moves only now that nothing can be refused any more.
        if run.exists():
            say(f"the run before is kept as {run.set_aside()}")
        run.create()
    started = time.perf_counter()
    training.save()
    training.plan = plan = plan.model_copy(update={"seconds_per_save": time.perf_counter() - started})
    # The plan comes last: a run exists from the moment that there is something to resume.
    if accelerator.is_main_process:
        save_plan(run, plan)
        captions.keep(run.captions)
    _foretell(plan, training, say)
    return ReadyRun(training, captions.features(plan.prompts))


def _resume(request: TrainRequest, run: RunFolder, device: torch.device, say: Say) -> ReadyRun:
    stored = load_plan(run)
    if request.init_from is not None:
        raise RunError(f"{run.path} holds a run already, which --init-from cannot change; add --fresh or another --out")
    newest = _newest_step(run, say)
    plan = with_what_is_typed(request, run, stored)
    check_tensorboard(plan.recipe.train)
    clips = load_run_clips(request.clips, plan.recipe, say)
    changed = describe_difference(plan.clips, clips.scan.manifest)
    if changed:
        raise RunError(
            f"the clips changed since {run.path} was started: {'; '.join(changed)}; put them back, {ways_on(run)}"
        )
    captions = RunCaptions.read(clips, plan.recipe, say, kept=run.captions)
    if captions.encoder_sha256 != plan.encoder_sha256:
        raise RunError(
            f"the text encoder found now has other weights than the one {run.path} was started with; bring that one "
            f"back, {ways_on(run)}"
        )
    accelerator = make_accelerator(device)
    changes = plan.machine.changes(Machine.here(accelerator.device, accelerator.num_processes))
    if changes:
        say(f"note: the result will not be bit-identical to an unbroken run ({'; '.join(changes)})")
    plan = extended(request, plan, newest, say)
    network = fresh_network(plan.recipe, plan.cond_dim)
    steps_left = newest.step < plan.num_steps
    if plan.compiled and steps_left and not compile_again(network, plan, device=accelerator.device, say=say):
        network = fresh_network(plan.recipe, plan.cond_dim)
    training = Training(run, plan, network, clips_to_draw_from(captions, clips, plan), accelerator)
    training.resume(newest)
    if plan != stored and accelerator.is_main_process:
        save_plan(run, plan)
    if accelerator.is_main_process:
        captions.keep(run.captions)
    ready = ReadyRun(training, captions.features(plan.prompts))
    if not ready.is_finished:
        say(f"going on with {run.path} at step {training.step} of {plan.num_steps}")
        _foretell(plan, training, say)
    return ready


def _maybe_compiled(
    recipe: Recipe, cond_dim: int | None, picture_share: float, cost: Cost, device: torch.device, say: Say
) -> tuple[Unet3D, Compilation]:
    """The run's network with its first weights, compiled where that pays."""
    network = fresh_network(recipe, cond_dim)
    compilation = agreed(
        choose_compiled(
            network, recipe, cond_dim=cond_dim, picture_share=picture_share, cost=cost, device=device, say=say
        )
    )
    say(str(compilation))
    tried_in_vain = compilation.seconds and not compilation.used
    return fresh_network(recipe, cond_dim) if tried_in_vain else network, compilation


def _newest_step(run: RunFolder, say: Say) -> StepFolder:
    newest = run.newest_step()
    if newest is None:
        raise RunError(f"every saved step of {run.path} is damaged; start anew with --fresh")
    damaged = [str(folder.step) for folder in run.steps() if folder.step > newest.step]
    if damaged:
        say(f"warning: the saved step {' and '.join(damaged)} is damaged; taking step {newest.step}")
    return newest


def _asked_recipe(request: TrainRequest, parent: Checkpoint | None, say: Say) -> Recipe | None:
    """The recipe that was named or follows from the parent's settings; None where t2v is to choose."""
    if request.recipe is not None:
        return load_recipe(request.recipe, request.typed)
    if parent is not None:
        # Weights that have seen whole clips have the start at half the size behind them.
        done = {} if parent.header.half_size else {"train.half_size_share": "0"}
        return recipe_from_mapping(parent.header.recipe.model_dump(), done | request.typed, source="--set")
    # What shapes the network, or says how long it trains, leaves no choice between sizes that would be a fair one.
    shaping = [key for key in request.typed if key.startswith(("data.", "model.", "train.num_steps"))]
    if not shaping:
        return None
    say(f"no --recipe given: taking small, as {' and '.join(shaping)} is set")
    return load_recipe("small", request.typed)


def _choose(request: TrainRequest, device: torch.device, budget_s: float, say: Say) -> tuple[Recipe, Cost]:
    # Each clip is decoded once, by the recipe that is chosen. Which files are clips is no matter of that.
    asked = load_recipe("small", request.typed)
    scan = survey(request.clips, asked)
    if request.budget_s is None:
        say(f"no --budget given: taking {duration(budget_s)}")
    say("timing the recipes on this machine")
    moving = moving_clips(scan.looked_at)
    # Of shards some clips are looked at and stand for all.
    num_moving = round(len(scan.clips) * len(moving) / len(scan.looked_at))
    # Photos are larger than clips are, and say nothing about how sharp those are.
    side = int(statistics.median(min(clip.width, clip.height) for clip in moving or scan.looked_at))
    texts = tuple(dict.fromkeys(caption for clip in moving or scan.clips for caption in clip.captions if caption))
    # Widths of text vectors differ little in cost; the encoder itself is not loaded for a timing.
    cond_dim = 384 if texts else None
    precision: Precision | None = None

    def measure(recipe: Recipe) -> Cost:
        nonlocal precision
        num_prompts = len(_sample_prompts(recipe, texts))
        cost = measure_cost(recipe, cond_dim=cond_dim, num_prompts=num_prompts, device=device, precision=precision)
        precision = cost.precision
        return cost

    typed = dict(request.typed)
    if not moving:
        say("every clip is a still: training a model of one frame")
        typed["data.num_frames"] = "1"
    choice = choose_recipe(
        num_clips=num_moving or len(scan.clips),
        num_stills=len(scan.clips) - num_moving if moving else 0,
        side=side,
        budget_s=budget_s,
        typed=typed,
        measure=measure,
    )
    for reason in choice.reasons:
        say(reason)
    return choice.recipe, choice.cost


def _foretell(plan: Plan, training: Training, say: Say) -> None:
    each = pace(plan, training.step, training.seconds)
    left = plan.seconds_left(training.step, seconds_per_step=each)
    num_steps = plan.num_steps - training.step
    mean = each * plan.work(training.step, plan.num_steps) / max(1, num_steps)
    say(f"{num_steps} steps of {mean:.2g} s: about {duration(left)} with samples and saves")


def _sample_prompts(recipe: Recipe, texts: Sequence[str]) -> tuple[str, ...]:
    """The recipe's prompts, or captions spread over the folder. texts: every caption once."""
    if recipe.prompts or not texts:
        return recipe.prompts or ("",) * 4
    chosen = np.linspace(0, len(texts) - 1, min(NUM_SAMPLE_PROMPTS, len(texts))).round().astype(int)
    return tuple(texts[index] for index in chosen)
