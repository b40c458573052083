"""Starting runs, and refusing to: fresh ones, ones from other weights, and folders that are something else."""

import hashlib
import re
from typing import Any

import pytest
import torch

from t2v.checkpoint import load_checkpoint, save_checkpoint
from t2v.checkpoint.run_folder import RunFolder
from t2v.data.split import is_held_out
from t2v.data.workers import Task, Workers
from t2v.errors import CheckpointError, DatasetError, RunError, SettingsError
from t2v.reading import load_recipe
from t2v.runtime import Precision
from t2v.training import start
from t2v.training.choose import Choice, Cost
from t2v.training.request import duration


def test_fresh_keeps_the_old_run_under_another_name(bench) -> None:
    bench.put("finished")
    before = bench.content()
    assert bench.open(fresh=True, seed=3).training.step == 0
    kept = bench.out.with_name("run.old-1")
    assert str(kept) in bench.last_words
    assert {str(p.relative_to(kept)): p.read_bytes() for p in kept.rglob("*") if p.is_file()} == before


def test_a_fresh_start_that_is_refused_leaves_the_old_run_where_it_is(bench) -> None:
    bench.put("finished")
    before = bench.content()
    with pytest.raises(DatasetError, match="does not exist"):
        bench.open(fresh=True, clips=bench.folder / "nowhere")
    assert bench.content() == before


@pytest.mark.parametrize("parent", ["run", "file"])
def test_init_from_starts_at_step_0_with_the_averaged_weights(bench, parent: str) -> None:
    bench.put("finished")
    newest = bench.run.newest_step()
    assert newest is not None
    path = bench.out if parent == "run" else newest.ema
    ready = bench.open(recipe=None, init_from=path, out=bench.folder / "child", num_steps=3)
    assert ready.training.step == 0
    assert ready.training.plan.num_steps == 3
    assert ready.training.plan.recipe.model == load_recipe(bench.recipe).model
    assert bench.same(ready.training.network.state_dict(), load_checkpoint(bench.out).weights)
    assert "trained for 4 steps" in bench.last_words


def test_the_start_at_half_the_size_is_the_parents_alone(bench) -> None:
    """What goes on from a run's weights has that behind it, unless it asks for it again."""
    small = {"data.size": "20", "model.dim_mults": "[1, 1]", "train.half_size_share": "0.75"}
    bench.train(overrides=small, up_to=3)
    cut_off = {"recipe": None, "init_from": bench.out}
    assert load_checkpoint(bench.out).header.size == 10
    plan = bench.open(**cut_off, out=bench.folder / "early").training.plan
    assert (plan.half_size_steps, plan.recipe.data.size) == (3, 20)
    bench.train(recipe=None)
    carried = {"recipe": None, "init_from": bench.out}
    assert bench.open(**carried, out=bench.folder / "child").training.plan.half_size_steps == 0
    again = bench.open(**carried, out=bench.folder / "other", overrides={"train.half_size_share": "0.25"})
    assert again.training.plan.half_size_steps == 1


def test_a_run_can_start_fresh_from_its_own_weights(bench) -> None:
    bench.put("finished")
    learned = load_checkpoint(bench.out).weights
    ready = bench.open(fresh=True, init_from=bench.out)
    assert bench.same(ready.training.network.state_dict(), learned)


@pytest.mark.parametrize("other", [{"model.dim": "8"}, {"diffusion.variance": "learned"}])
def test_init_from_another_network_is_refused_before_anything_is_made(bench, other) -> None:
    bench.put("finished")
    with pytest.raises(RunError, match=r"another network .*leave --recipe"):
        bench.open(init_from=bench.out, out=bench.folder / "child", overrides=other)
    assert not (bench.folder / "child").exists()


def test_init_from_cannot_change_a_run_that_is_there(bench) -> None:
    bench.put("broken")
    with pytest.raises(RunError, match=r"holds a run already.* add --fresh or another --out"):
        bench.open(init_from=bench.out)


