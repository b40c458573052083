"""TensorBoard is told what the log and the sample sheets say, each step once, however often a run is resumed."""

import sys
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from t2v.checkpoint.run_folder import RunFolder
from t2v.errors import SettingsError
from t2v.training.plan import load_plan
from t2v.training.tensorboard import Events

ON = {"train.tensorboard": "true", "train.sample_every": "2"}


def train(bench: Any, *, up_to: int | None = None, **changed: Any) -> None:
    """Train and draw the sample sheets as the command does; leave as a kill would after step `up_to`."""
    ready = bench.open(**changed)
    for progress in ready.training.steps():
        if progress.sample_due:
            ready.write_samples()
        if progress.step == up_to:
            break


def events(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0}).Reload()


def steps(read: EventAccumulator, name: str) -> list[int]:
    return [event.step for event in read.Scalars(name)]


def test_the_scalars_are_those_of_the_log(bench) -> None:
    train(bench, overrides=ON)
    read, log = events(bench.run.tensorboard), list(bench.run.read_log())
    assert set(read.Tags()["scalars"]) == {"loss", "learning_rate", "grad_norm", "clips_per_second"}
    for name in ("loss", "learning_rate", "grad_norm"):
        assert steps(read, name) == [1, 2, 3, 4]
        assert [event.value for event in read.Scalars(name)] == pytest.approx([line[name] for line in log], rel=1e-6)
    seconds = [0.0, *(line["seconds"] for line in log)]
    for event in read.Scalars("clips_per_second"):
        assert event.value == pytest.approx(2 / (seconds[event.step] - seconds[event.step - 1]), rel=1e-5)


def test_a_resumed_run_shows_every_step_and_sheet_once(bench) -> None:
    train(bench, overrides=ON, up_to=3)
    assert steps(events(bench.run.tensorboard), "loss") == [1, 2, 3]
    train(bench, recipe=None)
    read = events(bench.run.tensorboard)
    assert steps(read, "loss") == [1, 2, 3, 4]
    assert [image.step for image in read.Images("samples")] == [2, 4]
    assert read.Images("samples")[0].encoded_image_string.startswith(b"\x89PNG")
    assert len(list(bench.run.tensorboard.iterdir())) == 2


def test_what_a_resume_keeps_is_on_the_disk_before_the_step_that_it_starts_from(bench, monkeypatch) -> None:
    done: list[str] = []
    flush, save_step = Events.flush, RunFolder.save_step
    monkeypatch.setattr(Events, "flush", lambda self: (done.append("flush"), flush(self)))
    monkeypatch.setattr(RunFolder, "save_step", lambda self, *args: (done.append("save"), save_step(self, *args))[1])
    train(bench, overrides=ON)
    assert done == ["save", "flush", "save", "flush", "save"]  # the first is the start itself, of which nothing is told


def test_it_may_begin_while_a_run_is_under_way(bench) -> None:
    bench.put("broken")
    train(bench, overrides={"train.tensorboard": "true"})
    assert steps(events(bench.run.tensorboard), "loss") == [3, 4]
    assert load_plan(bench.run).recipe.train.tensorboard


def test_nothing_is_written_unless_asked_for(bench) -> None:
    train(bench)
    assert not bench.run.tensorboard.exists()


def test_asked_for_but_missing_it_is_refused_before_anything_is_written(bench, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(SettingsError, match=r"pip install 't2v\[tensorboard\]', or leave it out"):
        bench.open(overrides=ON)
    assert not bench.out.exists()
    bench.open()
