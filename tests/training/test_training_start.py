"""Starting, resuming, extending and refusing runs, on a network so small that a run takes a blink."""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from t2v.checkpoint import load_checkpoint, read_header
from t2v.checkpoint.run_folder import RunFolder
from t2v.config import load_recipe
from t2v.errors import CheckpointError, DatasetError, RunError, SettingsError
from t2v.training import choose, start
from t2v.training.plan import load_plan
from t2v.training.start import ReadyRun, TrainRequest, duration, open_run

RECIPE = """
[data]
size = 8
num_frames = 2
[model]
dim = 4
dim_mults = [1]
attn_heads = 1
attn_dim_head = 8
init_kernel_size = 3
use_sparse_linear_attn = false
[train]
num_steps = 4
batch_size = 2
warmup_steps = 2
ema_start = 2
save_every = 2
precision = "fp32"
"""


def write_gif(path: Path, seed: int, *, num_frames: int = 3, side: int = 8) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (num_frames, side, side, 3), dtype=np.uint8)
    frames = [Image.fromarray(frame) for frame in pixels]
    path.parent.mkdir(parents=True, exist_ok=True)
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100, loop=0)


@dataclass
class Bench:
    """A folder of clips without captions, a recipe, and a place for runs."""

    folder: Path
    ready_made: Path
    said: list[str] = field(default_factory=list)

    @property
    def clips(self) -> Path:
        return self.folder / "clips"

    @property
    def out(self) -> Path:
        return self.folder / "run"

    @property
    def run(self) -> RunFolder:
        return RunFolder(self.out)

    @property
    def recipe(self) -> str:
        return str(self.folder / "recipe.toml")

    @property
    def last_words(self) -> str:
        return "\n".join(self.said)

    def open(self, **changed: Any) -> ReadyRun:
        self.said.clear()
        request = {"clips": self.clips, "out": self.out, "recipe": self.recipe, "device": "cpu"} | changed
        return open_run(TrainRequest(**request), self.said.append)

    def train(self, *, up_to: int | None = None, **changed: Any) -> ReadyRun:
        """Start as `open` does and take steps to the end, or leave as a kill would after step `up_to`."""
        ready = self.open(**changed)
        for progress in ready.training.steps():
            if progress.step == up_to:
                break
        return ready

    def put(self, kind: str) -> None:
        """Put a run in place that was made before: one that is finished, or one killed after step 3."""
        shutil.copytree(self.ready_made / kind, self.out)

    def weights(self, run: RunFolder | None = None) -> dict[str, Tensor]:
        newest = (run or self.run).newest_step()
        assert newest is not None
        both = load_file(newest.weights) | {f"ema.{key}": value for key, value in load_file(newest.ema).items()}
        return {key: value.clone() for key, value in both.items()}  # the files themselves may be damaged by a test

    def content(self) -> dict[str, bytes]:
        """Every file of the run."""
        files = (path for path in self.out.rglob("*") if path.is_file())
        return {str(path.relative_to(self.out)): path.read_bytes() for path in files}


def new_bench(folder: Path, ready_made: Path) -> Bench:
    for number in range(3):
        write_gif(folder / "clips" / f"0{number}.gif", number)
    (folder / "recipe.toml").write_text(RECIPE)
    return Bench(folder, ready_made)


@pytest.fixture(scope="module")
def ready_made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    bench = new_bench(folder, folder)
    bench.train(out=folder / "finished")
    bench.train(out=folder / "broken", up_to=3)
    return folder