def test_init_from_nothing_says_so(bench) -> None:
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        bench.open(init_from=bench.folder / "nowhere")


@pytest.mark.parametrize("change", ["missing", "shape"])
def test_init_from_weights_that_do_not_fit_their_own_settings_is_refused(bench, change: str) -> None:
    bench.put("finished")
    parent = load_checkpoint(bench.out)
    weights = dict(parent.weights)
    name = next(iter(weights))
    weights[name] = torch.cat([weights[name]] * 2)
    if change == "missing":
        del weights[name]
    damaged = bench.folder / "damaged.safetensors"
    save_checkpoint(damaged, weights, parent.header)
    with pytest.raises(CheckpointError, match="do not fit its own settings"):
        bench.open(recipe=None, init_from=damaged, out=bench.folder / "child")
    assert not (bench.folder / "child").exists()


def test_init_from_a_model_without_text_is_refused_for_clips_with_captions(bench, fake_encoder) -> None:
    bench.put("finished")
    for path in bench.clips.glob("*.gif"):
        path.with_suffix(".txt").write_text("a thing")
    with pytest.raises(RunError, match="trained with no text and these clips come with text of width 6"):
        bench.open(init_from=bench.out, out=bench.folder / "new")
    assert not (bench.folder / "new").exists()


def test_init_from_keeps_to_how_its_text_was_read(bench, fake_encoder) -> None:
    for path in bench.clips.glob("*.gif"):
        path.with_suffix(".txt").write_text("a thing")
    bench.train()
    with pytest.raises(RunError, match=r"text\.pooling=mean and text\.encoder_precision=fp32; leave --set text"):
        bench.open(init_from=bench.out, out=bench.folder / "new", overrides={"text.pooling": "first"})
    bench.open(recipe=None, init_from=bench.out, out=bench.folder / "new")


def test_steps_and_a_budget_together_are_refused(bench) -> None:
    for steps in ({"num_steps": 3}, {"overrides": {"train.num_steps": "3"}}):
        with pytest.raises(SettingsError, match="both say when to stop"):
            bench.open(budget_s=60.0, **steps)


def test_a_misspelled_setting_is_refused_before_anything_is_made(bench) -> None:
    with pytest.raises(SettingsError, match=r"'train.batchsize'; did you mean 'train.batch_size'"):
        bench.open(overrides={"train.batchsize": "3"})
    assert not bench.out.exists()


@pytest.mark.parametrize("name", ["thesis.txt", "checkpoints/model.pt", "recipe.toml", "samples/cat.png"])
def test_a_folder_of_something_else_is_refused_and_untouched(bench, name: str) -> None:
    precious = bench.out / name
    precious.parent.mkdir(parents=True)
    precious.write_text("precious")
    for fresh in (False, True):
        with pytest.raises(RunError, match="holds no run; name another folder with --out"):
            bench.open(fresh=fresh)
    assert bench.content() == {name: b"precious"}


def test_a_file_as_the_run_is_refused(bench) -> None:
    bench.out.write_text("precious")
    with pytest.raises(RunError, match="is a file; name a folder"):
        bench.open()


def test_a_run_among_its_own_clips_is_refused(bench) -> None:
    with pytest.raises(RunError, match="lies among the clips"):
        bench.open(out=bench.clips / "run")


def test_a_folder_without_clips_is_refused_and_no_run_is_made(bench) -> None:
    for path in bench.clips.iterdir():
        path.unlink()
    with pytest.raises(DatasetError, match=r"holds no files that end in \.gif, .*; add clips"):
        bench.open()
    assert not bench.out.exists()


