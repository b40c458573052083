"""A request told in moments: enough of them to watch, few enough to cost nothing, and none after Stop."""

import pytest
import torch

from t2v.config import GenerationSettings
from t2v.page.drawing import PREVIEW_EVERY_S, PROGRESS_EVERY_S, StopButtons, draw
from t2v.page.shelf import Shelf
from t2v.service import GenerationService


@pytest.fixture
def service(make_checkpoint):
    return GenerationService.load(make_checkpoint(), device="cpu")


@pytest.fixture
def calls(service, monkeypatch):
    made = []
    monkeypatch.setattr(service.network, "forward", lambda x, t, text=None: made.append(t) or torch.zeros_like(x))
    return made


@pytest.fixture
def shelf(tmp_path):
    return Shelf(tmp_path / "clips", keep_s=100)


class Clock:
    """Goes on by `step_s` whenever it is looked at."""

    def __init__(self, step_s: float) -> None:
        self.now, self.step_s = 0.0, step_s

    def __call__(self) -> float:
        self.now += self.step_s
        return self.now


def moments(service, shelf, *, clock=None, is_stopped=lambda: False, **choices):
    settings = service.resolve(GenerationSettings(**({"num_steps": 20, "seed": 1} | choices)))
    return list(draw(service, settings, shelf, is_stopped=is_stopped, clock=clock or Clock(0.1)))


def test_the_last_moment_has_every_clip(service, shelf):
    told = moments(service, shelf, num_clips=3)
    assert [kept.clip.index for kept in told[-1].finished] == [0, 1, 2]
    assert told[-1].done == told[-1].total == 60 and not told[-1].is_stopped
    assert all(shelf.get(kept.id) for kept in told[-1].finished)


def test_progress_is_told_now_and_then_and_previews_more_rarely(service, shelf, calls):
    told = moments(service, shelf, num_steps=200, clock=Clock(0.01))
    with_preview = [moment for moment in told if moment.preview is not None]
    seconds = told[-1].seconds
    assert 2 < len(told) <= seconds / PROGRESS_EVERY_S + 2
    assert 1 < len(with_preview) <= seconds / PREVIEW_EVERY_S + 2
    assert with_preview[0].preview.shape == (1, 3, 8, 8, 3)
    assert [moment.done for moment in told] == sorted({moment.done for moment in told})


def test_the_time_left_falls_to_nothing(service, shelf, calls):
    left = [moment.seconds_left for moment in moments(service, shelf, num_steps=100, clock=Clock(0.1))]
    assert left[0] is None and left[1:] == sorted(left[1:], reverse=True)
    assert left[1] > 10 and left[-1] == 0


def test_after_stop_the_network_is_not_asked_again(service, shelf, calls):
    told = moments(service, shelf, is_stopped=lambda: len(calls) >= 7)
    assert len(calls) == 7
    assert told[-1].is_stopped and told[-1].done == 7 and told[-1].finished == ()


def test_a_stop_before_the_start_draws_nothing(service, shelf, calls):
    assert [moment.is_stopped for moment in moments(service, shelf, is_stopped=lambda: True)] == [True]
    assert calls == []


def test_clips_finished_before_a_stop_stay(service, shelf, calls):
    told = moments(service, shelf, num_clips=3, is_stopped=lambda: len(calls) >= 25)
    assert told[-1].is_stopped and len(told[-1].finished) == 1


def test_closing_the_iterator_ends_the_work(service, shelf, calls):
    settings = service.resolve(GenerationSettings(num_steps=20, seed=1))
    steps = draw(service, settings, shelf, is_stopped=lambda: False, clock=Clock(1.0))
    next(steps)
    steps.close()
    assert len(calls) == 1


def test_a_stop_button_is_its_visitors_alone():
    stops = StopButtons()
    with stops.watched("a") as a, stops.watched("b") as b, stops.watched("a") as a2:
        assert stops.press("a") and a() and a2() and not b()
        assert not stops.press("c")
    assert not stops.press("b")


def test_a_press_counts_for_what_is_under_way_and_not_for_later():
    stops = StopButtons()
    stops.press("a")
    with stops.watched("a") as first:
        assert not first()
        stops.press("a")
    with stops.watched("a") as second:
        assert first() and not second()
