"""Which recipe, size and number of steps suit these clips, this machine and this time."""

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from t2v.checkpoint import build_network
from t2v.checkpoint.run_folder import RunFolder
from t2v.config import Recipe, RecipeName, TrainSettings
from t2v.model import Unet3D
from t2v.model.text import TextFeatures
from t2v.reading import load_recipe
from t2v.runtime import Precision, choose_precision, generator
from t2v.sampling import build_diffusion, sample_clips
from t2v.training.batches import Batch, TrainingClips, draw_batch
from t2v.training.loop import Training
from t2v.training.plan import Machine, Plan, Stretch
from t2v.training.processes import agreed, make_accelerator
from t2v.training.samples import sample_settings

DEFAULT_BUDGET_S = 3600.0
CANDIDATES: tuple[RecipeName, ...] = ("tiny", "small", "base")  # each slower and better than the one before
# A view is a clip seen once by the network. With fewer a larger network shows more blur than the one before it; beyond
# the last number it gains whatever the clips are.
VIEWS_PER_CLIP = 50
MIN_VIEWS = 8_000
MAX_VIEWS = 30_000
SAVE_EVERY_S = 60.0
SHARE_FOR_SAVES = 0.03
MAX_SHARE_FOR_SHEETS = 0.1
NUM_SHEETS = 8
MADE_UP_TOKENS = 16  # of a caption of a dozen words
MEASURED_S = 3.0
# Ho et al. 2022 had the best clips with the most stills that they tried: 8 beside each clip of 16 frames.
MAX_STILL_SHARE = 1 / 3

# What a budget decides by the clock, and a later start takes from the run.
FITTED = ("num_steps", "warmup_steps", "ema_decay", "ema_start", "save_every", "sample_every")


@dataclass(frozen=True)
class Cost:
    """What a recipe takes here, in which precision.

    seconds_per_step: at full size. seconds_per_sheet: of one sample sheet. clips_per_step: over all processes and
    passes. half_size_cost: of a step on clips of half the size, measured in steps at full size.
    """

    seconds_per_step: float
    seconds_per_sheet: float
    clips_per_step: int
    precision: Precision
    half_size_cost: float = 1.0

    def mean_step_s(self, train: TrainSettings) -> float:
        """Seconds a step, over a whole run."""
        return self.seconds_per_step * (1 - train.half_size_share * (1 - self.half_size_cost))


@dataclass(frozen=True)
class Choice:
    """A recipe fitted to a budget, with the reasons in sentences."""

    recipe: Recipe
    cost: Cost
    reasons: tuple[str, ...]


def views_needed(num_clips: int) -> int:
    """How often the network should see clips before a larger network is worth its slower steps."""
    return max(MIN_VIEWS, min(MAX_VIEWS, VIEWS_PER_CLIP * num_clips))


def share_of_stills(asked: float | None, *, num_videos: int, num_stills: int, num_frames: int) -> float | None:
    """The share of the places of a batch that stills take; None where there are not both, or nothing to tell them by.

    Not asked for it is their share of an epoch, in which each clip has one place and num_frames stills have one, up to
    MAX_STILL_SHARE: however many photos lie among a few clips, these stay what is learned.
    """
    if num_frames == 1 or not num_videos or not num_stills:
        return None
    places = num_stills / num_frames
    return min(MAX_STILL_SHARE, places / (num_videos + places)) if asked is None else asked


def choose_recipe(
    *,
    num_clips: int,
    num_stills: int = 0,
    side: int,
    budget_s: float,
    typed: Mapping[str, str],
    measure: Callable[[Recipe], Cost],
) -> Choice:
    """The largest recipe that still sees the clips often enough within the budget.

    num_stills: beside the clips. side: median shorter side of the clips, in pixels. typed: settings that the person
    chose. measure: times a recipe.
    """
    needed = views_needed(num_clips)
    best: tuple[Recipe, Cost] | None = None
    seen = []
    for name in CANDIDATES:
        size = {} if name == "tiny" else {"data.size": "64" if side >= 48 else "32"}
        recipe = load_recipe(name, {**size, **typed})
        cost = measure(recipe)
        recipe = fit_to_budget(recipe, budget_s, cost, typed)
        num_frames, asked = recipe.data.num_frames, recipe.train.still_share
        share = share_of_stills(asked, num_videos=num_clips, num_stills=num_stills, num_frames=num_frames)
        views = int(recipe.train.num_steps * cost.clips_per_step * (1 - (share or 0.0)))
        seen.append(f"{name} manages {views} at {recipe.data.size}x{recipe.data.size}")
        if best is None or views >= needed:
            best, chosen, enough = (recipe, cost), name, views >= needed
        if views < needed:
            break  # the next ones are slower still
    assert best is not None
    why = "the largest that manages enough" if enough else "it is the quickest there is"
    reasons = (
        f"a network should be shown {num_clips} clips about {needed} times in all; in this time {', '.join(seen)}",
        f"recipe: {chosen} ({why})",
    )
    return Choice(*best, reasons)


