"""Whether a network is compiled: decisions on made-up timings, what is said, and a minute network that really is."""

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from t2v.checkpoint.run_folder import RunFolder
from t2v.errors import RunError, SettingsError
from t2v.training import compiled
from t2v.training.compiled import (
    MAX_ERROR,
    MIN_RUN_S,
    Answer,
    Compilation,
    Trial,
    compare,
    decide_compiled,
    why_not_try,
)
from t2v.training.plan import load_plan

HOUR = 3600.0


def decide(
    *, speedup: float, compile_s: float, error: float = 1e-6, run_s: float = HOUR, always: bool = False
) -> Compilation:
    """A run of steps of one second, each all pass."""
    trial = Trial(plain_s=1.0, compiled_s=1 / speedup, compile_s=compile_s, error=error)
    return decide_compiled(
        trial, step_s=1.0, passes_per_step=1, num_steps=int(run_s), max_error=MAX_ERROR["fp32"], always=always
    )


@pytest.mark.parametrize(
    ("speedup", "compile_s", "run_s", "said"),
    [
        (1.4, 45, HOUR, "compiled: 1.4x as fast, 45 s to compile"),
        (1.4, 900, HOUR, "not compiled: at 1.4x the speed, 15 min of compiling would not pay in a run of 60 min"),
        (1.4, 900, 5 * HOUR, "compiled: 1.4x as fast, 15 min to compile"),
        (1.12, 330, HOUR, "not compiled: at 1.1x the speed, 6 min of compiling would not pay in a run of 60 min"),
        (0.8, 0, HOUR, "not compiled: at 0.8x the speed, 0 s of compiling would not pay in a run of 60 min"),
    ],
)
def test_a_network_is_compiled_where_that_pays_within_the_run(
    speedup: float, compile_s: float, run_s: float, said: str
) -> None:
    decision = decide(speedup=speedup, compile_s=compile_s, run_s=run_s)
    assert str(decision) == said
    assert decision.used == said.startswith("compiled")
    assert decision.seconds_per_step == (pytest.approx(1 / speedup) if decision.used else None)


@given(st.floats(0.1, 10), st.floats(0, 1e4), st.floats(10, 1e6))
def test_a_run_is_never_longer_for_compiling(speedup: float, compile_s: float, run_s: float) -> None:
    decision = decide(speedup=speedup, compile_s=compile_s, run_s=run_s)
    if decision.used:
        assert compile_s + int(run_s) / speedup < int(run_s)


@pytest.mark.parametrize("error", [0.01, math.nan, math.inf])
def test_code_that_computes_something_else_is_never_used(error: float) -> None:
    decision = decide(speedup=9, compile_s=0, error=error)
    assert not decision.used and "off by" in decision.reason
    with pytest.raises(SettingsError, match=r"always: compiled code is off by .* train\.compile=never"):
        decide(speedup=9, compile_s=0, error=error, always=True)


def test_always_compiles_what_does_not_pay() -> None:
    assert (
        str(decide(speedup=0.5, compile_s=HOUR, always=True)) == "compiled: as asked; 0.5x as fast, 60 min to compile"
    )


def test_only_the_passes_of_a_step_grow_quicker() -> None:
    """A step of 10 s is two passes of 4 s and an optimizer that takes 2 s."""
    trial = Trial(plain_s=4.0, compiled_s=2.0, compile_s=0.0, error=0.0)
    decision = decide_compiled(trial, step_s=10.0, passes_per_step=2, num_steps=1000, max_error=1e-3)
    assert decision.seconds_per_step == 6.0


@pytest.mark.parametrize("device", MIN_RUN_S)
def test_only_runs_many_times_as_long_as_compiling_try_it(device: str) -> None:
    assert why_not_try("g++", device, run_s=MIN_RUN_S[device]) is None
    assert "too short" in (why_not_try("g++", device, run_s=0.99 * MIN_RUN_S[device]) or "")


def test_without_a_compiler_or_on_a_young_device_nothing_is_tried() -> None:
    assert "no C++ compiler" in (why_not_try(None, "cpu", run_s=1e9) or "")
    assert "train.compile=always tries it" in (why_not_try("clang++", "mps", run_s=1e9) or "")


def test_beside_stills_only_always_compiles() -> None:
    assert "train.compile=always does" in (why_not_try("g++", "cpu", run_s=1e9, has_pictures=True) or "")


