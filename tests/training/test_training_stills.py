"""Stills among the clips of a run, and the windows and the rate that a run asks for."""

import json
from dataclasses import replace

import numpy as np
import pytest

from t2v.checkpoint import load_checkpoint
from t2v.config import GenerationSettings
from t2v.errors import SettingsError
from t2v.service import GenerationService
from t2v.training import clips as clips_of_run
from t2v.training import start
from t2v.training.plan import load_plan


def add_stills(bench, count: int = 8) -> None:
    for number in range(100, 100 + count):
        bench.write_gif(bench.clips / f"{number}.gif", number, num_frames=1)


def shapes_seen(training) -> set[int]:
    """Frames of the clips that the network is shown in the next four steps."""
    seen: set[int] = set()
    training.network.register_forward_pre_hook(lambda network, given: seen.add(given[0].shape[2]))
    for _ in range(4):
        training.take_step()
    return seen


def test_stills_beside_clips_are_trained_as_clips_of_one_frame_and_that_is_said(bench) -> None:
    add_stills(bench)
    training = bench.open().training
    assert "8 stills beside 3 clips: trained on as pictures, 33% of each batch (train.still_share)" in bench.last_words
    assert training.plan.still_share == load_plan(bench.run).still_share == pytest.approx(1 / 3)
    assert load_checkpoint(bench.out).header.still_share == training.plan.still_share
    assert shapes_seen(training) == {1, 2}


@pytest.mark.parametrize("asked", ["0.5", "0"])
def test_the_share_of_stills_can_be_asked_for(bench, asked: str) -> None:
    add_stills(bench)
    training = bench.open(overrides={"train.still_share": asked}).training
    assert training.plan.still_share == float(asked)
    assert shapes_seen(training) == ({1, 2} if float(asked) else {2})


def test_a_run_with_stills_goes_on_to_the_last_bit(bench) -> None:
    add_stills(bench)
    bench.train()
    unbroken = bench.weights()
    bench.train(up_to=3, fresh=True)
    bench.train()
    assert bench.same(bench.weights(), unbroken)


def test_a_run_with_tokens_and_frames_goes_on_to_the_last_bit_and_can_be_drawn_from(bench) -> None:
    text = {
        "model.token_pooling": "true",
        "model.cross_attn": "true",
        "model.token_dim": "32",
        "model.token_layers": "1",
    }
    settings = {"overrides": text | {"train.frame_share": "0.5"}}
    trained = bench.train(**settings)
    assert trained.training.header().still_share == 0.5
    unbroken = bench.weights()
    bench.train(up_to=3, fresh=True, **settings)
    bench.train(**settings)
    assert bench.same(bench.weights(), unbroken)
    service = GenerationService(load_checkpoint(bench.out))
    (*_, last) = service.generate(GenerationSettings(prompt="red", negative="a long blue night", num_steps=2, seed=1))
    assert last.finished[0].frames.shape[0] == 2


def test_frames_that_would_leave_no_place_for_clips_are_refused(bench) -> None:
    add_stills(bench)
    with pytest.raises(SettingsError, match=r"leaves nothing for clips; lower train\.frame_share"):
        bench.open(overrides={"train.frame_share": "0.7", "train.still_share": "0.3"})
    with pytest.raises(SettingsError, match=r"train\.frame_share needs clips, and data\.num_frames is 1"):
        bench.open(overrides={"train.frame_share": "0.7", "data.num_frames": "1"})


def test_a_run_from_before_goes_on_with_stills_as_clips_that_stand_still(bench) -> None:
    add_stills(bench)
    bench.open()
    plan = json.loads(bench.run.plan.read_text())
    del plan["still_share"], plan["recipe"]["train"]["still_share"]
    bench.run.plan.write_text(json.dumps(plan))
    training = bench.open().training
    assert training.plan.still_share is None
    assert shapes_seen(training) == {2}