def fit_to_budget(recipe: Recipe, budget_s: float, cost: Cost, typed: Mapping[str, str]) -> Recipe:
    """The recipe with as many steps as the budget allows, and warm-up, averaging, saves and samples to match.

    typed: settings that the person chose; those stay as they are.
    """
    train = recipe.train
    step_s = cost.mean_step_s(train)
    num_steps = steps_in(budget_s, cost.seconds_per_sheet, step_s)
    num_sheets = int(MAX_SHARE_FOR_SHEETS * budget_s / max(cost.seconds_per_sheet, 1e-9))
    fitted: dict[str, Any] = {
        "num_steps": num_steps,
        "warmup_steps": min(train.warmup_steps, num_steps // 20),
        # The average spans about a twentieth of the run.
        "ema_decay": min(0.9999, max(0.9, 1 - 20 / num_steps)),
        "ema_start": min(train.ema_start, num_steps // 20),
        "save_every": max(1, min(num_steps, round(SAVE_EVERY_S / step_s))),
        "sample_every": -(-num_steps // max(1, min(NUM_SHEETS, num_sheets))),
    }
    chosen = {name: value for name, value in fitted.items() if f"train.{name}" not in typed}
    return recipe.model_copy(update={"train": train.model_copy(update=chosen)})


def steps_in(budget_s: float, seconds_per_sheet: float, step_s: float) -> int:
    """How many steps of step_s seconds a budget allows beside its sample sheets and saves."""
    # The last sheet is drawn however short the run.
    sheets_s = min(NUM_SHEETS * seconds_per_sheet, max(seconds_per_sheet, MAX_SHARE_FOR_SHEETS * budget_s))
    return max(1, int((budget_s * (1 - SHARE_FOR_SAVES) - sheets_s) / step_s))


def measure_cost(
    recipe: Recipe, *, cond_dim: int | None, num_prompts: int, device: torch.device, precision: Precision | None
) -> Cost:
    """Time the loop's own steps on made-up clips. precision None: probe for the better one first."""
    # What a clock says is agreed on at once: processes that went on differently would wait for each other for ever.
    chosen = agreed(precision or probe_precision(recipe, cond_dim=cond_dim, device=device))
    training = _made_up_run(_of_mean_length(recipe), cond_dim=cond_dim, device=device, precision=chosen)
    step_s = _median_step(training)
    sheet_s = num_prompts * _seconds_per_sample(training, recipe.data.num_frames)
    half_size_cost = 1.0
    if recipe.train.half_size_share:
        smaller = _of_mean_length(_of_half_size(recipe))
        smaller_run = _made_up_run(smaller, cond_dim=cond_dim, device=device, precision=chosen)
        half_size_cost = min(1.0, _median_step(smaller_run) / step_s)
    return agreed(Cost(step_s, sheet_s, training.global_batch, chosen, half_size_cost))


def _median_step(training: Training) -> float:
    """Seconds of a step of a made-up run, after the first, which allocates and warms up."""
    first = agreed(_seconds(training.take_step))
    # Not longer than a short run is worth.
    num_timed = max(1, min(20, training.plan.num_steps // 20, int(MEASURED_S / first)))
    return statistics.median(_seconds(training.take_step) for _ in range(num_timed))


def seconds_per_step(recipe: Recipe, *, cond_dim: int | None, device: torch.device, precision: Precision) -> float:
    """About what an optimizer step takes, from as few passes as tell; MEASURED_S or one pass of one clip suffice."""
    recipe = _of_mean_length(recipe)
    train = recipe.train
    num_clips = train.batch_size * train.accumulation
    share = {"batch_size": 1, "accumulation": 1}
    least = recipe.model_copy(update={"train": train.model_copy(update=share)})
    training = _made_up_run(least, cond_dim=cond_dim, device=device, precision=precision)
    one_s = _seconds(training.take_step)
    if one_s < MEASURED_S:
        one_s = _seconds(training.take_step)  # the first allocated and warmed up
    if one_s * num_clips > MEASURED_S:
        return one_s * num_clips
    training = _made_up_run(recipe, cond_dim=cond_dim, device=device, precision=precision)
    return min(_seconds(training.take_step) for _ in range(3))


def _made_up_run(recipe: Recipe, *, cond_dim: int | None, device: torch.device, precision: Precision) -> Training:
    """A run on made-up clips, of which nothing is written."""
    accelerator = make_accelerator(device)
    plan = Plan(
        recipe=recipe,
        precision=precision.name,
        precision_reason=precision.reason,
        seconds_per_step=0.0,
        stretches=(Stretch(start=0, end=recipe.train.num_steps),),
        machine=Machine.here(accelerator.device, accelerator.num_processes),
        clips_folder="",
        clips={},
        frame_ms=100.0,
        cond_dim=cond_dim,
        encoder_sha256=None,
        prompts=(),
    )
    run, network = RunFolder(Path("never-written")), fresh_network(recipe, cond_dim)
    return Training(run, plan, network, _made_up_clips(recipe, cond_dim), accelerator)


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _seconds_per_sample(training: Training, num_frames: int) -> float:
    """What one clip of a sample sheet takes, from its second denoising step; the first warms up."""
    recipe = training.plan.recipe
    data, settings, cond_dim = recipe.data, sample_settings(recipe), training.plan.cond_dim
    steps = sample_clips(
        training.ema.network,
        build_diffusion(recipe),
        text=None if cond_dim is None else _made_up_text(cond_dim),
        num_clips=1,
        shape=(data.channels, num_frames, data.size, data.size),
        seed=0,
        settings=settings,
        precision=training.plan.precision,
    )
    next(steps)
    return settings.num_steps * _seconds(lambda: next(steps))


def _made_up_text(cond_dim: int) -> TextFeatures:
    mask = torch.ones(1, MADE_UP_TOKENS, dtype=torch.bool)
    return TextFeatures(torch.zeros(1, cond_dim), torch.zeros(*mask.shape, cond_dim), mask, ~mask[:, 0])


def probe_precision(recipe: Recipe, *, cond_dim: int | None, device: torch.device) -> Precision:
    """The precision that `recipe.train.precision` asks for; `auto` compares bf16 with float32 on this network."""
    asked = recipe.train.precision
    if asked != "auto":
        return Precision(asked, "as asked")
    # A network started at zero answers 0 in whatever precision.
    recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update={"zero_init": False})})
    network = fresh_network(recipe, cond_dim).to(device)
    batch = made_up_batch(recipe, cond_dim, num_clips=min(4, recipe.train.batch_size)).to(device)

    def run(bf16: bool) -> Tensor:
        network.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            output: Tensor = network(batch.x0, batch.t, batch.text)
            output.float().square().mean().backward()
        return output.detach().cpu()

    return choose_precision(run, on_cpu=device.type == "cpu")


def fresh_network(recipe: Recipe, cond_dim: int | None) -> Unet3D:
    """A network to train, whose first weights follow from the run's seed; torch's global generator is not touched."""
    with torch.random.fork_rng():
        torch.manual_seed(generator("weights", recipe.train.seed).initial_seed())
        network = build_network(recipe, cond_dim)
    network.checkpoint_activations = recipe.train.checkpoint_activations
    return network


def made_up_batch(recipe: Recipe, cond_dim: int | None, *, num_clips: int) -> Batch:
    """A batch of clips such as training would draw, for timings."""
    (batch,) = draw_batch(
        _made_up_clips(recipe, cond_dim),
        seed=0,
        step=0,
        places=range(num_clips),
        global_batch=num_clips,
        num_timesteps=recipe.diffusion.num_timesteps,
        flip_prob=0.0,
        drop_prob=0.0,
    )
    return batch


def made_up_passes(recipe: Recipe, cond_dim: int | None, *, picture_share: float) -> list[Batch]:
    """A made-up batch of every shape that the passes of a run have."""
    num_places, num_frames = recipe.train.batch_size, recipe.data.num_frames
    expected = num_places * picture_share
    shapes = {
        shape
        for pictures in (math.floor(expected), math.ceil(expected))
        for shape in ((num_places - pictures, num_frames), (pictures * num_frames, 1))
    }
    return [
        made_up_batch(_of_frames(recipe, frames), cond_dim, num_clips=num_clips)
        for num_clips, frames in sorted(shapes, reverse=True)
        if num_clips
    ]


def _of_frames(recipe: Recipe, num_frames: int) -> Recipe:
    alone = {"num_frames": num_frames, "lengths": None}
    return recipe.model_copy(update={"data": recipe.data.model_copy(update=alone)})


def _of_half_size(recipe: Recipe) -> Recipe:
    """With clips as its first steps show them, and no share of steps that would show them smaller still."""
    train = recipe.train.model_copy(update={"half_size_share": 0.0})
    data = recipe.data.model_copy(update={"size": recipe.data.size // 2})
    return recipe.model_copy(update={"train": train, "data": data})


def _of_mean_length(recipe: Recipe) -> Recipe:
    """With clips of one length, which cost what those of the recipe cost on average."""
    lengths = recipe.data.lengths
    return recipe if lengths is None else _of_frames(recipe, round(sum(lengths) / 2))


def _made_up_clips(recipe: Recipe, cond_dim: int | None) -> TrainingClips:
    data = recipe.data
    draw = generator("made up")
    shape = (8, data.num_frames, data.size, data.size, data.channels)
    frames = torch.randint(0, 256, shape, generator=draw, dtype=torch.uint8)
    pooled = None if cond_dim is None else torch.randn(8, cond_dim, generator=draw)
    captions = [[] if pooled is None else [row] for row in range(8)]
    tokens = None
    if cond_dim is not None and recipe.model.reads_tokens:
        tokens = list(torch.randn(8, MADE_UP_TOKENS, cond_dim, generator=draw).numpy())
    times = [1000.0] * 8 if recipe.model.interval else None
    return TrainingClips(frames, captions, [False] * 8, pooled, tokens=tokens, times=times)
