"""The loop learns what it is shown, and a run that stops and goes on ends where an unbroken one does."""

import json
import math
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from t2v.checkpoint import load_checkpoint
from t2v.checkpoint.run_folder import RunFolder
from t2v.config import GenerationSettings, Recipe
from t2v.diffusion.balance import LossBalance
from t2v.diffusion.timesteps import LossSecondMoment
from t2v.errors import RunError
from t2v.model.text import TextFeatures
from t2v.reading import recipe_from_mapping
from t2v.sampling import build_diffusion, sample_clips
from t2v.training.batches import MappedClips, TrainingClips, to_float
from t2v.training.choose import fresh_network
from t2v.training.loop import MIN_LOSS_SCALE, Training
from t2v.training.plan import Machine, Plan, Stretch
from t2v.training.processes import make_accelerator

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


def least_recipe(**train: object) -> Recipe:
    """Hardly a network: a CPU is slow in fp16."""
    recipe = tiny_recipe(**{"batch_size": 2, **train})
    model = recipe.model.model_copy(update={"dim": 8, "dim_mults": (1,), "attn_heads": (1,)})
    return recipe.model_copy(update={"model": model})


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


def start(folder: Path, recipe: Recipe, clips: TrainingClips, *, precision: str = "fp32") -> Training:
    cond_dim = None if clips.pooled is None else TEXT_DIM
    accelerator = make_accelerator(CPU)
    plan = Plan(
        recipe=recipe,
        precision=precision,
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


def text_of(pooled: Tensor) -> TextFeatures:
    """Features of texts whose only token is the whole text."""
    mask = torch.ones(len(pooled), 1, dtype=torch.bool)
    return TextFeatures(pooled, pooled[:, None], mask, ~mask[:, 0])


def draw(training: Training, pooled: Tensor | None, *, seed: int = 0) -> Tensor:
    """One clip a row of pooled from the averaged weights: n c f h w."""
    data = training.plan.recipe.data
    steps = sample_clips(
        training.ema.network,
        build_diffusion(training.plan.recipe),
        text=None if pooled is None else text_of(pooled),
        num_clips=1 if pooled is None else len(pooled),
        shape=(data.channels, data.num_frames, data.size, data.size),
        seed=seed,
        settings=GenerationSettings(num_steps=10, guidance_scale=1.0),
    )
    return torch.cat([step.x_t for step in steps if step.is_last])


def test_several_cores_take_the_clips_of_a_pass_side_by_side(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    clips = clips_of([(200, 30, 30), (30, 30, 200)], captioned=True)
    one_core = start(tmp_path / "one", least_recipe(num_steps=2), clips)
    request.addfinalizer(partial(torch.set_num_threads, torch.get_num_threads()))
    torch.set_num_threads(2)
    two_cores = start(tmp_path / "two", least_recipe(num_steps=2), clips)
    seen: list[tuple[str, int]] = []
    two_cores.network.register_forward_pre_hook(
        lambda network, given: seen.append((threading.current_thread().name[:5], len(given[0])))
    )
    for one, two in zip(one_core.steps(), two_cores.steps(), strict=True):
        assert two.loss == pytest.approx(one.loss, rel=1e-5)
        assert two.grad_norm == pytest.approx(one.grad_norm, rel=1e-4)
    assert seen == [("clips", 1)] * 4
    saving = start(tmp_path / "saving", least_recipe(num_steps=2, checkpoint_activations=True), clips)
    saving.network.register_forward_pre_hook(lambda network, given: seen.append(("whole", len(given[0]))))
    saving.take_step()
    assert seen[4:] == [("whole", 2)]


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


@pytest.mark.parametrize("optimizer", ["adamw", "adamw8bit", "muon"])
def test_a_run_that_stops_and_goes_on_ends_bit_for_bit_as_an_unbroken_one(tmp_path: Path, optimizer: str) -> None:
    recipe = tiny_recipe(num_steps=9, batch_size=2, optimizer=optimizer, accumulation=2, save_every=4)
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
        # The mean, as Adam divides a gradient by its own size: where there is next to none, rounding is all it sees.
        for weights, others in zip(whole.network.parameters(), parts.network.parameters(), strict=True):
            assert (weights - others).abs().mean() < 1e-6


def beside_stills(clips: TrainingClips, *, share: float) -> TrainingClips:
    """The clips, and each of their frames as a still with the clip's caption."""
    rows = [*clips.frames.numpy(), *(frame[None] for clip in clips.frames.numpy() for frame in clip)]
    captions = [*clips.captions, *(rows for rows in clips.captions for _ in range(4))]
    return replace(clips, frames=MappedClips(rows), captions=captions, num_frames=4, still_share=share)


def test_accumulation_learns_what_one_large_batch_learns_beside_stills(tmp_path: Path) -> None:
    clips = beside_stills(clips_of([(200, 30, 30), (30, 200, 30)], captioned=True), share=0.4)
    whole = start(tmp_path / "whole", by_losses(num_steps=8, batch_size=4), clips)
    parts = start(tmp_path / "parts", by_losses(num_steps=8, batch_size=1, accumulation=4), clips)
    for one, other in zip(whole.steps(), parts.steps(), strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-3)
        assert one.grad_norm == pytest.approx(other.grad_norm, rel=1e-3)
    assert whole.loss_history is not None and parts.loss_history is not None
    torch.testing.assert_close(whole.loss_history.state(), parts.loss_history.state(), rtol=1e-3, atol=0)


def test_the_network_sees_clips_whole_and_stills_one_by_one(tmp_path: Path) -> None:
    clips = beside_stills(clips_of([(200, 30, 30)], captioned=False), share=0.25)
    training = start(tmp_path, tiny_recipe(num_steps=2), clips)
    seen: list[tuple[int, ...]] = []
    training.network.register_forward_pre_hook(lambda network, given: seen.append(tuple(given[0].shape[:3])))
    training.take_step()
    assert seen == [(3, 3, 4), (4, 3, 1)]


def by_losses(**train: object) -> Recipe:
    """Two timesteps drawn by their losses, whose histories are full after a few steps; the variance is learned too."""
    recipe = least_recipe(**{"batch_size": 4, **train})
    process = {"num_timesteps": 2, "timesteps": "loss_second_moment", "variance": "learned_range", "loss": "l2"}
    diffusion = recipe.diffusion.model_copy(update=process)
    return recipe.model_copy(update={"diffusion": diffusion})


def split_alike(tmp_path: Path, recipe_of: Callable[..., Recipe]) -> Training:
    """A run of eight steps, which learned and remembers what another did whose batches came in two passes."""
    clips = clips_of([(200, 30, 30), (30, 200, 30)], captioned=True)
    whole = start(tmp_path / "whole", recipe_of(num_steps=8, batch_size=4), clips)
    parts = start(tmp_path / "parts", recipe_of(num_steps=8, batch_size=2, accumulation=2), clips)
    for one, other in zip(whole.steps(), parts.steps(), strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-3)
        assert one.grad_norm == pytest.approx(other.grad_norm, rel=1e-3)
    assert whole.loss_history is not None and parts.loss_history is not None
    torch.testing.assert_close(whole.loss_history.state(), parts.loss_history.state(), rtol=1e-3, atol=0)
    return whole


def test_timesteps_are_drawn_by_their_losses_however_the_batch_is_split(tmp_path: Path) -> None:
    history = split_alike(tmp_path, by_losses).loss_history
    assert isinstance(history, LossSecondMoment) and history.is_warm
    assert history.probabilities()[0] != 0.5


def balanced(**train: object) -> Recipe:
    """Levels that count alike, with a learning rate at which soon none is what it was."""
    recipe = least_recipe(**{"batch_size": 4, "learning_rate": 1e-2, **train})
    diffusion = recipe.diffusion.model_copy(update={"num_timesteps": 4, "weighting": "balanced", "loss": "l2"})
    return recipe.model_copy(update={"diffusion": diffusion})


def test_levels_count_alike_however_the_batch_is_split(tmp_path: Path) -> None:
    history = split_alike(tmp_path, balanced).loss_history
    assert isinstance(history, LossBalance) and history.counts.sum() == 32


def test_gradients_are_balanced_once_losses_are_known(tmp_path: Path) -> None:
    clips = clips_of([(200, 30, 30), (30, 200, 30)], captioned=True)
    recipe = balanced(num_steps=2)
    plain = recipe.model_copy(update={"diffusion": recipe.diffusion.model_copy(update={"weighting": "none"})})
    weighed, not_weighed = (
        list(start(tmp_path / name, asked, clips).steps()) for name, asked in (("one", recipe), ("two", plain))
    )
    assert weighed[0].grad_norm == not_weighed[0].grad_norm
    assert weighed[1].grad_norm != pytest.approx(not_weighed[1].grad_norm, rel=1e-3)


@pytest.mark.parametrize("recipe_of", [by_losses, balanced])
def test_a_loss_history_is_resumed_exactly(tmp_path: Path, recipe_of: Callable[..., Recipe]) -> None:
    clips = clips_of([(200, 30, 30), (30, 200, 30)], captioned=True)
    recipe = recipe_of(num_steps=9, save_every=6)
    unbroken = start(tmp_path / "run", recipe, clips)
    unbroken_losses = [progress.loss for progress in unbroken.steps()][6:]
    again = start(tmp_path / "run", recipe, clips)
    again.resume(next(folder for folder in again.run.steps() if folder.step == 6))
    assert [progress.loss for progress in again.steps()] == unbroken_losses
    assert again.loss_history is not None and unbroken.loss_history is not None
    known = unbroken.loss_history.state()
    assert all(torch.equal(tensor, known[name]) for name, tensor in again.loss_history.state().items())


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


def test_activations_computed_again_and_averages_in_the_cpus_memory_train_the_same(tmp_path: Path) -> None:
    clips = clips_of([(200, 30, 30), (30, 30, 200)], captioned=True)
    usual = start(tmp_path / "usual", least_recipe(num_steps=3, ema_start=1), clips)
    recipe = least_recipe(num_steps=3, ema_start=1, checkpoint_activations=True, ema_device="cpu")
    saving = start(tmp_path / "saving", recipe, clips)
    calls: list[Training] = []
    for training in (usual, saving):
        training.network.mid_block1.register_forward_pre_hook(lambda *given, caller=training: calls.append(caller))
    for one, other in zip(usual.steps(), saving.steps(), strict=True):
        assert (one.loss, one.grad_norm) == (other.loss, other.grad_norm)
    assert calls.count(saving) == 2 * calls.count(usual) > 0
    for one, other in zip(networks(usual), networks(saving), strict=True):
        assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in one.state_dict().items())


def test_how_memory_is_saved_is_no_part_of_a_checkpoints_network(tmp_path: Path) -> None:
    recipe = least_recipe(num_steps=1, checkpoint_activations=True)
    training = start(tmp_path, recipe, clips_of([(9, 9, 9)], captioned=False))
    finish(training)
    assert not load_checkpoint(tmp_path).network().checkpoint_activations
    usual = start(tmp_path, least_recipe(num_steps=1), clips_of([(9, 9, 9)], captioned=False))
    newest = training.run.newest_step()
    assert newest is not None
    usual.resume(newest)
    assert usual.step == 1 and not usual.network.checkpoint_activations


def finish(training: Training) -> None:
    for _ in training.steps():
        pass


def test_every_average_is_the_one_that_a_run_with_its_decay_alone_keeps(tmp_path: Path) -> None:
    clips = clips_of([(200, 30, 30)], captioned=False)
    several = start(tmp_path / "several", least_recipe(num_steps=4, ema_start=1, more_ema_decays=[0.0, 0.25]), clips)
    alone = start(tmp_path / "alone", least_recipe(num_steps=4, ema_start=1, ema_decay=0.25), clips)
    finish(several)
    finish(alone)
    newest, other = several.run.newest_step(), alone.run.newest_step()
    assert newest is not None and other is not None
    expected = load_checkpoint(other.path).weights
    weights = {decay: load_checkpoint(newest.more_ema(decay)).weights for decay in (0.0, 0.25)}
    assert all(torch.equal(weights[0.25][name], expected[name]) for name in expected)
    assert all(torch.equal(weights[0.0][name], now) for name, now in load_checkpoint(newest.weights).weights.items())
    assert not all(torch.equal(weights[0.0][name], weights[0.25][name]) for name in expected)


def test_a_further_average_is_a_checkpoint_of_its_own(tmp_path: Path) -> None:
    training = start(
        tmp_path / "run", least_recipe(num_steps=1, more_ema_decays=[0.999]), clips_of([(9, 9, 9)], captioned=False)
    )
    finish(training)
    checkpoint = load_checkpoint(tmp_path / "run" / "checkpoints" / "step-00000001" / "ema-0.999.safetensors")
    assert checkpoint.name == "run/step-00000001/ema-0.999.safetensors"
    assert checkpoint.network().state_dict().keys() == training.network.state_dict().keys()


def test_in_fp16_the_network_computes_in_halves_and_learns_the_same(tmp_path: Path) -> None:
    clips = clips_of([(200, 30, 30), (30, 30, 200)], captioned=True)
    recipe = least_recipe(num_steps=6)
    whole = start(tmp_path / "fp32", recipe, clips)
    half = start(tmp_path / "fp16", recipe, clips, precision="fp16")
    seen: set[torch.dtype] = set()
    layer = next(module for module in half.network.modules() if isinstance(module, torch.nn.Linear))
    layer.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    for one, other in zip(whole.steps(), half.steps(), strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-3)
        assert one.grad_norm == pytest.approx(other.grad_norm, rel=1e-2)  # a scale left in would show
        assert not other.skipped
    assert seen == {torch.float16}
    assert {tensor.dtype for tensor in half.network.state_dict().values()} == {torch.float32}


def scaled(training: Training, scale: float, *, growth_interval: int = 2000) -> Training:
    training.scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=growth_interval)
    return training