def test_what_is_good_in_a_folder_is_trained_on_and_the_rest_is_named(bench) -> None:
    for path in bench.clips.iterdir():
        path.unlink()
    bench.write_gif(bench.clips / "01.gif", 1, num_frames=6)
    bench.write_gif(bench.clips / "02.gif", 2, num_frames=1)
    bench.write_gif(bench.clips / "03.gif", 3, side=1)
    (bench.clips / "x.gif").write_text("this is text")
    (bench.clips / "empty.gif").write_bytes(b"")
    bench.write_gif(bench.clips / "whole.gif", 4, num_frames=20, side=64)
    whole = bench.clips / "whole.gif"
    (bench.clips / "04.gif").write_bytes(whole.read_bytes()[:60])
    whole.unlink()
    ready = bench.train()
    assert ready.training.step == 4
    for name in ("x.gif", "empty.gif", "04.gif"):
        assert any(line.startswith(f"left out: {name} ") for line in bench.said), bench.said
    assert "01.gif" in ready.training.plan.clips
    assert not {"x.gif", "empty.gif", "04.gif"} & ready.training.plan.clips.keys()


def test_a_recipe_is_chosen_for_text_where_only_a_template_captions_the_clips(bench, fake_encoder, monkeypatch) -> None:
    widths: list[int | None] = []

    def cost(recipe: Any, *, cond_dim: int | None, **asked: Any) -> Cost:
        widths.append(cond_dim)
        return Cost(0.1, 0.1, 2, Precision("fp32", "made up"))

    def choice(*, measure: Any, **asked: Any) -> Choice:
        return Choice(load_recipe(bench.recipe, {"text.template": "fireworks"}), measure(load_recipe("tiny")), ())

    monkeypatch.setattr(start, "measure_cost", cost)
    monkeypatch.setattr(start, "choose_recipe", choice)
    # A setting that the recipe chosen allows, but not every other.
    bench.open(recipe=None, budget_s=1.0, template="fireworks", overrides={"diffusion.zero_terminal_snr": "true"})
    assert len(widths) == 1 and widths[0] is not None


def test_clips_held_out_are_not_trained_on_however_often_a_run_goes_on(bench) -> None:
    for number in range(3, 12):
        bench.write_gif(bench.clips / f"{number:02}.gif", number)
    overrides = {"data.hold_out": "0.3"}
    ready = bench.train(overrides=overrides, up_to=2)
    plan = ready.training.plan
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in bench.clips.iterdir()}
    training = {name for name, sha256 in hashes.items() if not is_held_out(sha256, 0.3)}
    assert plan.clips.keys() == training and 0 < len(training) < 12
    assert plan.recipe.data.hold_out == 0.3
    assert f"held out: {12 - len(training)} of 12 clips" in bench.said
    resumed = bench.train(overrides=overrides)
    assert resumed.is_finished and resumed.training.plan.clips.keys() == training
    with pytest.raises(RunError, match=r"data.hold_out is 0.3 in the run and 0.0 now"):
        bench.open()


def test_a_share_that_holds_out_nothing_is_said_and_one_that_holds_out_all_is_refused(bench) -> None:
    bench.open(overrides={"data.hold_out": "0.0001"})
    assert "warning: none of 3 clips falls among the 0.01% held out (data.hold_out)" in bench.said
    with pytest.raises(DatasetError, match=r"no clip of .* is left to train on: lower data.hold_out"):
        bench.open(overrides={"data.hold_out": "0.9999"}, out=bench.folder / "other")


def test_no_clip_is_decoded_twice_however_runs_are_started(bench, monkeypatch) -> None:
    seen: list[bytes] = []
    decode = Workers.decode

    def counting(self: Workers, task: Task, contents: tuple[bytes, ...]) -> Any:
        seen.extend(contents if task.name == "pixels" else ())
        return decode(self, task, contents)

    def choice(**asked: Any) -> Choice:
        return Choice(load_recipe(bench.recipe), Cost(0.1, 0.1, 2, Precision("fp32", "made up")), ())

    monkeypatch.setattr(Workers, "decode", counting)
    monkeypatch.setattr(start, "choose_recipe", choice)
    chosen = bench.open(recipe=None, budget_s=1.0, out=bench.folder / "chosen")
    assert len(seen) == 3
    bench.open(recipe=None, out=bench.folder / "chosen")
    recipe = str(chosen.training.run.recipe)
    other = bench.open(recipe=recipe, out=bench.folder / "other")
    assert len(seen) == 3
    assert "decoded before" in bench.last_words
    for ours, first in zip(other.training.clips.frames, chosen.training.clips.frames, strict=True):
        assert torch.equal(ours, first)
    monkeypatch.setenv("T2V_CACHE", str(bench.folder / "elsewhere"))
    anew = bench.open(recipe=recipe, out=bench.folder / "anew")
    assert len(seen) == 6
    for ours, first in zip(anew.training.clips.frames, chosen.training.clips.frames, strict=True):
        assert torch.equal(ours, first)