@pytest.mark.parametrize(
    ("what", "num_frames", "said"),
    [("clips", "2", "clips alone"), ("stills", "2", "stills alone"), ("both", "1", "a model of one frame")],
)
def test_a_share_that_nothing_can_take_is_said(bench, what: str, num_frames: str, said: str) -> None:
    if what != "clips":
        add_stills(bench)
    if what == "stills":
        for clip in bench.clips.glob("0*.gif"):
            clip.unlink()
    training = bench.open(overrides={"train.still_share": "0.5", "data.num_frames": num_frames}).training
    assert f"train.still_share has no effect, as this is trained on {said}" in bench.last_words
    assert training.plan.still_share is None
    assert shapes_seen(training) == {int(num_frames)}
    assert ("--set data.num_frames=1 costs less" in bench.last_words) == (what == "stills")


def test_of_stills_alone_a_model_of_one_frame_is_chosen(bench, monkeypatch: pytest.MonkeyPatch) -> None:
    add_stills(bench)
    for clip in bench.clips.glob("0*.gif"):
        clip.unlink()
    asked: dict[str, object] = {}

    def choose(**given: object) -> None:
        asked.update(given)
        raise InterruptedError

    monkeypatch.setattr(start, "choose_recipe", choose)
    with pytest.raises(InterruptedError):
        bench.open(recipe=None)
    assert asked["typed"] == {"data.num_frames": "1"} and (asked["num_clips"], asked["num_stills"]) == (8, 0)


def test_large_photos_do_not_make_small_clips_larger(bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(100, 108):
        bench.write_gif(bench.clips / f"{number}.gif", number, num_frames=1, side=64)
    asked: dict[str, object] = {}

    def choose(**given: object) -> None:
        asked.update(given)
        raise InterruptedError

    monkeypatch.setattr(start, "choose_recipe", choose)
    with pytest.raises(InterruptedError):
        bench.open(recipe=None)
    assert asked["side"] == 8 and (asked["num_clips"], asked["num_stills"]) == (3, 8)


def test_sheets_are_drawn_of_what_moves(bench, fake_encoder) -> None:
    add_stills(bench)
    for path in bench.clips.glob("*.gif"):
        path.with_suffix(".txt").write_text(f"this is {path.stem}")
    assert bench.open().training.plan.prompts == ("this is 00", "this is 01", "this is 02")


def test_generated_files_keep_the_rate_that_was_trained_at(bench) -> None:
    add_stills(bench)
    bench.train(overrides={"data.fps": "12.5"})
    service = GenerationService.load(bench.out, device="cpu")
    (*_, last) = service.generate(GenerationSettings(num_steps=1))
    assert last.finished[0].frame_ms == 80
    (*_, last) = service.generate(GenerationSettings(num_steps=1, fps=20))
    assert last.finished[0].frame_ms == 50


def test_without_a_rate_it_is_that_of_the_clips_whatever_stills_lie_beside_them(bench) -> None:
    """Clips of 3 frames of 100 ms, seen as 2."""
    assert bench.open().training.plan.frame_ms == 150
    add_stills(bench, 20)
    assert bench.open(out=bench.folder / "other").training.plan.frame_ms == 150


@pytest.mark.parametrize("window", ["random", "every"])
def test_a_run_on_windows_of_longer_clips_goes_on_to_the_last_bit(
    bench, window: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = clips_of_run.load_clips

    def load_longer(*given, **named):
        clips = load(*given, **named)
        return replace(clips, frames=[np.concatenate([rows, 255 - rows, rows[:1]]) for rows in clips.frames])

    monkeypatch.setattr(clips_of_run, "load_clips", load_longer)
    settings = {"overrides": {"data.fps": "10", "data.window": window}, "num_steps": 6}
    ready = bench.train(**settings)
    assert len(ready.training.clips.windows) == (12 if window == "every" else 3)
    unbroken = bench.weights()
    bench.train(up_to=3, fresh=True, **settings)
    bench.train(recipe=None)
    assert bench.same(bench.weights(), unbroken)


def test_one_frame_is_as_trained_where_stills_were(make_checkpoint) -> None:
    asked = GenerationSettings(num_frames=1)
    with_stills, without = (
        GenerationService.load(make_checkpoint(still_share=share), device="cpu") for share in (0.25, None)
    )
    assert with_stills.hints(asked) == []
    assert without.hints(asked) == ["this model was trained on 3 frames; 1 may look wrong"]