def test_a_step_whose_gradients_overflow_is_skipped_and_said(tmp_path: Path) -> None:
    clips = clips_of([(200, 30, 30)], captioned=False)
    recipe = least_recipe(num_steps=40, ema_start=0, more_ema_decays=[0.5])
    training = start(tmp_path, recipe, clips, precision="fp16")
    steps = training.steps()
    assert not any(next(steps).skipped for _ in range(3))  # the averages are not where the weights are any more
    before = [{name: tensor.clone() for name, tensor in net.state_dict().items()} for net in networks(training)]
    scaled(training, 2.0**30)
    for num_skipped, progress in enumerate(steps):
        if not progress.skipped:
            break
        assert progress.step == 4 + num_skipped
        for net, state in zip(networks(training), before, strict=True):
            assert all(torch.equal(tensor, state[name]) for name, tensor in net.state_dict().items())
    assert 3 <= num_skipped < 30
    assert progress.loss_scale == 2.0 ** (30 - num_skipped)
    for net, state in zip(networks(training), before, strict=True):
        assert any(not torch.equal(tensor, state[name]) for name, tensor in net.state_dict().items())
    lines = [json.loads(line, parse_constant=pytest.fail) for line in training.run.log.read_text().splitlines()]
    assert [line["skipped"] for line in lines] == [False] * 3 + [True] * num_skipped + [False]
    assert [line["loss_scale"] for line in lines[3:6]] == [2.0**29, 2.0**28, 2.0**27]
    assert lines[3]["grad_norm"] is None and lines[-1]["grad_norm"] > 0


