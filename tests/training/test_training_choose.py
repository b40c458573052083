"""What t2v chooses for some clips and some time, with machines made up for the purpose."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from t2v.config import Recipe
from t2v.errors import SettingsError
from t2v.reading import load_recipe
from t2v.runtime import Precision
from t2v.training import choose as choose_module
from t2v.training.batches import MappedClips, TrainingClips, draw_batch
from t2v.training.choose import (
    CANDIDATES,
    NUM_SHEETS,
    Choice,
    Cost,
    choose_recipe,
    fit_to_budget,
    fresh_network,
    made_up_passes,
    measure_cost,
    probe_precision,
    share_of_stills,
    steps_in,
    views_needed,
)

MINUTE, HOUR = 60.0, 3600.0
# Seconds that one view of a clip takes, forwards and backwards: as measured on one or two old cores, and a tenth of it.
SLOW = {"tiny": 0.04, "small": 0.2, "base": 1.0}
FAST = {name: seconds / 10 for name, seconds in SLOW.items()}
SHEET_OF_VIEWS = 100  # 8 prompts, 20 steps, two passes, each a third of a view


def name_of(recipe: Recipe) -> str:
    return next(name for name in CANDIDATES if load_recipe(name).about == recipe.about)


def machine(seconds_per_view: dict[str, float]) -> Callable[[Recipe], Cost]:
    def measure(recipe: Recipe) -> Cost:
        seconds = seconds_per_view[name_of(recipe)] * (recipe.data.size / load_recipe(name_of(recipe)).data.size) ** 2
        clips = recipe.train.batch_size * recipe.train.accumulation
        return Cost(seconds * clips, seconds * SHEET_OF_VIEWS, clips, Precision("fp32", "made up"))

    return measure


def choose(num_clips: int, budget_s: float, speed: dict[str, float] = SLOW, side: int = 64, **typed: str) -> Choice:
    typed = {key.replace("__", "."): value for key, value in typed.items()}
    return choose_recipe(num_clips=num_clips, side=side, budget_s=budget_s, typed=typed, measure=machine(speed))


@pytest.mark.parametrize(
    ("num_clips", "side", "budget_s", "names"),
    [
        (20, 32, 10 * MINUTE, {"tiny", "small"}),
        (20, 32, 2 * HOUR, {"small", "base"}),
        (405, 128, 10 * MINUTE, {"tiny"}),
        (405, 128, 2 * HOUR, {"small"}),
    ],
)
def test_clips_and_time_decide_on_a_slow_machine(num_clips: int, side: int, budget_s: float, names: set[str]) -> None:
    assert name_of(choose(num_clips, budget_s, side=side).recipe) in names


@pytest.mark.parametrize(
    ("num_clips", "side", "speed"),
    [(20, 32, SLOW), (405, 128, SLOW), (405, 128, FAST)],
    ids=["20 slow", "405 slow", "405 fast"],
)
def test_ten_minutes_and_two_hours_choose_differently(num_clips: int, side: int, speed: dict[str, float]) -> None:
    short, long = (choose(num_clips, budget_s, speed, side).recipe for budget_s in (10 * MINUTE, 2 * HOUR))
    assert name_of(short) != name_of(long)


def test_a_machine_ten_times_as_fast_takes_a_larger_recipe_for_the_same_clips() -> None:
    slow, fast = (name_of(choose(405, 10 * MINUTE, speed).recipe) for speed in (SLOW, FAST))
    assert CANDIDATES.index(fast) > CANDIDATES.index(slow)


@given(st.integers(1, 5000), st.floats(1, 100_000), st.floats(1, 100_000), st.floats(0.001, 10))
def test_more_time_never_chooses_less(num_clips: int, one: float, other: float, factor: float) -> None:
    speed = {name: seconds * factor for name, seconds in SLOW.items()}
    less, more = (choose(num_clips, budget_s, speed) for budget_s in sorted((one, other)))
    ranks = [CANDIDATES.index(name_of(choice.recipe)) for choice in (less, more)]
    assert ranks[0] <= ranks[1]
    if ranks[0] == ranks[1]:
        assert less.recipe.train.num_steps <= more.recipe.train.num_steps


@given(st.integers(1, 5000))
def test_more_clips_never_ask_for_fewer_views(num_clips: int) -> None:
    assert views_needed(num_clips) <= views_needed(num_clips + 1)


def test_only_the_quickest_is_timed_where_it_falls_short_already() -> None:
    timed: list[str] = []

    def measure(recipe: Recipe) -> Cost:
        timed.append(name_of(recipe))
        return machine(SLOW)(recipe)

    choose_recipe(num_clips=405, side=64, budget_s=MINUTE, typed={}, measure=measure)
    assert timed == ["tiny"]


def test_the_reasons_name_the_recipe_and_the_figures() -> None:
    choice = choose(405, 2 * HOUR)
    words = " ".join(choice.reasons)
    assert "405 clips" in words
    assert "recipe: small" in words
    assert str(choice.recipe.train.num_steps * choice.cost.clips_per_step) in words


@pytest.mark.parametrize(
    ("asked", "num_videos", "num_stills", "num_frames", "share"),
    [
        (None, 10, 0, 10, None),
        (None, 0, 10, 10, None),
        (None, 10, 1000, 1, None),
        (None, 10, 1000, 10, 1 / 3),  # the photos do not drown the clips
        (None, 90, 100, 10, 0.1),  # and a few are not shown more often than those
        (0.5, 90, 100, 10, 0.5),
        (0.0, 90, 100, 10, 0.0),
        (0.5, 10, 0, 10, None),
    ],
)
def test_stills_take_their_share_of_an_epoch_and_at_most_a_third(
    asked: float | None, num_videos: int, num_stills: int, num_frames: int, share: float | None
) -> None:
    found = share_of_stills(asked, num_videos=num_videos, num_stills=num_stills, num_frames=num_frames)
    assert found == (None if share is None else pytest.approx(share))


def test_beside_stills_the_clips_are_still_shown_often_enough() -> None:
    def views(num_stills: int) -> int:
        choice = choose_recipe(
            num_clips=405, num_stills=num_stills, side=64, budget_s=2 * HOUR, typed={}, measure=machine(SLOW)
        )
        return int(choice.reasons[0].split("tiny manages ")[1].split()[0])

    assert views(100_000) == pytest.approx(views(0) * 2 / 3, abs=1)


@pytest.mark.parametrize("share", [None, 0.25, 1 / 3, 0.01])
def test_made_up_passes_have_the_shapes_of_the_runs_own(share: float | None) -> None:
    recipe = load_recipe("tiny", {"data.size": "8", "data.num_frames": "3", "model.patch": "1"})
    made_up = [tuple(batch.x0.shape) for batch in made_up_passes(recipe, None, picture_share=share or 0.0)]
    frames = MappedClips([np.zeros((length, 8, 8, 3), np.uint8) for length in (3, 1)])
    clips = TrainingClips(frames, [(), ()], (), None, num_frames=3, still_share=share)
    settings = {"seed": 0, "global_batch": 8, "num_timesteps": 10, "flip_prob": 0.0, "drop_prob": 0.0}
    drawn = {
        tuple(batch.x0.shape)
        for step in range(30)
        for batch in draw_batch(clips, step=step, places=range(8), **settings)
    }
    assert set(made_up) == drawn and len(made_up) == len(drawn)


def test_small_clips_are_not_drawn_larger_than_they_are() -> None:
    assert choose(20, 2 * HOUR, side=16).recipe.data.size == 32
    assert choose(20, 2 * HOUR, side=96).recipe.data.size == 64


def test_typed_settings_hold_in_whatever_is_chosen() -> None:
    recipe = choose(405, 2 * HOUR, train__seed="9", train__learning_rate="0.25", train__save_every="7").recipe
    assert (recipe.train.seed, recipe.train.learning_rate, recipe.train.save_every) == (9, 0.25, 7)
    with pytest.raises(SettingsError, match="learning_rate"):
        choose(405, 2 * HOUR, train__learning_rate="-1")


@given(st.floats(30, 1e6), st.floats(1e-3, 20), st.floats(1e-3, 60))
def test_steps_sheets_and_saves_fill_the_budget(budget_s: float, step_s: float, sheet_s: float) -> None:
    cost = Cost(step_s, sheet_s, 8, Precision("fp32", "made up"))
    train = fit_to_budget(load_recipe("tiny"), budget_s, cost, {}).train
    num_sheets = -(-train.num_steps // train.sample_every)
    assert 1 <= num_sheets <= NUM_SHEETS
    foretold = train.num_steps * step_s + num_sheets * sheet_s
    # Over only where a single step or sheet does not fit, and a large part of it is used.
    assert foretold <= max(budget_s, step_s + sheet_s) * (1 + 1e-9)
    assert foretold >= 0.8 * budget_s - step_s


@given(st.integers(1, 100_000))
def test_what_is_fitted_is_a_recipe_that_can_be_trained(num_steps: int) -> None:
    cost = Cost(1.0, 1.0, 8, Precision("fp32", "made up"))
    fitted = fit_to_budget(load_recipe("base"), num_steps / 0.9, cost, {})
    again = Recipe.model_validate(fitted.model_dump())  # model_copy checks nothing
    assert again == fitted
    train = fitted.train
    assert train.warmup_steps < train.num_steps
    assert train.ema_start < train.num_steps


def test_a_budget_shorter_than_a_step_takes_one() -> None:
    assert steps_in(0.001, 10.0, 10.0) == 1


@given(st.floats(0, 0.9), st.floats(0.1, 1))
def test_steps_at_half_the_size_are_planned_at_what_they_cost(share: float, half: float) -> None:
    recipe = load_recipe("tiny", {"train.half_size_share": str(share), "train.sample_every": "100000"})
    cost = Cost(1.0, 0.0, 8, Precision("fp32", "made up"), half_size_cost=half)
    train = fit_to_budget(recipe, 10_000, cost, {}).train
    assert train.num_steps * (share * half + 1 - share) == pytest.approx(9700, abs=1)


def test_weights_follow_from_the_seed_and_leave_torch_alone() -> None:
    recipes = [load_recipe("tiny", {"train.seed": seed, "model.dim": "8"}) for seed in ("1", "1", "2")]
    before = torch.get_rng_state()
    first, same, other = (torch.cat([p.flatten() for p in fresh_network(r, 4).parameters()]) for r in recipes)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("cond_dim", [None, 4])
def test_timing_writes_nothing_and_finds_times(
    cond_dim: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(choose_module, "MEASURED_S", 0.0)
    recipe = load_recipe("tiny", {"model.dim": "8", "data.size": "8", "data.num_frames": "2", "train.batch_size": "2"})
    cost = measure_cost(
        recipe, cond_dim=cond_dim, num_prompts=3, device=torch.device("cpu"), precision=Precision("fp32", "as asked")
    )
    assert cost.seconds_per_step > 0 and cost.seconds_per_sheet > 0
    assert cost.clips_per_step == 2
    assert cost.precision == Precision("fp32", "as asked")
    assert cost.half_size_cost == 1
    assert not list(tmp_path.iterdir())


def test_a_step_at_half_the_size_is_timed_where_there_are_to_be_some(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    monkeypatch.setattr(choose_module, "_median_step", lambda run: sizes.append(run.plan.recipe.data.size) or sizes[-1])
    overrides = {"model.dim": "8", "data.size": "64", "data.num_frames": "2", "train.half_size_share": "0.5"}
    cost = measure_cost(
        load_recipe("tiny", overrides),
        cond_dim=None,
        num_prompts=1,
        device=torch.device("cpu"),
        precision=Precision("fp32", "as asked"),
    )
    assert sizes == [64, 32]
    assert (cost.seconds_per_step, cost.half_size_cost) == (64, 0.5)


@pytest.mark.parametrize("zero_init", ["false", "true"])
def test_precisions_are_compared_on_answers_that_are_not_all_zero(
    monkeypatch: pytest.MonkeyPatch, zero_init: str
) -> None:
    outputs: list[torch.Tensor] = []

    def choose(run: Callable[[bool], torch.Tensor], *, on_cpu: bool) -> Precision:
        outputs.append(run(False))
        return Precision("fp32", "made up")

    monkeypatch.setattr(choose_module, "choose_precision", choose)
    small = {"model.dim": "8", "data.size": "8", "data.num_frames": "2", "model.zero_init": zero_init}
    probe_precision(load_recipe("tiny", small), cond_dim=None, device=torch.device("cpu"))
    assert outputs[0].norm() > 0.1
