"""Which recipe, size and number of steps suit these clips, this machine and this time."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from t2v.checkpoint import build_network
from t2v.checkpoint.run_folder import RunFolder
from t2v.config import Recipe, load_recipe
from t2v.model import Unet3D
from t2v.runtime import Precision, choose_precision, generator
from t2v.training.batches import TrainingClips, draw_batch
from t2v.training.loop import Training, make_accelerator
from t2v.training.plan import Machine, Plan, Stretch

DEFAULT_BUDGET_S = 3600.0
# Fewer views than this leave a network of any size with blurs; more than the last pays little at our sizes.
VIEWS_PER_CLIP = 100
MIN_VIEWS = 5_000
MAX_VIEWS = 40_000
SHARE_FOR_SAMPLES_AND_SAVES = 0.06
NUM_SHEETS = 8
SAVE_EVERY_S = 60.0


@dataclass(frozen=True)
class Cost:
    """What one optimizer step of a recipe takes here, and in which precision."""

    seconds_per_step: float
    precision: Precision


@dataclass(frozen=True)
class Choice:
    """A recipe fitted to a budget, with the reasons in sentences."""

    recipe: Recipe
    cost: Cost
    reasons: tuple[str, ...]


def views_needed(num_clips: int) -> int:
    """How often the network should see clips before a larger network is worth its slower steps."""
    return max(MIN_VIEWS, min(MAX_VIEWS, VIEWS_PER_CLIP * num_clips))


def choose_recipe(
    *, num_clips: int, side: int, budget_s: float, seed: int, measure: Callable[[Recipe], Cost]
) -> Choice:
    """The largest recipe that still sees the clips often enough within the budget.

    side: median shorter side of the clips, in pixels. measure: times a recipe on this machine.
    """
    needed = views_needed(num_clips)
    size = 64 if side >= 48 else 32
    best: tuple[str, Recipe, Cost, int] | None = None
    reasons = [f"{num_clips} clips want about {needed} views"]
    for name in ("tiny", "small", "base"):
        overrides = {"train.seed": str(seed)} | ({} if name == "tiny" else {"data.size": str(size)})
        recipe = load_recipe(name, overrides)
        cost = measure(recipe)
        views = int(budget_s / cost.seconds_per_step) * recipe.train.batch_size * recipe.train.accumulation
        reasons.append(f"{name} at {recipe.data.size} pixels allows {views} in the time")
        if best is not None and views < needed:
            break  # the next ones are slower still
        best = (name, recipe, cost, views)
    assert best is not None
    name, recipe, cost, views = best
    outcome = "the largest that reaches it" if views >= needed else "the quickest there is, though short of it"
    return Choice(fit_to_budget(recipe, budget_s, cost), cost, (*reasons, f"so {name}: {outcome}"))


def fit_to_budget(recipe: Recipe, budget_s: float, cost: Cost) -> Recipe:
    """The recipe with as many steps as the budget allows, and warm-up, averaging, saves and samples to match."""
    num_steps = steps_in(budget_s, cost.seconds_per_step)
    train = recipe.train.model_copy(
        update={
            "num_steps": num_steps,
            "warmup_steps": min(recipe.train.warmup_steps, num_steps // 20),
            # The average spans about a twentieth of the run.
            "ema_decay": min(0.9999, max(0.9, 1 - 20 / num_steps)),
            "ema_start": min(recipe.train.ema_start, num_steps // 20),
            "save_every": max(1, min(num_steps, round(SAVE_EVERY_S / cost.seconds_per_step))),
            "sample_every": max(1, num_steps // NUM_SHEETS),
        }
    )
    return recipe.model_copy(update={"train": train})


def steps_in(budget_s: float, seconds_per_step: float) -> int:
    """How many steps a budget of training time allows beside its samples and saves."""
    return max(1, int(budget_s * (1 - SHARE_FOR_SAMPLES_AND_SAVES) / seconds_per_step))


def measure_cost(recipe: Recipe, *, cond_dim: int | None, device: torch.device, precision: Precision | None) -> Cost:
    """Time the loop's own steps on made-up clips. precision None: probe for the better one first."""
    clips = _made_up_clips(recipe, cond_dim)
    chosen = precision or probe_precision(recipe, cond_dim=cond_dim, device=device)
    accelerator = make_accelerator(chosen.name, device)
    plan = Plan(
        recipe=recipe,
        precision=chosen.name,
        precision_reason=chosen.reason,
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
    network = fresh_network(recipe, cond_dim)
    training = Training(RunFolder(Path("never-written")), plan, network, clips, accelerator)
    training.take_step()  # allocates and warms up
    seconds: list[float] = []
    while len(seconds) < 3 or (sum(seconds) < 3.0 and len(seconds) < 20):
        started = time.perf_counter()
        training.take_step()
        seconds.append(time.perf_counter() - started)
    return Cost(statistics.median(seconds), chosen)


def probe_precision(recipe: Recipe, *, cond_dim: int | None, device: torch.device) -> Precision:
    """The precision that `recipe.train.precision` asks for; `auto` compares bf16 with float32 on this network."""
    asked = recipe.train.precision
    if asked != "auto":
        return Precision(asked, "as asked")
    network = fresh_network(recipe, cond_dim).to(device)
    batch = draw_batch(
        _made_up_clips(recipe, cond_dim),
        seed=0,
        step=0,
        places=range(min(4, recipe.train.batch_size)),
        global_batch=recipe.train.batch_size,
        num_timesteps=recipe.diffusion.num_timesteps,
        flip_prob=0.0,
        drop_prob=0.0,
    ).to(device)

    def run(bf16: bool) -> Tensor:
        network.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            output: Tensor = network(batch.x0, batch.t, batch.text)
            output.float().square().mean().backward()
        return output.detach().cpu()

    return choose_precision(run, on_cpu=device.type == "cpu")


def fresh_network(recipe: Recipe, cond_dim: int | None) -> Unet3D:
    """A network whose first weights follow from the run's seed, without touching torch's global generator."""
    with torch.random.fork_rng():
        torch.manual_seed(generator("weights", recipe.train.seed).initial_seed())
        return build_network(recipe, cond_dim)


def _made_up_clips(recipe: Recipe, cond_dim: int | None) -> TrainingClips:
    data = recipe.data
    draw = generator("made up")
    shape = (8, data.num_frames, data.size, data.size, data.channels)
    frames = torch.randint(0, 256, shape, generator=draw, dtype=torch.uint8)
    pooled = None if cond_dim is None else torch.randn(8, cond_dim, generator=draw)
    captions = [[] if pooled is None else [row] for row in range(8)]
    return TrainingClips(frames, captions, [False] * 8, pooled)