class Network:
    """A made-up network and its clock: each pass takes a time, the first compiled one more, and rounds otherwise."""

    def __init__(self, *, compiled_s: float, compile_s: float, output_error: float, gradient_error: float) -> None:
        self.now = 0.0
        self.is_compiled = False
        self.passes: list[bool] = []
        self._seconds = {False: 1.0, True: compiled_s}
        self._compile_s, self._errors = compile_s, (output_error, gradient_error)

    def clock(self) -> float:
        return self.now

    def compile(self) -> None:
        self.is_compiled = True

    def run_pass(self) -> Answer:
        eager = torch._dynamo.eval_frame._stance.stance == "force_eager"
        is_compiled = self.is_compiled and not eager
        self.now += self._seconds[is_compiled] + (self._compile_s if is_compiled and True not in self.passes else 0.0)
        self.passes.append(is_compiled)
        return Answer(*(torch.ones(9) * (1 + error * is_compiled) for error in self._errors))


@pytest.mark.parametrize("errors", [(0.0, 0.25), (0.25, 0.0)])
def test_a_trial_takes_turns_and_looks_at_outputs_and_gradients(errors: tuple[float, float]) -> None:
    network = Network(compiled_s=0.5, compile_s=60.0, output_error=errors[0], gradient_error=errors[1])
    trial = compare(network.run_pass, network.compile, clock=network.clock)
    assert trial == pytest.approx(Trial(plain_s=1.0, compiled_s=0.5, compile_s=60.0, error=0.25))
    assert network.passes == [False, True, *(False, True) * compiled.NUM_TIMED]


# Runs


