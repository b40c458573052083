"""Generators as functions of their keys, the device asked for, and the choice of a precision."""

import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from t2v import runtime
from t2v.config import PrecisionName
from t2v.errors import SettingsError
from t2v.runtime import (
    LOW_PRECISIONS,
    autocast,
    bf16_matmul_speedup,
    choose_precision,
    cpp_compiler,
    decide_precision,
    derived_seed,
    generator,
    pick_device,
    relative_error,
)


def test_equal_keys_draw_the_same() -> None:
    draws = [torch.randn(4, generator=generator("noise", 3, 7)) for _ in range(2)]
    assert torch.equal(*draws)


@given(st.lists(st.integers() | st.text(), max_size=4), st.lists(st.integers() | st.text(), max_size=4))
def test_other_keys_give_another_seed(one: list[int | str], other: list[int | str]) -> None:
    assert (derived_seed(*one) == derived_seed(*other)) == (one == other)
    assert 0 <= derived_seed(*one) < 2**63


def test_keys_do_not_run_into_each_other() -> None:
    assert len({derived_seed(1, 23), derived_seed(12, 3), derived_seed(123), derived_seed("1", 23)}) == 4


def test_a_generator_leaves_torch_alone() -> None:
    before = torch.get_rng_state()
    torch.rand(3, generator=generator("x"))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_device_that_is_not_there_is_refused_with_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(SettingsError, match="no device 'cuda'; it has cpu"):
        pick_device("cuda")
    assert pick_device("auto") == pick_device("cpu") == torch.device("cpu")


def test_auto_takes_the_fastest_device_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device("auto").type == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto").type == "mps"


def test_every_precision_but_the_plain_one_is_in_the_table() -> None:
    assert {*LOW_PRECISIONS, "auto", "fp32"} == set(get_args(PrecisionName))


@pytest.mark.parametrize(
    ("name", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_a_layer_computes_in_the_precision_named(name: str, dtype: torch.dtype) -> None:
    layer = torch.nn.Linear(4, 4)
    with autocast(name, torch.device("cpu")):
        assert layer(torch.ones(2, 4)).dtype == dtype
    assert layer.weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("speedup", "error", "name", "said"),
    [
        (8.0, 0.003, "bf16", "8x as fast"),
        (1.2, 0.01, "bf16", "1.2x as fast"),
        (1.05, 0.003, "fp32", "1.1x the speed|1x the speed"),
        (0.01, 0.0, "fp32", "0.01x the speed"),
        (8.0, 0.5, "fp32", "off by 50.0%"),
        (8.0, math.nan, "fp32", "off by nan%"),
        (8.0, math.inf, "fp32", "off by inf%"),
    ],
)
def test_bf16_is_taken_where_it_is_faster_and_computes_the_same(
    speedup: float, error: float, name: str, said: str
) -> None:
    chosen = decide_precision(speedup=speedup, error=error)
    assert chosen.name == name
    assert re.search(said, chosen.reason)


class Machine:
    """A made-up machine: a clock that only its work moves, and an answer that bf16 gets wrong by `error`."""

    def __init__(self, *, bf16_s: float, error: float, first_s: float = 0.0) -> None:
        self.now = 0.0
        self.calls: list[bool] = []
        self._bf16_s, self._error, self._first_s = bf16_s, error, first_s

    def clock(self) -> float:
        return self.now

    def run(self, bf16: bool) -> Tensor:
        self.now += self._first_s if bf16 not in self.calls else 0.0
        self.calls.append(bf16)
        self.now += self._bf16_s if bf16 else 1.0
        return torch.ones(100) * (1 + self._error if bf16 else 1)


@pytest.mark.parametrize(
    ("bf16_s", "error", "name"), [(0.2, 0.003, "bf16"), (0.99, 0.003, "fp32"), (5.0, 0.003, "fp32"), (0.2, 0.2, "fp32")]
)
def test_the_probe_compares_times_and_outputs(bf16_s: float, error: float, name: str) -> None:
    machine = Machine(bf16_s=bf16_s, error=error)
    assert choose_precision(machine.run, on_cpu=False, clock=machine.clock).name == name


def test_the_first_turn_only_warms_up() -> None:
    machine = Machine(bf16_s=0.2, error=0.0, first_s=100.0)
    chosen = choose_precision(machine.run, on_cpu=False, clock=machine.clock)
    assert chosen.reason.startswith("5x as fast")


def speedup_of(value: float) -> Callable[..., float]:
    return lambda *, clock: value


def test_where_the_cpu_emulates_bf16_no_network_is_run_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "bf16_matmul_speedup", speedup_of(0.02))
    machine = Machine(bf16_s=50.0, error=0.0)
    assert choose_precision(machine.run, on_cpu=True, clock=machine.clock).name == "fp32"
    assert machine.calls == []


def test_a_cpu_with_bf16_is_probed_with_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "bf16_matmul_speedup", speedup_of(5.0))
    machine = Machine(bf16_s=0.2, error=0.0)
    assert choose_precision(machine.run, on_cpu=True, clock=machine.clock).name == "bf16"
    assert True in machine.calls


def test_the_quick_look_at_the_cpu_is_not_fooled_by_one_disturbed_turn() -> None:
    """Each turn reads the clock twice. Here every turn takes 1 s, save one that something else held up."""
    readings = iter([0, 1, 2, 3, 4, 104, 105, 106, *range(200, 208)])
    assert bf16_matmul_speedup(clock=lambda: float(next(readings))) == pytest.approx(1.0)


def test_an_error_is_told_against_what_is_true() -> None:
    true = torch.tensor([3.0, 4.0])
    assert relative_error(true, true) == 0
    assert relative_error(torch.tensor([3.0, 3.0]), true) == pytest.approx(0.2)
    assert math.isnan(relative_error(torch.tensor([math.nan, 4.0]), true))


@pytest.mark.parametrize(("system", "usual"), [("linux", "g++"), ("darwin", "clang++")])
def test_the_compiler_is_the_usual_one_of_the_system_or_the_one_named(
    system: str, usual: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert cpp_compiler() is None
    for name in (usual, "mine"):
        (tmp_path / name).touch(mode=0o755)
    assert cpp_compiler() == str(tmp_path / usual)
    monkeypatch.setenv("CXX", "mine")
    assert cpp_compiler() == str(tmp_path / "mine")
    monkeypatch.setenv("CXX", "gone")
    assert cpp_compiler() is None
