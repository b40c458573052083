"""The plan of a run on disk, its stretches, and what it foretells."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from t2v.checkpoint.run_folder import RunFolder
from t2v.config import Recipe
from t2v.errors import RunError
from t2v.reading import load_recipe, recipe_keys, recipe_names
from t2v.training.plan import (
    FREE,
    Machine,
    Plan,
    Stretch,
    differences,
    half_size_steps,
    load_plan,
    recipe_toml,
    save_plan,
)


def plan_for(recipe: Recipe, **changed: Any) -> Plan:
    fields: dict[str, Any] = {
        "recipe": recipe,
        "precision": "fp32",
        "precision_reason": "as asked",
        "seconds_per_step": 1.0,
        "stretches": (Stretch(start=0, end=recipe.train.num_steps),),
        "machine": Machine.here(torch.device("cpu"), 1),
        "clips_folder": "gifs",
        "clips": {"a.gif": {"sha256": "00", "captions": ['schwarzer Käse \\ "ok"']}},
        "frame_ms": 100.0,
        "cond_dim": None,
        "encoder_sha256": None,
        "prompts": ("日本",),
    }
    return Plan(**fields | changed)


def steps_of(num_steps: int, **train: str) -> Recipe:
    typed = {"train.num_steps": str(num_steps)} | {f"train.{key}": value for key, value in train.items()}
    return load_recipe("tiny", typed)


def test_a_plan_is_read_back_as_it_was(tmp_path: Path) -> None:
    plan = plan_for(load_recipe("seed"))
    save_plan(RunFolder(tmp_path), plan)
    assert load_plan(RunFolder(tmp_path)) == plan


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"recipe": 3}', "\x00"])
def test_a_broken_plan_says_how_to_go_on(tmp_path: Path, content: str) -> None:
    (tmp_path / "plan.json").write_text(content)
    with pytest.raises(RunError, match=r"cannot be resumed: .*start anew with --fresh"):
        load_plan(RunFolder(tmp_path))


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_written_as_toml_is_the_same_recipe(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    path = tmp_path / "recipe.toml"
    path.write_text(recipe_toml(recipe), encoding="utf-8")
    assert load_recipe(str(path)) == recipe


@given(
    st.lists(st.text(st.characters(codec="utf-8"), max_size=20), max_size=3),
    st.floats(1e-9, 1.0),
    st.sampled_from([None, 4, 64]),
)
def test_any_text_or_number_of_a_recipe_survives_toml(prompts: list[str], rate: float, init_dim: int | None) -> None:
    recipe = Recipe.model_validate(
        {
            "about": "".join(prompts),
            "prompts": prompts,
            "train": {"learning_rate": rate},
            "model": {"init_dim": init_dim},
        }
    )
    assert Recipe.model_validate(tomllib.loads(recipe_toml(recipe))) == recipe


def test_differences_name_the_setting_and_both_values() -> None:
    stored, asked = load_recipe("tiny"), load_recipe("tiny", {"train.learning_rate": "0.5", "train.num_steps": "7"})
    assert differences(stored, asked) == ["train.learning_rate is 0.002 in the run and 0.5 now"]


def test_where_memory_is_saved_may_change_within_a_run() -> None:
    saving = load_recipe("tiny", {"train.checkpoint_activations": "true", "train.ema_device": "cpu"})
    assert differences(load_recipe("tiny"), saving) == []


def test_every_free_setting_exists() -> None:
    assert set(recipe_keys()) >= FREE


def test_an_extension_starts_a_stretch_of_its_own() -> None:
    plan = plan_for(steps_of(10)).extended(at=10, num_steps=30, budget_s=None)
    assert plan.num_steps == plan.recipe.train.num_steps == 30
    assert plan.stretch_at(9) == Stretch(start=0, end=10)
    assert plan.stretch_at(10) == plan.stretch_at(29) == Stretch(start=10, end=30)


def test_an_extension_before_the_end_cuts_the_stretch_short() -> None:
    plan = plan_for(steps_of(10)).extended(at=4, num_steps=30, budget_s=None)
    assert plan.stretches == (Stretch(start=0, end=4), Stretch(start=4, end=30))


def test_an_extension_before_the_first_step_is_just_a_longer_run() -> None:
    plan = plan_for(steps_of(10)).extended(at=0, num_steps=30, budget_s=None)
    assert plan.stretches == (Stretch(start=0, end=30),)


@given(st.integers(1, 300), st.integers(0, 300), st.integers(1, 50), st.integers(1, 50))
def test_the_time_left_counts_what_the_loop_will_do(num_steps: int, done: int, save: int, sample: int) -> None:
    done = min(done, num_steps)
    recipe = steps_of(num_steps, save_every=str(save), sample_every=str(sample))
    plan = plan_for(recipe, seconds_per_sheet=1e3, seconds_per_save=1e6)
    # Seconds chosen so that steps, sheets and saves can be read off the sum.
    ahead = range(done + 1, num_steps + 1)
    num_saves = sum(step % save == 0 or step == num_steps for step in ahead)
    num_sheets = sum(step % sample == 0 or step == num_steps for step in ahead)
    assert plan.seconds_left(done, seconds_per_step=1.0) == len(ahead) + 1e3 * num_sheets + 1e6 * num_saves


@given(st.integers(1, 300), st.integers(0, 300), st.integers(0, 300), st.floats(0.1, 1.0))
def test_a_budget_of_the_time_left_allows_the_steps_that_are_left(
    num_steps: int, half: int, done: int, cost: float
) -> None:
    share, done = half / 301, min(done, num_steps)
    half = half_size_steps(share, num_steps)
    recipe = steps_of(num_steps, save_every="1", sample_every="1", half_size_share=str(share))
    plan = plan_for(recipe, half_size_steps=half, half_size_cost=cost, seconds_per_sheet=3.0, seconds_per_save=5.0)
    assert plan.work(0, done) == pytest.approx(cost * min(half, done) + max(0, done - half))
    assert plan.work(0, done) + plan.work(done, num_steps) == pytest.approx(plan.work(0, num_steps))
    left = plan.seconds_left(done, seconds_per_step=2.0)
    assert plan.steps_within(left + 0.1, step=done, spent=0.0, seconds_per_step=2.0) == num_steps
    if done < num_steps:
        assert plan.steps_within(left - 0.1, step=done, spent=0.0, seconds_per_step=2.0) == num_steps - 1
    assert plan.steps_within(left, step=done, spent=left + 9, seconds_per_step=2.0) == done


def test_weights_that_saw_small_clips_alone_draw_small_ones() -> None:
    plan = plan_for(steps_of(10), half_size_steps=4)
    assert [plan.knows_half_size(step) for step in (0, 1, 4, 5, 10)] == [False, True, True, False, False]
    assert not plan_for(steps_of(10)).knows_half_size(0)


def test_steps_at_half_the_size_keep_their_share_when_the_end_moves_before_they_are_over() -> None:
    plan = plan_for(steps_of(100, half_size_share="0.4"), half_size_steps=40)
    moved = {at: plan.fitted(at=at, done=0.1, num_steps=50).half_size_steps for at in (10, 30, 40, 45)}
    assert moved == {10: 20, 30: 30, 40: 40, 45: 40}
    assert plan.fitted(at=10, done=0.1, num_steps=200).half_size_steps == 80
    assert plan.fitted(at=40, done=0.1, num_steps=200).half_size_steps == 40
    longer = {at: plan.extended(at=at, num_steps=200, budget_s=None).half_size_steps for at in (0, 30, 40, 100)}
    assert longer == {0: 80, 30: 80, 40: 40, 100: 40}
    assert half_size_steps(0.999, 10) == 9


def test_what_a_machine_has_otherwise_is_told_in_words() -> None:
    machine = Machine(device="cpu", num_processes=1, threads=2, versions={"torch": "2.13.0", "bitsandbytes": "0.50"})
    now = Machine(device="cuda", num_processes=1, threads=4, versions={"torch": "2.13.0"})
    assert machine.changes(machine) == []
    assert machine.changes(now) == [
        "device cpu then and cuda now",
        "number of threads 2 then and 4 now",
        "bitsandbytes 0.50 then and None now",
    ]