@pytest.fixture
def bench(tmp_path: Path, ready_made: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(choose, "MEASURED_S", 0.0)  # one step is timing enough here
    return new_bench(tmp_path, ready_made)


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_second_start_resumes_to_the_weights_of_an_unbroken_run(bench: Bench) -> None:
    bench.put("finished")
    unbroken = bench.weights()
    other = {"out": bench.folder / "other"}
    bench.train(up_to=3, **other)
    assert bench.open(**other).training.step == 2
    assert "going on with" in bench.last_words and "at step 2 of 4" in bench.last_words
    bench.train(**other)
    assert same(bench.weights(RunFolder(other["out"])), unbroken)
    steps = [entry["step"] for entry in RunFolder(other["out"]).read_log()]
    assert steps == [1, 2, 3, 4]


def test_a_resume_needs_no_options(bench: Bench) -> None:
    bench.train(up_to=3, num_steps=5, seed=7)
    ready = bench.train(recipe=None)
    assert ready.training.step == 5
    assert ready.training.plan.recipe.train.seed == 7


def test_another_seed_is_another_run(bench: Bench) -> None:
    bench.train(seed=1)
    bench.train(seed=2, out=bench.folder / "other")
    assert not same(bench.weights(), bench.weights(RunFolder(bench.folder / "other")))


def test_a_finished_run_takes_no_more_steps(bench: Bench) -> None:
    bench.put("finished")
    before = bench.content()
    ready = bench.open()
    assert ready.is_finished
    assert bench.content() == before


def test_more_steps_extend_a_run_and_raise_the_rate_once_more(bench: Bench) -> None:
    bench.put("finished")
    assert bench.train(num_steps=8).training.step == 8
    assert "extended from 4 to 8 steps; from step 4 the learning rate rises and falls once more" in bench.last_words
    rates = [entry["learning_rate"] for entry in bench.run.read_log()]
    assert len(rates) == 8
    assert rates[4] > rates[3]  # the first stretch had come down
    assert bench.open(num_steps=8).is_finished  # the same command again extends nothing
    assert load_recipe(str(bench.run.recipe)).train.num_steps == 8


def test_an_extended_run_that_is_killed_ends_as_one_that_is_not(bench: Bench) -> None:
    bench.train(up_to=2)
    bench.train(up_to=5, num_steps=6)
    bench.train(num_steps=6)
    broken = bench.weights()
    bench.train(fresh=True, up_to=2)
    bench.train(num_steps=6)
    assert same(bench.weights(), broken)


@pytest.mark.parametrize("asked", [{"num_steps": 3}, {"overrides": {"train.num_steps": "3"}}], ids=["--steps", "--set"])
def test_fewer_steps_are_refused(bench: Bench, asked: dict[str, Any]) -> None:
    bench.put("broken")
    with pytest.raises(RunError, match=r"4 steps are planned .* --steps 3 is less; leave it out"):
        bench.open(**asked)


def test_steps_behind_set_extend_as_the_option_does(bench: Bench) -> None:
    bench.put("finished")
    assert bench.train(overrides={"train.num_steps": "6"}).training.step == 6


def test_changed_clips_are_refused_with_the_difference_and_nothing_lost(bench: Bench) -> None:
    bench.put("broken")
    before = bench.content()
    (bench.clips / "01.gif").unlink()
    write_gif(bench.clips / "02.gif", 99)
    write_gif(bench.clips / "03.gif", 3)
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
def test_changed_settings_are_refused_with_the_difference(bench: Bench, changed: dict[str, Any], said: str) -> None:
    bench.put("broken")
    before = bench.content()
    with pytest.raises(RunError, match="other settings") as error:
        bench.open(**changed)
    assert said in str(error.value)
    assert bench.content() == before


def test_settings_that_change_no_weights_may_change_within_a_run(bench: Bench) -> None:
    bench.put("broken")
    ready = bench.train(recipe=None, overrides={"train.save_every": "3"})
    assert ready.training.step == 4
    assert 3 in [folder.step for folder in bench.run.steps()]
    assert load_plan(bench.run).recipe.train.save_every == 3


def test_fresh_keeps_the_old_run_under_another_name(bench: Bench) -> None:
    bench.put("finished")
    before = bench.content()
    assert bench.open(fresh=True, seed=3).training.step == 0
    kept = bench.out.with_name("run.old-1")
    assert str(kept) in bench.last_words
    assert {str(p.relative_to(kept)): p.read_bytes() for p in kept.rglob("*") if p.is_file()} == before


def test_a_fresh_start_that_is_refused_leaves_the_old_run_where_it_is(bench: Bench) -> None:
    bench.put("finished")
    before = bench.content()
    with pytest.raises(DatasetError, match="does not exist"):
        bench.open(fresh=True, clips=bench.folder / "nowhere")
    assert bench.content() == before


@pytest.mark.parametrize("parent", ["run", "file"])
def test_init_from_starts_at_step_0_with_the_averaged_weights(bench: Bench, parent: str) -> None:
    bench.put("finished")
    newest = bench.run.newest_step()
    assert newest is not None
    path = bench.out if parent == "run" else newest.ema
    ready = bench.open(recipe=None, init_from=path, out=bench.folder / "child", num_steps=3)
    assert ready.training.step == 0
    assert ready.training.plan.num_steps == 3
    assert ready.training.plan.recipe.model == load_recipe(bench.recipe).model
    assert same(ready.training.network.state_dict(), load_checkpoint(bench.out).weights)
    assert "trained for 4 steps" in bench.last_words


def test_a_run_can_start_fresh_from_its_own_weights(bench: Bench) -> None:
    bench.put("finished")
    learned = load_checkpoint(bench.out).weights
    ready = bench.open(fresh=True, init_from=bench.out)
    assert same(ready.training.network.state_dict(), learned)


def test_init_from_another_network_is_refused_before_anything_is_made(bench: Bench) -> None:
    bench.put("finished")
    with pytest.raises(RunError, match=r"another network .*leave --recipe"):
        bench.open(init_from=bench.out, out=bench.folder / "child", overrides={"model.dim": "8"})
    assert not (bench.folder / "child").exists()


def test_init_from_cannot_change_a_run_that_is_there(bench: Bench) -> None:
    bench.put("broken")
    with pytest.raises(RunError, match=r"holds a run already.* add --fresh or another --out"):
        bench.open(init_from=bench.out)


def test_init_from_nothing_says_so(bench: Bench) -> None:
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        bench.open(init_from=bench.folder / "nowhere")


def test_init_from_a_model_with_text_needs_captions(bench: Bench) -> None:
    bench.put("finished")
    header = bench.run.newest_step()
    assert header is not None
    assert read_header(header.ema).cond_dim is None
    for path in bench.clips.glob("*.gif"):
        path.with_suffix(".txt").write_text("a thing")

    class Captioned:
        cond_dim = 384
        encoder_sha256 = "x"

    with pytest.raises(RunError, match="trained with no text and these clips come with text of width 384"):
        start._check_parent(load_checkpoint(bench.out), load_recipe(bench.recipe), Captioned())  # type: ignore[arg-type]


def test_a_damaged_newest_step_is_said_and_the_one_before_taken(bench: Bench) -> None:
    bench.put("finished")
    unbroken = bench.weights()
    newest = bench.run.newest_step()
    assert newest is not None
    newest.weights.write_bytes(newest.weights.read_bytes()[:-1])
    assert bench.open().training.step == 2
    assert "step 4 is damaged; taking step 2" in bench.last_words
    bench.train()
    assert same(bench.weights(), unbroken)


def test_a_run_with_nothing_whole_says_so(bench: Bench) -> None:
    bench.put("finished")
    for folder in bench.run.steps():
        folder.optimizer.write_bytes(b"")
    with pytest.raises(RunError, match=r"every saved step .* is damaged; start anew with --fresh"):
        bench.open()
    assert bench.open(fresh=True).training.step == 0


def test_a_plan_that_cannot_be_read_says_so(bench: Bench) -> None:
    bench.put("broken")
    bench.run.plan.write_text("{")
    with pytest.raises(RunError, match=r"cannot be resumed.*--fresh"):
        bench.open()


def test_steps_and_a_budget_together_are_refused(bench: Bench) -> None:
    for steps in ({"num_steps": 3}, {"overrides": {"train.num_steps": "3"}}):
        with pytest.raises(SettingsError, match="both say when to stop"):
            bench.open(budget_s=60.0, **steps)


def test_a_misspelled_setting_is_refused_before_anything_is_made(bench: Bench) -> None:
    with pytest.raises(SettingsError, match=r"'train.batchsize'; did you mean 'train.batch_size'"):
        bench.open(overrides={"train.batchsize": "3"})
    assert not bench.out.exists()


def test_a_budget_fits_the_steps_of_a_named_recipe_and_resumes(bench: Bench) -> None:
    plan = bench.open(budget_s=4.0).training.plan
    assert plan.num_steps > 4
    foretold = plan.seconds_left(0, seconds_per_step=plan.seconds_per_step)
    assert 0.7 * 4.0 < foretold < 1.3 * 4.0
    assert bench.open(budget_s=4.0).training.plan == plan  # the same command again just resumes
    assert "extended" not in bench.last_words


def test_a_typed_setting_outweighs_what_a_budget_would_choose(bench: Bench) -> None:
    typed = {"train.save_every": "3", "train.ema_decay": "0.5"}
    ready = bench.open(budget_s=2.0, overrides=typed)
    train = ready.training.plan.recipe.train
    assert (train.save_every, train.ema_decay) == (3, 0.5)
    with pytest.raises(RunError, match=r"train.ema_decay is 0.5 in the run and 0.6 now"):
        bench.open(budget_s=2.0, overrides=typed | {"train.ema_decay": "0.6"})


def test_a_budget_counts_the_time_of_all_starts(bench: Bench) -> None:
    """With 20 s a step behind it, a run of 20 steps has used up 400 s: a budget of 600 s has 200 s left."""
    bench.train(up_to=20, num_steps=20, overrides={"train.save_every": "20"})
    newest = bench.run.newest_step()
    assert newest is not None
    state = json.loads(newest.state.read_text())
    state["seconds"] = 400.0
    bench.run.save_step(20, lambda folder: _copy_with_state(newest.path, folder.path, state))
    ready = bench.open(budget_s=600.0, recipe=None)
    assert 28 <= ready.training.plan.num_steps <= 30
    assert ready.training.seconds == 400.0
    with pytest.raises(RunError, match="--budget 7 min is less"):
        bench.open(budget_s=400.0, recipe=None)


def _copy_with_state(source: Path, target: Path, state: dict[str, Any]) -> None:
    for path in source.iterdir():
        if path.name != "manifest.json":
            (target / path.name).write_bytes(path.read_bytes())
    (target / "state.json").write_text(json.dumps(state))


def test_other_threads_and_versions_are_said_before_going_on(bench: Bench) -> None:
    bench.put("broken")
    plan = json.loads(bench.run.plan.read_text())
    plan["machine"]["threads"] = 77
    plan["machine"]["versions"]["torch"] = "1.0"
    bench.run.plan.write_text(json.dumps(plan))
    assert bench.train().training.step == 4
    assert "not be bit-identical" in bench.last_words
    assert "number of threads 77 then" in bench.last_words
    assert "torch 1.0 then" in bench.last_words


def test_nothing_is_said_of_the_machine_where_it_is_the_same(bench: Bench) -> None:
    bench.put("broken")
    bench.open()
    assert "bit-identical" not in bench.last_words


@pytest.mark.parametrize("name", ["thesis.txt", "checkpoints/model.pt", "recipe.toml", "samples/cat.png"])
def test_a_folder_of_something_else_is_refused_and_untouched(bench: Bench, name: str) -> None:
    precious = bench.out / name
    precious.parent.mkdir(parents=True)
    precious.write_text("precious")
    for fresh in (False, True):
        with pytest.raises(RunError, match="holds no run; name another folder with --out"):
            bench.open(fresh=fresh)
    assert bench.content() == {name: b"precious"}


def test_a_file_as_the_run_is_refused(bench: Bench) -> None:
    bench.out.write_text("precious")
    with pytest.raises(RunError, match="is a file; name a folder"):
        bench.open()


def test_a_run_among_its_own_clips_is_refused(bench: Bench) -> None:
    with pytest.raises(RunError, match="lies among the clips"):
        bench.open(out=bench.clips / "run")


def test_a_folder_without_clips_is_refused_and_no_run_is_made(bench: Bench) -> None:
    for path in bench.clips.iterdir():
        path.unlink()
    with pytest.raises(DatasetError, match=r"holds no .gif files; add clips"):
        bench.open()
    assert not bench.out.exists()


def test_what_is_good_in_a_folder_is_trained_on_and_the_rest_is_named(bench: Bench) -> None:
    for path in bench.clips.iterdir():
        path.unlink()
    write_gif(bench.clips / "01.gif", 1, num_frames=6)
    write_gif(bench.clips / "02.gif", 2, num_frames=1)
    write_gif(bench.clips / "03.gif", 3, side=1)
    (bench.clips / "x.gif").write_text("this is text")
    (bench.clips / "empty.gif").write_bytes(b"")
    write_gif(bench.clips / "whole.gif", 4, num_frames=20, side=64)
    whole = bench.clips / "whole.gif"
    (bench.clips / "04.gif").write_bytes(whole.read_bytes()[:60])
    whole.unlink()
    ready = bench.train()
    assert ready.training.step == 4
    for name in ("x.gif", "empty.gif", "04.gif"):
        assert any(line.startswith(f"left out: {name} ") for line in bench.said), bench.said
    assert "01.gif" in ready.training.plan.clips
    assert not {"x.gif", "empty.gif", "04.gif"} & ready.training.plan.clips.keys()


def test_the_recipe_of_a_run_starts_the_same_run_elsewhere(bench: Bench) -> None:
    bench.train(seed=11, overrides={"train.learning_rate": "3e-4"})
    bench.train(recipe=str(bench.run.recipe), out=bench.folder / "other")
    assert same(bench.weights(), bench.weights(RunFolder(bench.folder / "other")))


@pytest.mark.parametrize("moment", ["training.save", "save_plan", "the recipe is written"])
def test_a_start_cut_short_before_its_plan_leaves_nothing_in_the_way(
    bench: Bench, moment: str, monkeypatch: pytest.MonkeyPatch
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


def test_a_sheet_is_drawn_from_the_averaged_weights(bench: Bench) -> None:
    ready = bench.train()
    picture = ready.write_samples()
    assert picture is not None
    assert picture.exists() and picture.with_suffix(".gif").exists()


@pytest.mark.parametrize(
    ("seconds", "words"), [(45, "45 s"), (600, "10 min"), (5400, "90 min"), (7500, "2 h 5 min"), (7200, "2 h 0 min")]
)
def test_times_are_told_as_people_tell_them(seconds: float, words: str) -> None:
    assert duration(seconds) == words
