"""The report on a machine: rates by a made-up clock, and the whole of it on a network in miniature."""

import json
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from t2v.errors import SettingsError
from t2v.training import machine
from t2v.training.machine import RATE_S, check_machine, why_not_eight_bit

CPU = torch.device("cpu")


class Worker:
    """Work of a made-up speed: a thousand units a second, after a first turn of each size that takes far longer."""

    def __init__(self) -> None:
        self.now = 0.0
        self.sizes: list[int] = []

    def clock(self) -> float:
        return self.now

    def work(self, size: int) -> tuple[float, Callable[[], Tensor]]:
        def run() -> Tensor:
            self.now += size / 1000 if size in self.sizes else 99.0
            self.sizes.append(size)
            return torch.zeros(1)

        return float(size), run


def test_a_rate_is_taken_where_the_work_is_long_enough_to_tell() -> None:
    worker = Worker()
    rate = machine._rate(worker.work, sizes=[10, 20, 40, 80, 160], clock=worker.clock)
    assert rate == pytest.approx(1000)
    assert max(worker.sizes) == 80  # the first to take RATE_S
    assert RATE_S == 0.05


def test_the_largest_size_must_do_on_a_machine_too_fast_for_it() -> None:
    worker = Worker()
    assert machine._rate(worker.work, sizes=[1, 2], clock=worker.clock) == pytest.approx(1000)


@pytest.mark.parametrize("error", [SettingsError("needs bitsandbytes"), RuntimeError("no\n kernel")])
def test_why_an_optimizer_cannot_be_used_is_told_in_a_line(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    assert why_not_eight_bit(CPU) is None

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(machine, "build_optimizer", fail)
    assert why_not_eight_bit(CPU) in ("needs bitsandbytes", "RuntimeError: no kernel")


def test_a_machine_is_measured_and_told(bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "RATE_S", 0.0)
    monkeypatch.setattr(machine, "COPIED", 1000)
    monkeypatch.setattr(machine, "PROBED_RECIPE", bench.recipe)
    monkeypatch.setattr(machine, "recipe_names", lambda: (bench.recipe,))
    report = check_machine("cpu")
    assert report.device == "cpu" and report.num_threads == torch.get_num_threads()
    assert report.precision.name == "fp32"  # as the recipe asks
    [pace] = report.paces
    assert pace.clips_per_step == 2
    assert pace.clips_per_minute == pytest.approx(120 / pace.seconds_per_step)
    assert min(*report.matmul.values(), *report.convolution.values(), report.copying) > 0
    assert json.loads(json.dumps(report.as_dict()))["paces"][0]["clips_per_minute"] == pace.clips_per_minute
    tables = "\n".join(report.lines()).split("\n\n")[1:-1]
    assert len(tables) == 2
    for table in tables:
        assert len({len(line) for line in table.splitlines()}) == 1, table