def networks(training: Training) -> list[Any]:
    """The network and all its averages."""
    return [training.network, *(ema.network for ema in (training.ema, *training.more_ema))]


def test_skipped_steps_are_logged_however_long_the_run(tmp_path: Path) -> None:
    recipe = least_recipe(num_steps=10**6)
    training = scaled(start(tmp_path, recipe, clips_of([(9, 9, 9)], captioned=False), precision="fp16"), 2.0**40)
    steps = training.steps()
    assert next(steps).skipped
    assert [entry["step"] for entry in training.run.read_log()] == [1]
    steps.close()


def test_steps_skipped_without_end_stop_the_run(tmp_path: Path) -> None:
    clips = clips_of([(9, 9, 9)], captioned=False)
    training = start(tmp_path, least_recipe(num_steps=100), clips, precision="fp16")
    with torch.no_grad():
        next(training.network.parameters()).fill_(math.nan)
    taken = []
    with pytest.raises(RunError, match=r"overflow fp16 at step 24 .*come apart.*train\.precision=fp32"):
        taken += [progress.skipped for progress in training.steps()]
    assert training.step == 24  # from 2**16 down to 2**-8
    assert all(entry["skipped"] for entry in training.run.read_log())
    assert MIN_LOSS_SCALE == 2.0**-8


