"""Going on with a run: to the same weights, for more steps, or not at all."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from t2v.checkpoint import load_checkpoint
from t2v.checkpoint.run_folder import RunFolder
from t2v.errors import DatasetError, RunError
from t2v.reading import load_recipe
from t2v.runtime import Precision
from t2v.training.choose import Cost
from t2v.training.plan import load_plan
from t2v.training.samples import GAP


def test_a_second_start_resumes_to_the_weights_of_an_unbroken_run(bench) -> None:
    bench.put("finished")
    unbroken = bench.weights()
    other = {"out": bench.folder / "other"}
    bench.train(up_to=3, **other)
    assert bench.open(**other).training.step == 2
    assert "going on with" in bench.last_words and "at step 2 of 4" in bench.last_words
    bench.train(**other)
    assert bench.same(bench.weights(RunFolder(other["out"])), unbroken)
    steps = [entry["step"] for entry in RunFolder(other["out"]).read_log()]
    assert steps == [1, 2, 3, 4]


def test_a_resume_needs_no_options(bench) -> None:
    bench.train(up_to=3, num_steps=5, seed=7)
    ready = bench.train(recipe=None)
    assert ready.training.step == 5
    assert ready.training.plan.recipe.train.seed == 7


def test_a_run_of_clips_of_many_lengths_is_resumed_exactly(bench) -> None:
    many = {"data.num_frames": "3", "data.lengths": "[2,5]", "train.frame_share": "0.5"}
    many["diffusion.timesteps"] = '"loss_second_moment"'
    asked = {"overrides": many, "num_steps": 6}
    unbroken = bench.train(**asked).training
    lengths = {batch.num_frames for unbroken.step in range(20) for batch in unbroken._batches(0)}
    assert lengths == {1, 2, 3, 4, 5}
    other = {"out": bench.folder / "other"}
    for up_to in (3, None):
        bench.train(up_to=up_to, **asked, **other)
    assert bench.same(bench.weights(RunFolder(other["out"])), bench.weights())


def test_a_run_that_begins_at_half_the_size_is_resumed_exactly(bench) -> None:
    """Cut off before, at and after the step from which clips are whole."""
    small = {"overrides": {"data.size": "16", "train.half_size_share": "0.5", "train.save_every": "1"}, "num_steps": 6}
    unbroken = bench.train(**small).training
    sizes = []
    for unbroken.step in range(6):
        sizes += [batch.x0.shape[-1] for batch in unbroken._batches(0)]
    assert sizes == [8, 8, 8, 16, 16, 16]
    other = {"out": bench.folder / "other"}
    for up_to in (2, 3, 4, None):
        bench.train(up_to=up_to, **small, **other)
    assert bench.same(bench.weights(RunFolder(other["out"])), bench.weights())


def test_sheets_and_checkpoints_are_as_small_as_the_clips_that_were_learned_from(bench) -> None:
    overrides = {"data.size": "16", "train.half_size_share": "0.5", "train.sample_every": "2"}
    ready = bench.open(overrides=overrides)
    widths, told = [], []
    for progress in ready.training.steps():
        if progress.sample_due:
            sheet = ready.write_samples()
            assert sheet is not None
            with Image.open(sheet) as picture:
                widths.append(picture.width)
        if progress.saved:
            told.append(load_checkpoint(progress.saved.ema).header.size)
    assert widths == [2 * (8 + GAP), 2 * (16 + GAP)]
    assert told == [8, 16]


def test_another_seed_is_another_run(bench) -> None:
    bench.train(seed=1)
    bench.train(seed=2, out=bench.folder / "other")
    assert not bench.same(bench.weights(), bench.weights(RunFolder(bench.folder / "other")))


def test_a_finished_run_takes_no_more_steps(bench) -> None:
    bench.put("finished")
    before = bench.content()
    ready = bench.open()
    assert ready.is_finished
    assert bench.content() == before


def test_more_steps_extend_a_run_and_raise_the_rate_once_more(bench) -> None:
    bench.put("finished")
    assert bench.train(num_steps=8).training.step == 8
    assert "extended from 4 to 8 steps; from step 4 the learning rate rises and falls once more" in bench.last_words
    rates = [entry["learning_rate"] for entry in bench.run.read_log()]
    assert len(rates) == 8
    assert rates[4] > rates[3]  # the first stretch had come down
    assert bench.open(num_steps=8).is_finished  # the same command again extends nothing
    assert load_recipe(str(bench.run.recipe)).train.num_steps == 8


def test_an_extended_run_that_is_killed_ends_as_one_that_is_not(bench) -> None:
    bench.train(up_to=2)
    bench.train(up_to=5, num_steps=6)
    bench.train(num_steps=6)
    broken = bench.weights()
    bench.train(fresh=True, up_to=2)
    bench.train(num_steps=6)
    assert bench.same(bench.weights(), broken)


@pytest.mark.parametrize("asked", [{"num_steps": 3}, {"overrides": {"train.num_steps": "3"}}], ids=["--steps", "--set"])
def test_fewer_steps_are_refused(bench, asked: dict[str, Any]) -> None:
    bench.put("broken")
    with pytest.raises(RunError, match=r"4 steps are planned .* --steps 3 is less; leave it out"):
        bench.open(**asked)


def test_steps_behind_set_extend_as_the_option_does(bench) -> None:
    bench.put("finished")
    assert bench.train(overrides={"train.num_steps": "6"}).training.step == 6


def test_changed_clips_are_refused_with_the_difference_and_nothing_lost(bench) -> None:
    bench.put("broken")
    before = bench.content()
    (bench.clips / "01.gif").unlink()
    bench.write_gif(bench.clips / "02.gif", 99)
    bench.write_gif(bench.clips / "03.gif", 3)
    with pytest.raises(RunError, match="clips changed") as error:
        bench.open()
    for part in ("1 clip added: 03.gif", "1 clip removed: 01.gif", "1 clip with other pictures: 02.gif", "--fresh"):
        assert part in str(error.value)
    assert bench.content() == before


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"overrides": {"train.learning_rate": "0.5"}}, "train.learning_rate is 0.0001 in the run and 0.5 now"),
        ({"seed": 5}, "train.seed is 0 in the run and 5 now"),
        ({"recipe": "tiny"}, "data.size is 8 in the run and 32 now"),
        ({"recipe": None, "overrides": {"model.dim": "8"}}, "model.dim is 4 in the run and 8 now"),
    ],
)
def test_changed_settings_are_refused_with_the_difference(bench, changed: dict[str, Any], said: str) -> None:
    bench.put("broken")
    before = bench.content()
    with pytest.raises(RunError, match="other settings") as error:
        bench.open(**changed)
    assert said in str(error.value)
    assert bench.content() == before


NEW_IN_DATA = ("fps", "window", "short", "formats", "stills", "sequence_fps")


@pytest.mark.parametrize("recipe_is_named", [True, False])
def test_a_run_from_before_other_formats_goes_on_with_its_clips(bench, recipe_is_named: bool) -> None:
    """Its plan knows no formats; what lay beside the GIFs was no clip then, and a single frame one that is still."""
    bench.write_gif(bench.clips / "still.gif", 9, num_frames=1)
    bench.train(up_to=3, overrides={"data.formats": "gif", "data.stills": "repeat"})
    plan = json.loads(bench.run.plan.read_text())
    for name in NEW_IN_DATA:
        del plan["recipe"]["data"][name]
    del plan["recipe"]["limits"]
    bench.run.plan.write_text(json.dumps(plan))
    Image.new("RGB", (8, 8)).save(bench.clips / "cover.png")
    Image.new("RGB", (8, 8)).save(bench.clips / "other.webp")
    recipe = {} if recipe_is_named else {"recipe": None}
    ready = bench.train(**recipe)
    assert ready.training.step == 4
    assert ready.training.plan.clips.keys() == {"00.gif", "01.gif", "02.gif", "still.gif"}
    with pytest.raises(RunError, match=r"started with other settings: data\.stills is repeat in the run and joint now"):
        bench.open(**recipe, overrides={"data.stills": "joint", "data.formats": "gif"})


def test_a_limit_may_change_within_a_run_while_the_clips_stay(bench) -> None:
    bench.train(up_to=3)
    assert bench.open(overrides={"limits.max_frames": "5"}).training.plan.recipe.limits.max_frames == 5
    with pytest.raises(DatasetError, match="has more than 2 frames"):
        bench.open(overrides={"limits.max_frames": "2"})


def test_settings_that_change_no_weights_may_change_within_a_run(bench) -> None:
    bench.put("broken")
    ready = bench.train(recipe=None, overrides={"train.save_every": "3"})
    assert ready.training.step == 4
    assert 3 in [folder.step for folder in bench.run.steps()]
    assert load_plan(bench.run).recipe.train.save_every == 3


def test_a_damaged_newest_step_is_said_and_the_one_before_taken(bench) -> None:
    bench.put("finished")
    unbroken = bench.weights()
    newest = bench.run.newest_step()
    assert newest is not None
    newest.weights.write_bytes(newest.weights.read_bytes()[:-1])
    assert bench.open().training.step == 2
    assert "step 4 is damaged; taking step 2" in bench.last_words
    bench.train()
    assert bench.same(bench.weights(), unbroken)


def test_a_run_with_nothing_whole_says_so(bench) -> None:
    bench.put("finished")
    for folder in bench.run.steps():
        folder.optimizer.write_bytes(b"")
    with pytest.raises(RunError, match=r"every saved step .* is damaged; start anew with --fresh"):
        bench.open()
    assert bench.open(fresh=True).training.step == 0


def test_a_plan_that_cannot_be_read_says_so(bench) -> None:
    bench.put("broken")
    bench.run.plan.write_text("{")
    with pytest.raises(RunError, match=r"cannot be resumed.*--fresh"):
        bench.open()


def test_a_budget_fits_the_steps_of_a_named_recipe_and_resumes(bench, monkeypatch) -> None:
    cost = Cost(seconds_per_step=0.2, seconds_per_sheet=0.5, clips_per_step=2, precision=Precision("fp32", "as asked"))
    monkeypatch.setattr("t2v.training.start.measure_cost", lambda recipe, **options: cost)
    plan = bench.open(budget_s=60.0).training.plan
    assert 200 < plan.num_steps < 300
    foretold = plan.seconds_left(0, seconds_per_step=plan.seconds_per_step)
    assert 0.9 * 60 < foretold < 1.1 * 60
    assert bench.open(budget_s=60.0).training.plan == plan  # the same command again just resumes
    assert "extended" not in bench.last_words


def test_a_typed_setting_outweighs_what_a_budget_would_choose(bench) -> None:
    typed = {"train.save_every": "3", "train.ema_decay": "0.5"}
    ready = bench.open(budget_s=2.0, overrides=typed)
    train = ready.training.plan.recipe.train
    assert (train.save_every, train.ema_decay) == (3, 0.5)
    with pytest.raises(RunError, match=r"train.ema_decay is 0.5 in the run and 0.6 now"):
        bench.open(budget_s=2.0, overrides=typed | {"train.ema_decay": "0.6"})


@pytest.mark.parametrize(("compile_s", "num_steps"), [(0.0, {28, 29, 30}), (100.0, {23, 24, 25})])
def test_a_budget_counts_the_time_of_all_starts_and_of_compiling(bench, compile_s: float, num_steps: set[int]) -> None:
    """With 20 s a step behind it, a run of 20 steps has used up 400 s: a budget of 600 s has 200 s left."""
    bench.train(up_to=20, num_steps=20, overrides={"train.save_every": "20"})
    newest = bench.run.newest_step()
    assert newest is not None
    state = json.loads(newest.state.read_text())
    state["seconds"] = 400.0
    bench.run.save_step(20, lambda folder: _copy_with_state(newest.path, folder.path, state))
    plan = json.loads(bench.run.plan.read_text())
    bench.run.plan.write_text(json.dumps(plan | {"seconds_to_compile": compile_s}))
    ready = bench.open(budget_s=600.0, recipe=None)
    assert ready.training.plan.num_steps in num_steps
    assert ready.training.seconds == 400.0
    with pytest.raises(RunError, match="--budget 7 min is less"):
        bench.open(budget_s=400.0, recipe=None)


def _copy_with_state(source: Path, target: Path, state: dict[str, Any]) -> None:
    for path in source.iterdir():
        if path.name != "manifest.json":
            (target / path.name).write_bytes(path.read_bytes())
    (target / "state.json").write_text(json.dumps(state))


def test_other_threads_and_versions_are_said_before_going_on(bench) -> None:
    bench.put("broken")
    plan = json.loads(bench.run.plan.read_text())
    plan["machine"]["threads"] = 77
    plan["machine"]["versions"]["torch"] = "1.0"
    bench.run.plan.write_text(json.dumps(plan))
    assert bench.train().training.step == 4
    assert "not be bit-identical" in bench.last_words
    assert "number of threads 77 then" in bench.last_words
    assert "torch 1.0 then" in bench.last_words


def test_nothing_is_said_of_the_machine_where_it_is_the_same(bench) -> None:
    bench.put("broken")
    bench.open()
    assert "bit-identical" not in bench.last_words
