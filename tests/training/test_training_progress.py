"""How far runs are, as their folders tell it: runs made by the loop, and logs written here line by line."""

import json
import os
import shutil
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2v.checkpoint.run_folder import RunFolder
from t2v.errors import RunError
from t2v.reading import recipe_from_mapping
from t2v.training.plan import Machine, Plan, Stretch, save_plan
from t2v.training.progress import MAX_POINTS, _Line, _loss_curve, _rate_curve, find_runs, read_status

CLIPS_PER_STEP = 2 * 3 * 4


def make_run(path: Path, *, train: dict[str, Any] | None = None, **changed: Any) -> RunFolder:
    """A run with a plan and its first save, as it is before the first step."""
    run = RunFolder(path)
    run.samples.mkdir(parents=True)
    settings = {"num_steps": 1000, "batch_size": 2, "accumulation": 3, "save_every": 100} | (train or {})
    recipe = recipe_from_mapping({"train": settings})
    fields: dict[str, Any] = {
        "recipe": recipe,
        "precision": "fp32",
        "precision_reason": "as asked",
        "seconds_per_step": 0.5,
        "stretches": (Stretch(start=0, end=recipe.train.num_steps),),
        "machine": Machine(device="cpu", num_processes=4, threads=1, versions={}),
        "clips_folder": "gifs",
        "clips": {},
        "frame_ms": 100.0,
        "cond_dim": None,
        "encoder_sha256": None,
        "prompts": ("a star",),
    }
    save_plan(run, Plan(**fields | changed))
    save(run, 0)
    return run


def save(run: RunFolder, step: int) -> None:
    """A saved step without its files: whoever reads them fails."""
    (run.checkpoints / f"step-{step:08d}").mkdir(parents=True)


def log(run: RunFolder, *lines: tuple[int, float], loss: float = 0.5) -> None:
    """Add lines of (step, seconds)."""
    for step, seconds in lines:
        run.append_log({"step": step, "loss": loss, "learning_rate": 1e-4, "grad_norm": 1.0, "seconds": seconds})


def last_word(run: RunFolder) -> float:
    """When the log was touched."""
    return run.log.stat().st_mtime


def test_a_folder_that_is_not_there_holds_no_runs(tmp_path: Path) -> None:
    assert find_runs(tmp_path / "runs") == []


def test_runs_are_found_with_the_newest_activity_first(tmp_path: Path) -> None:
    names = ["quiet", "busy", "new"]
    runs = {name: make_run(tmp_path / name) for name in names}
    for run in (runs["quiet"], runs["busy"]):
        log(run, (1, 0.5))
    for name, plan_time, log_time in (("quiet", 100, 200), ("busy", 100, 900), ("new", 500, None)):
        os.utime(runs[name].plan, (plan_time, plan_time))
        if log_time:
            os.utime(runs[name].log, (log_time, log_time))
    (tmp_path / "no run").mkdir()
    (tmp_path / "a file").write_text("")
    assert [run.path.name for run in find_runs(tmp_path)] == ["busy", "new", "quiet"]


def test_a_run_of_the_loop_is_read_as_it_went(bench: Any) -> None:
    ready = bench.train()
    sheet = ready.write_samples()
    status = read_status(bench.run)
    logged = list(bench.run.read_log())
    assert status.state == "finished"
    assert (status.name, status.step, status.num_steps, status.saved_step) == ("run", 4, 4, 4)
    assert status.clips_per_step == ready.training.global_batch
    assert status.seconds == pytest.approx(ready.training.seconds, abs=1e-3)
    assert [(point.step, point.loss) for point in status.loss_curve] == [
        (line["step"], line["loss"]) for line in logged
    ]
    assert (status.sheet, status.sheet_step) == (sheet, 4)
    assert status.clips_folder == str(bench.clips)
    assert status.seconds_left is None


def test_a_killed_run_is_called_live_for_a_while_and_then_stopped(bench: Any) -> None:
    bench.put("broken")
    now = last_word(bench.run)
    soon, later = read_status(bench.run, now=now + 1), read_status(bench.run, now=now + 3600)
    assert (soon.state, soon.step, soon.saved_step) == ("training", 3, 2)
    assert (later.state, later.step, later.saved_step) == ("stopped", 3, 2)
    assert soon.seconds_left is not None and later.seconds_left is None


def test_a_run_stopped_by_ctrl_c_is_called_so_at_once_and_live_again_when_it_goes_on(bench: Any) -> None:
    bench.train(up_to=3).training.save()
    status = read_status(bench.run)
    assert (status.state, status.step, status.saved_step) == ("stopped", 3, 3)
    ready = bench.open()
    assert read_status(bench.run).state == "training"
    for _ in ready.training.steps():
        pass
    assert read_status(bench.run).state == "finished"


