"""Many visitors at once: each gets the clip that was asked for or a refusal, and nothing of those who left stays."""

import importlib.util
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pytest

from t2v.config import GenerationSettings
from t2v.page.shelf import Shelf
from t2v.page.studio import Studio
from t2v.service import GeneratedClip, save_clip


@pytest.fixture(scope="module")
def page_load():
    """The benchmark of that name."""
    path = Path(__file__).parents[2] / "benchmarks" / "page_load.py"
    spec = importlib.util.spec_from_file_location("page_load", path)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "page_load", module)  # where dataclasses look
        spec.loader.exec_module(module)
    return module


def clip(**choices):
    settings = GenerationSettings(
        **{"prompt": "green", "seed": 1, "num_steps": 2, "num_frames": 3, "size": 8} | choices
    )
    frames = np.zeros((settings.num_frames, 8, 8, 3), np.uint8)
    return GeneratedClip(frames, 125.0, settings, 0, 0.5, "a.safetensors", "0" * 64, "cpu", "fp32")


def test_somebody_elses_clip_would_be_noticed(page_load, tmp_path):
    def mistakes(**choices):
        file = tmp_path / "download" / "clip.gif"
        save_clip(clip(**choices), file)
        return page_load.mistakes_in([file], page_load.Wish("green", seed=1, num_steps=2, num_frames=3))

    assert mistakes() == []
    assert mistakes(prompt="red") == ["prompt 'red' for 'green', seed 1"]
    assert mistakes(seed=2) == ["seed 2 for 'green', seed 1"]
    assert mistakes(num_frames=2) == ["num_frames 2 for 'green', seed 1", "2 frames for 'green', seed 1"]
    assert page_load.mistakes_in([], page_load.Wish("green", 1, 2, 3)) == ["0 clips for 'green', seed 1"]


def test_clips_on_the_shelf_hold_no_files_open(tmp_path):
    shelf, process = Shelf(tmp_path, keep_s=100), psutil.Process()
    kept = [shelf.add(clip(seed=seed)) for seed in range(30)]
    before = process.num_fds()
    kept += [shelf.add(clip(seed=seed)) for seed in range(30)]
    for one in kept:
        shelf.file(one, "gif")
    assert process.num_fds() <= before + 15  # other threads may have some of their own


@pytest.mark.slow
def test_under_load_every_request_ends_with_its_clip_or_in_words(
    page_load, serve, connect, until, tmp_path, monkeypatch
):
    studios = []
    monkeypatch.setattr("t2v.page.studio.Studio", lambda *parts: studios.append(Studio(*parts)) or studios[-1])
    address = serve(max_waiting=3)
    visitors = page_load.Visitors(address, ["fireworks at night", "green", "slow night"], tmp_path, vanish=0.25)
    outcomes = visitors.crowd(8, seconds=10)
    kinds = Counter(outcome.kind for outcome in outcomes)
    assert kinds["wrong"] == 0, [outcome.words for outcome in outcomes if outcome.kind == "wrong"]
    assert kinds["clip"] > 0 and kinds["left"] > 0 and kinds["refused"] > 0
    assert {outcome.words for outcome in outcomes if outcome.kind == "refused"} <= {
        "Queue is full! Please try again.",
        "Queue is full. Max size is 3 and size is 3.",
    }
    files, _ = connect(address).predict("green", num_steps=2, api_name="/generate")  # the line is free again
    assert len(files) == 1
    [studio] = studios
    until(lambda: not studio.stops._under_way)  # nobody who left is still waited for
    assert len(studio.shelf) == len(list(studio.shelf.folder.iterdir()))


class Broken:
    """A client whose jobs end in an error: at once, or only once they were cancelled."""

    def __init__(self, error, *, at_once):
        self.error, self.waits = error, not at_once

    def submit(self, **_):
        return self

    def result(self, timeout):
        if self.waits:
            raise TimeoutError
        raise self.error

    def cancel(self):
        self.waits = False


@pytest.mark.parametrize("error", [KeyError("data"), ValueError("Did not expect 2 tasks to be done.")], ids=str)
def test_only_those_who_cancelled_may_meet_the_errors_of_cancelling(page_load, tmp_path, error):
    def outcome(**choices):
        visitors = page_load.Visitors("http://nowhere", ["green"], tmp_path)
        wish = page_load.Wish("green", seed=1, num_steps=2, num_frames=3)
        return visitors._ask(Broken(error, **choices), wish, leave_after=1.0).kind

    assert outcome(at_once=False) == "left"
    assert outcome(at_once=True) == "wrong"