def without_compiler(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    if how == "PATH":
        monkeypatch.delenv("CXX", raising=False)
        monkeypatch.setenv("PATH", "")
    else:
        monkeypatch.setenv("CXX", "/nowhere/g++")


@pytest.mark.parametrize("how", ["PATH", "CXX"])
def test_without_a_compiler_a_run_is_trained_as_it_is_and_that_is_said_once(
    bench, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_compiler(monkeypatch, how)
    assert bench.train().training.step == 4
    assert [line for line in bench.said if "compiled:" in line] == [
        "not compiled: this machine has no C++ compiler (such as g++), without which everything works too"
    ]
    bench.open(num_steps=6)
    assert "compiled:" not in bench.last_words


def test_always_without_a_compiler_is_refused_before_anything_is_made(bench, monkeypatch: pytest.MonkeyPatch) -> None:
    without_compiler(monkeypatch, "PATH")
    with pytest.raises(SettingsError, match=r"always needs a C\+\+ compiler.*train\.compile=auto"):
        bench.open(overrides={"train.compile": "always"})
    assert not bench.out.exists()


def test_a_short_run_is_not_worth_a_try(bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "cpp_compiler", lambda: "g++")
    plan = bench.open().training.plan
    assert not plan.compiled and "too short for it to pay" in plan.compile_reason
    assert f"not compiled: {plan.compile_reason}" in bench.said


def test_what_is_shown_at_two_sizes_is_not_compiled(bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "cpp_compiler", lambda: "g++")
    plan = bench.open(overrides={"data.size": "16", "train.half_size_share": "0.5"}).training.plan
    assert not plan.compiled and "half the size would be compiled anew" in plan.compile_reason


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """A machine where compiling does nothing but be noted."""
    noted: list[nn.Module] = []
    monkeypatch.setattr(compiled, "cpp_compiler", lambda: "g++")
    monkeypatch.setattr(compiled, "_compile", noted.append)
    return noted


ALWAYS = {"train.compile": "always"}


def test_what_was_decided_is_kept_and_not_measured_again(bench, pretended: list[nn.Module]) -> None:
    ready = bench.train(overrides=ALWAYS, up_to=3)
    plan = load_plan(bench.run)
    assert plan.compiled and plan.seconds_to_compile > 0
    assert pretended == [ready.training.network]
    assert f"compiled: {plan.compile_reason}" in bench.said
    again = bench.train(recipe=None)
    assert pretended == [ready.training.network, again.training.network]
    assert any(line.startswith("compiled again in ") for line in bench.said)
    assert load_plan(bench.run) == plan
    bench.open(recipe=None)  # finished: there is nothing left to compile for
    assert len(pretended) == 2


def test_another_answer_to_compile_is_another_run(bench, pretended: list[nn.Module]) -> None:
    bench.train(overrides=ALWAYS, up_to=3)
    with pytest.raises(RunError, match=r"train\.compile is always in the run and never now"):
        bench.open(overrides={"train.compile": "never"})


def test_never_is_never(bench, pretended: list[nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "MIN_RUN_S", {"cpu": 0.0})
    bench.open(overrides={"train.compile": "never"})
    assert pretended == [] and "not compiled: as asked" in bench.said


@pytest.mark.parametrize("asked", ["auto", "always"])
def test_a_network_that_cannot_be_compiled_is_trained_plain_unless_always_is_asked(
    bench, asked: str, pretended: list[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(network: nn.Module) -> None:
        network.register_forward_pre_hook(lambda *_: raise_(RuntimeError("\nPython.h is missing\nand more")))

    monkeypatch.setattr(compiled, "MIN_RUN_S", {"cpu": 0.0})
    monkeypatch.setattr(compiled, "_compile", fail)
    if asked == "always":
        with pytest.raises(SettingsError, match=r"always: torch\.compile failed \(Python\.h is missing\)"):
            bench.open(overrides=ALWAYS)
        return
    assert bench.train(overrides={"train.compile": asked}).training.step == 4
    assert "not compiled: torch.compile failed (Python.h is missing)" in bench.said
    assert bench.same(bench.weights(), bench.weights(RunFolder(bench.ready_made / "finished")))


def raise_(error: Exception) -> None:
    raise error


def test_a_compiled_run_goes_on_where_no_compiler_is_and_says_the_difference(
    bench, pretended: list[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "MIN_RUN_S", {"cpu": 0.0})
    monkeypatch.setattr(compiled, "MIN_GAIN", -100.0)
    bench.train(up_to=3)
    assert load_plan(bench.run).compiled
    monkeypatch.setattr(compiled, "cpp_compiler", lambda: None)
    assert bench.train().training.step == 4
    assert sum("not be bit-identical" in line for line in bench.said) == 1
    assert "not compiled as before, as this machine has no C++ compiler" in bench.last_words
    assert load_plan(bench.run).compiled  # where there is one again, it is used again


def test_an_always_compiled_run_needs_its_compiler_to_go_on(
    bench, pretended: list[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.train(overrides=ALWAYS, up_to=3)
    monkeypatch.setattr(compiled, "cpp_compiler", lambda: None)
    with pytest.raises(SettingsError, match=r"the run is compiled .*no C\+\+ compiler"):
        bench.open(recipe=None)


def test_a_run_from_before_there_was_a_choice_goes_on_as_it_was(bench, pretended: list[nn.Module]) -> None:
    bench.put("broken")
    plan = json.loads(bench.run.plan.read_text())
    for name in ("compiled", "compile_reason", "seconds_to_compile"):
        del plan[name]
    del plan["recipe"]["train"]["compile"]
    bench.run.plan.write_text(json.dumps(plan))
    assert bench.train().training.step == 4
    assert pretended == [] and "compile" not in bench.last_words


def test_compiling_is_paid_for_from_the_budget(bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 100 s, 40 go into compiling, and each step then takes a hundredth of the rest."""

    def answer(*args: object, **kwargs: object) -> Compilation:
        return Compilation(True, "made up", seconds=40.0, seconds_per_step=0.6)

    monkeypatch.setattr("t2v.training.start.choose_compiled", answer)
    plan = bench.open(budget_s=100.0).training.plan
    assert plan.seconds_per_step == 0.6
    assert 50 <= plan.num_steps <= 100  # sample sheets take a part, more of it the busier the machine


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_network_really_compiled_learns_the_same_and_is_resumed_exactly(
    bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")  # so that it is as it was when this test is over
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    monkeypatch.setenv("T2V_CACHE", str(tmp_path / "cache"))
    settings = {"num_steps": 3, "overrides": {"train.accumulation": "2", "train.save_every": "2"}}
    bench.train(**settings)
    plain = bench.weights()

    settings["overrides"] |= ALWAYS
    graphs = num_graphs()
    ready = bench.open(out=tmp_path / "compiled", **settings)
    assert num_graphs() == graphs + 1
    for _ in ready.training.steps():
        pass
    assert ready.write_samples() is not None
    assert num_graphs() == graphs + 1  # the loop's batches are those it was compiled for, and samples are drawn plain
    assert any((tmp_path / "cache" / "compiled").iterdir())
    unbroken = bench.weights(RunFolder(tmp_path / "compiled"))
    assert unbroken.keys() == plain.keys()
    assert all((unbroken[name] - plain[name]).abs().mean() < 1e-5 for name in plain)

    bench.train(out=tmp_path / "broken", up_to=2, **settings)
    torch._dynamo.reset()  # as in another process
    bench.train(out=tmp_path / "broken", recipe=None)
    assert "compiled again" in bench.last_words
    assert bench.same(bench.weights(RunFolder(tmp_path / "broken")), unbroken)
    assert capfd.readouterr() == ("", "")


def num_graphs() -> int:
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]
