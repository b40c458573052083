"""The loop learns what it is shown, and a run that stops and goes on ends where an unbroken one does."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from t2v.checkpoint.run_folder import RunFolder
from t2v.config import GenerationSettings, Recipe, recipe_from_mapping
from t2v.errors import RunError
from t2v.sampling import build_diffusion, sample_clips
from t2v.training.batches import TrainingClips, to_float
from t2v.training.choose import fresh_network
from t2v.training.loop import Training, make_accelerator
from t2v.training.plan import Machine, Plan, Stretch

CPU = torch.device("cpu")
TEXT_DIM = 8


def tiny_recipe(**train: object) -> Recipe:
    settings = {"batch_size": 4, "learning_rate": 3e-3, "warmup_steps": 10, "ema_decay": 0.9, "ema_start": 10}
    return recipe_from_mapping(
        {
            "data": {"size": 16, "num_frames": 4, "flip_prob": 0.0},
            "text": {"drop_prob": 0.1},
            "model": {
                "dim": 16,
                "dim_mults": [1, 2],
                "attn_heads": 2,
                "attn_dim_head": 8,
                "init_kernel_size": 7,
                "patch": 2,
            },
            "diffusion": {"prediction": "x0", "loss": "l2"},
            "train": {**settings, "save_every": 1000, "sample_every": 1000, **train},
        }
    )


def squares(colours: list[tuple[int, int, int]]) -> Tensor:
    """Clips of a square that wanders to the right, each in its colour, on white: uint8 n f h w c."""
    frames = torch.full((len(colours), 4, 16, 16, 3), 255, dtype=torch.uint8)
    for clip, colour in enumerate(colours):
        for frame in range(4):
            frames[clip, frame, 5:11, 3 * frame : 3 * frame + 6] = torch.tensor(colour, dtype=torch.uint8)
    return frames


def clips_of(colours: list[tuple[int, int, int]], *, captioned: bool) -> TrainingClips:
    draw = torch.Generator().manual_seed(0)
    pooled = torch.randn(len(colours), TEXT_DIM, generator=draw) if captioned else None
    captions = [(row,) if captioned else () for row in range(len(colours))]
    return TrainingClips(squares(colours), captions, [False] * len(colours), pooled)


def start(folder: Path, recipe: Recipe, clips: TrainingClips) -> Training:
    cond_dim = None if clips.pooled is None else TEXT_DIM
    accelerator = make_accelerator("fp32", CPU)
    plan = Plan(
        recipe=recipe,
        precision="fp32",
        precision_reason="as asked",
        seconds_per_step=0.1,
        stretches=(Stretch(start=0, end=recipe.train.num_steps),),
        machine=Machine.here(CPU, 1),
        clips_folder="clips",
        clips={},
        frame_ms=100.0,
        cond_dim=cond_dim,
        encoder_sha256=None,
        prompts=(),
    )
    run = RunFolder(folder)
    if not run.checkpoints.exists():
        run.create()
    return Training(run, plan, fresh_network(recipe, cond_dim), clips, accelerator)


def draw(training: Training, pooled: Tensor | None, *, seed: int = 0) -> Tensor:
    """One clip a row of pooled from the averaged weights: n c f h w."""
    data = training.plan.recipe.data
    steps = sample_clips(
        training.ema.network,
        build_diffusion(training.plan.recipe),
        pooled=pooled,
        num_clips=1 if pooled is None else len(pooled),
        shape=(data.channels, data.num_frames, data.size, data.size),
        seed=seed,
        settings=GenerationSettings(num_steps=10, guidance_scale=1.0),
    )
    return torch.cat([step.x_t for step in steps if step.is_last])


@pytest.mark.slow
def test_one_clip_is_learned_by_heart(tmp_path: Path) -> None:
    clips = clips_of([(200, 30, 30)], captioned=False)
    training = start(tmp_path, tiny_recipe(num_steps=300), clips)
    losses = [progress.loss for progress in training.steps()]
    assert losses[0] > 0.3
    assert sum(losses[-20:]) / 20 < 0.01
    assert (draw(training, None) - to_float(clips.frames[0])).square().mean() < 0.01


@pytest.mark.slow
def test_each_caption_draws_its_own_clip(tmp_path: Path) -> None:
    clips = clips_of([(220, 20, 20), (20, 20, 220)], captioned=True)
    training = start(tmp_path, tiny_recipe(num_steps=300), clips)
    for _ in training.steps():
        pass
    truth = torch.stack([to_float(frames) for frames in clips.frames])
    for seed in range(3):
        drawn = draw(training, clips.pooled, seed=seed)
        apart = (drawn[:, None] - truth[None]).square().mean(dim=(2, 3, 4, 5))
        assert apart.argmin(dim=1).tolist() == [0, 1]
        assert apart.diagonal().max() < 0.02


@pytest.mark.parametrize("optimizer", ["adamw", "adamw8bit"])
def test_a_run_that_stops_and_goes_on_ends_bit_for_bit_as_an_unbroken_one(tmp_path: Path, optimizer: str) -> None:
    recipe = tiny_recipe(num_steps=9, optimizer=optimizer, accumulation=2, save_every=4)
    clips = clips_of([(200, 30, 30), (30, 200, 30), (30, 30, 200)], captioned=True)
    unbroken = start(tmp_path / "unbroken", recipe, clips)
    for _ in unbroken.steps():
        pass

    first = start(tmp_path / "broken", recipe, clips)
    for progress in first.steps():
        if progress.step == 6:  # two steps past the save
            break
    second = start(tmp_path / "broken", recipe, clips)
    newest = second.run.newest_step()
    assert newest is not None
    assert newest.step == 4
    second.resume(newest)
    assert [progress.step for progress in second.steps()] == [5, 6, 7, 8, 9]

    for name, tensor in unbroken.accelerator.unwrap_model(unbroken.network).state_dict().items():
        assert torch.equal(tensor, second.accelerator.unwrap_model(second.network).state_dict()[name]), name
    for name, tensor in unbroken.ema.network.state_dict().items():
        assert torch.equal(tensor, second.ema.network.state_dict()[name]), name
    logs = [[entry["loss"] for entry in RunFolder(tmp_path / run).read_log()] for run in ("unbroken", "broken")]
    assert logs[0] == logs[1]
    assert len(logs[0]) == 9


def test_accumulation_learns_what_one_large_batch_learns(tmp_path: Path) -> None:
    clips = clips_of([(200, 30, 30), (30, 200, 30)], captioned=True)
    whole = start(tmp_path / "whole", tiny_recipe(num_steps=3, batch_size=4), clips)
    parts = start(tmp_path / "parts", tiny_recipe(num_steps=3, batch_size=2, accumulation=2), clips)
    for one, other in zip(whole.steps(), parts.steps(), strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-4)
        assert one.grad_norm == pytest.approx(other.grad_norm, rel=1e-3)


def test_the_last_step_is_saved_whatever_the_interval(tmp_path: Path) -> None:
    training = start(tmp_path, tiny_recipe(num_steps=3), clips_of([(9, 9, 9)], captioned=False))
    last = list(training.steps())[-1]
    assert last.saved is not None
    assert last.saved.is_whole()
    assert last.sample_due


def test_a_loss_that_is_no_number_stops_the_run_and_spares_what_was_saved(tmp_path: Path) -> None:
    training = start(tmp_path, tiny_recipe(num_steps=5, save_every=1), clips_of([(9, 9, 9)], captioned=False))
    steps = training.steps()
    next(steps)
    with torch.no_grad():
        next(training.network.parameters()).fill_(math.nan)
    with pytest.raises(RunError, match=r"lower train\.learning_rate"):
        next(steps)
    newest = training.run.newest_step()
    assert newest is not None
    assert newest.step == 1