def test_an_overflow_is_told_from_a_broken_run_by_the_precision_alone(tmp_path: Path) -> None:
    clips = clips_of([(9, 9, 9)], captioned=False)
    for precision in ("fp32", "bf16"):
        training = start(tmp_path / precision, least_recipe(num_steps=5), clips, precision=precision)
        with torch.no_grad():
            next(training.network.parameters()).fill_(math.nan)
        with pytest.raises(RunError, match="the loss is nan at step 0"):
            next(training.steps())


def test_scale_and_growth_and_every_average_are_resumed_exactly(tmp_path: Path) -> None:
    recipe = least_recipe(num_steps=10, save_every=6, ema_start=3, more_ema_decays=[0.5])
    clips = clips_of([(200, 30, 30), (30, 200, 30)], captioned=True)
    # So high and so eager that steps are skipped before and after the save, which falls between two rises.
    unbroken = scaled(start(tmp_path / "unbroken", recipe, clips, precision="fp16"), 2.0**20, growth_interval=2)
    seen = [(progress.loss, progress.loss_scale, progress.skipped) for progress in unbroken.steps()]
    skipped = [step for step, (_, _, is_skipped) in enumerate(seen, 1) if is_skipped]
    assert min(skipped) < 6 < max(skipped)

    first = scaled(start(tmp_path / "broken", recipe, clips, precision="fp16"), 2.0**20, growth_interval=2)
    for progress in first.steps():
        if progress.step == 8:
            break
    second = start(tmp_path / "broken", recipe, clips, precision="fp16")
    newest = second.run.newest_step()
    assert newest is not None and newest.step == 6
    second.resume(newest)
    assert [(p.loss, p.loss_scale, p.skipped) for p in second.steps()] == seen[6:]
    for one, other in zip(networks(unbroken), networks(second), strict=True):
        assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in one.state_dict().items())