def test_the_recipe_of_a_run_starts_the_same_run_elsewhere(bench) -> None:
    bench.train(seed=11, overrides={"train.learning_rate": "3e-4"})
    bench.train(recipe=str(bench.run.recipe), out=bench.folder / "other")
    assert bench.same(bench.weights(), bench.weights(RunFolder(bench.folder / "other")))


@pytest.mark.parametrize("moment", ["training.save", "save_plan", "the recipe is written"])
def test_a_start_cut_short_before_its_plan_leaves_nothing_in_the_way(
    bench, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(*args: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        match moment:
            case "training.save":
                patch.setattr(start.Training, "save", die)
            case "save_plan":
                patch.setattr(start, "save_plan", die)
            case "the recipe is written":
                patch.setattr(RunFolder, "write_json", die)
        with pytest.raises(Killed):
            bench.open()
    assert bench.out.exists() and not bench.run.exists()
    assert bench.train().training.step == 4


def test_a_sheet_is_drawn_from_the_averaged_weights(bench) -> None:
    ready = bench.train()
    picture = ready.write_samples()
    assert picture is not None
    assert picture.exists() and picture.with_suffix(".gif").exists()


@pytest.mark.parametrize(
    ("seconds", "words"), [(45, "45 s"), (600, "10 min"), (5400, "90 min"), (7500, "2 h 5 min"), (7200, "2 h 0 min")]
)
def test_times_are_told_as_people_tell_them(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_a_process_of_few_timesteps_trains_and_is_sampled(bench) -> None:
    ready = bench.train(overrides={"diffusion.num_timesteps": "2"})
    assert ready.write_samples() is not None


def test_a_run_in_fp16_is_planned_timed_drawn_from_and_resumed_as_one(bench) -> None:
    ready = bench.train(overrides={"train.precision": "fp16"}, up_to=3)
    assert "arithmetic: fp16 (as asked)" in bench.last_words
    assert ready.write_samples().is_file()
    assert bench.train(recipe=None).training.scaler.is_enabled()
    with pytest.raises(RunError, match=r"train\.precision is fp16 in the run and bf16 now"):
        bench.open(overrides={"train.precision": "bf16"})


@pytest.mark.parametrize(
    ("grown", "part"),
    [
        ({"model.interval": "true"}, r"interval_mlp\."),
        ({"model.detail": "4"}, r"detail\."),
        ({"model.place_dim": "8"}, r"place_reader\.|(downs|ups)\.\d+\.place\."),
    ],
)
def test_init_from_a_network_that_lacked_a_part_can_learn_it(bench, fake_encoder, grown, part) -> None:
    for path in bench.clips.glob("*.gif"):
        path.with_suffix(".txt").write_text("a thing")
    lacking = {"overrides": {"model.patch": "2"}}
    bench.train(**lacking)
    learned = load_checkpoint(bench.out).weights
    told = {"init_from": bench.out, "recipe": None, "overrides": grown}
    child = bench.open(out=bench.folder / "child", **told).training.network.state_dict()
    assert bench.same({name: child[name] for name in learned}, learned)
    new = {name for name in child if name not in learned}
    assert new and all(re.match(part, name) for name in new)
    bench.train(out=bench.folder / "other", **told)
    with pytest.raises(RunError, match="another network"):
        bench.open(init_from=bench.folder / "other", out=bench.folder / "back", **lacking)