def test_the_step_of_a_clean_stop_counts_where_the_log_skips_it(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    log(run, (2, 1.0), (4, 2.0))
    save(run, 5)
    status = read_status(run)
    assert (status.state, status.step) == ("stopped", 5)


def test_a_save_that_was_due_does_not_look_like_a_stop(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    log(run, (100, 50.0))
    save(run, 100)
    assert read_status(run).state == "training"


def test_an_extended_run_is_finished_no_longer(bench: Any) -> None:
    bench.put("finished")
    assert read_status(bench.run).state == "finished"
    bench.open(num_steps=6)
    status = read_status(bench.run)
    assert (status.state, status.num_steps) == ("training", 6)


def test_before_the_first_step_the_time_left_is_what_the_plan_foretells(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", seconds_per_sheet=7.0)
    status = read_status(run)
    assert (status.state, status.step, status.loss, status.clips_per_second) == ("training", 0, None, None)
    assert status.loss_curve == status.rate_curve == ()
    assert status.sheet is None
    assert status.seconds_left == 1000 * 0.5 + 7.0


def test_the_time_left_follows_the_recent_rate(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    quick = [(step, step * 0.1) for step in range(1, 401)]
    slow = [(400 + step, 40 + step * 3.0) for step in range(1, 101)]  # something else runs on the machine now
    log(run, *quick, *slow)
    status = read_status(run)
    assert status.clips_per_second == pytest.approx(CLIPS_PER_STEP / 3.0)
    assert status.seconds_left == pytest.approx(500 * 3.0)
    assert status.rate_curve[0].clips_per_second == pytest.approx(CLIPS_PER_STEP / 0.1)
    assert status.rate_curve[-1].clips_per_second == pytest.approx(CLIPS_PER_STEP / 3.0)


def test_the_time_left_knows_that_larger_clips_take_longer(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", half_size_steps=400, half_size_cost=0.25)
    log(run, *[(step, step * 0.5) for step in range(1, 201)])
    assert read_status(run).seconds_left == pytest.approx(200 * 0.5 + 600 * 2.0)
    log(run, *[(200 + step, 100 + step * 0.5) for step in range(1, 201)])
    log(run, *[(400 + step, 200 + step * 2.0) for step in range(1, 6)])
    assert read_status(run).seconds_left == pytest.approx(595 * 2.0)
    assert read_status(run).clips_per_second == pytest.approx(CLIPS_PER_STEP * 105 / 60)


@pytest.mark.parametrize(
    "plan, lines, allowed",
    [
        ({}, [(1, 0.1), (2, 0.2)], 30),
        ({}, [(1, 100.0), (2, 200.0)], 10 * 100),
        ({}, [(500, 50.0), (1000, 100.0)], 100),  # a long run: a line each 50 s
        ({"seconds_per_sheet": 60.0, "seconds_per_save": 5.0}, [(1, 0.1)], 30 + 65),
    ],
    ids=["quick steps", "slow steps", "few lines", "slow sheets"],
)
def test_a_run_is_live_as_long_as_it_may_be_silent(
    tmp_path: Path, plan: dict[str, Any], lines: list[tuple[int, float]], allowed: float
) -> None:
    run = make_run(tmp_path / "run", train={"num_steps": 100_000}, **plan)
    log(run, *lines)
    assert read_status(run, now=last_word(run) + allowed - 1).state == "training"
    assert read_status(run, now=last_word(run) + 3 * allowed).state == "stopped"


@pytest.mark.parametrize("torn", ['{"step": 3, "loss": 0.2, "secon', "null\n", '{"step": 3}\n', '{"step": Infinity}\n'])
def test_a_line_that_is_being_written_is_passed_over(tmp_path: Path, torn: str) -> None:
    run = make_run(tmp_path / "run")
    log(run, (1, 0.5), (2, 1.0))
    whole = read_status(run)
    with run.log.open("a") as file:
        file.write(torn)
    assert read_status(run) == whole


def test_lines_that_a_resume_dropped_are_forgotten(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    log(run, (1, 0.5), (2, 1.0))
    before = read_status(run)
    log(run, (3, 1.5), (4, 2.0))
    assert read_status(run).step == 4
    run.rewind_log(2)
    assert read_status(run) == before


def test_the_newest_sheet_is_that_of_the_latest_step(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    for name in ("step-00000900.png", "step-00001000.png", "step-00001000.gif", "step-x.png", ".step-00002000.png.tmp"):
        (run.samples / name).touch()
    status = read_status(run)
    assert (status.sheet, status.sheet_step) == (run.samples / "step-00001000.png", 1000)


def spoil(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def spoil_file(path: Path) -> None:
        plan = json.loads(path.read_text())
        change(plan)
        path.write_text(json.dumps(plan))

    return spoil_file


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:50]),
        lambda path: path.write_bytes(b"\xff\x00"),
        spoil(lambda plan: plan.pop("recipe")),
        spoil(lambda plan: plan.update(stretches=[])),
    ],
    ids=["cut", "not text", "no recipe", "no steps"],
)
def test_a_damaged_plan_is_an_error_that_names_the_run_and_no_path(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    run = make_run(tmp_path / "run")
    damage(run.plan)
    with pytest.raises(RunError, match=r"the run run cannot be read.*damaged.*--fresh") as caught:
        read_status(run)
    assert str(tmp_path) not in str(caught.value)


def test_a_run_that_was_removed_is_an_error(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    read_status(run)
    shutil.rmtree(run.path)
    with pytest.raises(RunError, match="the run run is not there any more"):
        read_status(run)


def test_a_run_that_is_removed_while_it_is_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "run")

    def vanish(self: RunFolder) -> None:
        raise FileNotFoundError(self.checkpoints)

    monkeypatch.setattr(RunFolder, "steps", vanish)
    with pytest.raises(RunError, match="the run run cannot be read; was it removed"):
        read_status(run)


def test_what_has_not_changed_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "run")
    log(run, (1, 0.5))
    status = read_status(run)
    for name in ("read_log", "newest_step"):
        monkeypatch.delattr(RunFolder, name)
    monkeypatch.delattr(Path, "read_text")
    assert read_status(run) == status


gaps = st.lists(st.tuples(st.integers(1, 9), st.floats(0.01, 100), st.floats(0, 10)), min_size=1, max_size=7)


@given(st.integers(1, 3 * MAX_POINTS), gaps)
def test_curves_stay_light_and_lose_no_time(num_lines: int, gaps: list[tuple[int, float, float]]) -> None:
    lines, step, seconds = [], 0, 0.0
    for more_steps, more_seconds, loss in islice(cycle(gaps), num_lines):
        step, seconds = step + more_steps, seconds + more_seconds
        lines.append(_Line(step, seconds, loss))
    losses, rates = _loss_curve(lines), _rate_curve(lines, clips_per_step=8)
    for curve in (losses, rates):
        steps = [point.step for point in curve]
        assert len(steps) <= MAX_POINTS
        assert (steps[0], steps[-1]) == (lines[0].step, lines[-1].step)
        assert steps == sorted(set(steps))
    # Each rate stands for all steps since the point before.
    before = [0, *(point.step for point in rates)]
    told = sum((point.step - first) * 8 / point.clips_per_second for first, point in zip(before, rates, strict=False))
    assert told == pytest.approx(seconds)
    lowest, highest = min(line.loss for line in lines), max(line.loss for line in lines)
    assert all(lowest - 1e-9 <= point.smooth_loss <= highest + 1e-9 for point in losses)


def test_the_smooth_curve_calms_the_noise_and_follows_the_fall(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    for step in range(1, 501):
        log(run, (step, step * 0.1), loss=1000 / (1000 + step) + (-1) ** step * 0.1)
    status = read_status(run)
    for point in status.loss_curve[100:]:
        assert abs(point.loss - 1000 / (1000 + point.step)) > 0.09
        assert point.smooth_loss == pytest.approx(1000 / (1000 + point.step), abs=0.02)
    assert status.loss == status.loss_curve[-1].smooth_loss


def test_points_of_a_growing_log_stay_where_they_are(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    for step in range(1, 601):
        log(run, (step, step * 0.1), loss=1 / step)
    before = read_status(run)
    log(run, (601, 60.1), loss=1 / 601)
    after = read_status(run)
    assert after.loss_curve[: len(before.loss_curve) - 1] == before.loss_curve[:-1]
    assert after.rate_curve[: len(before.rate_curve) - 1] == before.rate_curve[:-1]


def test_a_skipped_step_whose_loss_is_no_number_leaves_no_gap_in_what_is_told(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    log(run, (1, 0.5))
    run.append_log({"step": 2, "loss": None, "learning_rate": 1e-4, "grad_norm": None, "seconds": 1.0, "skipped": True})
    log(run, (3, 1.5))
    status = read_status(run)
    assert [(point.step, point.loss) for point in status.loss_curve] == [(1, 0.5), (3, 0.5)]
    assert (status.step, status.loss) == (3, 0.5)
