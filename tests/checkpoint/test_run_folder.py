"""Whatever moment a crash picks, the run folder holds a whole step."""

import builtins
import json
import os
from pathlib import Path

import pytest

from t2v.checkpoint.run_folder import KEPT_STEPS, RunFolder, StepFolder
from t2v.errors import RunError


def writer(content: str):
    def write(folder: StepFolder) -> None:
        for path in (folder.weights, folder.ema, folder.optimizer, folder.state):
            path.write_text(content)

    return write


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.create()
    return folder


def test_a_saved_step_is_whole_and_the_newest_wins(run: RunFolder) -> None:
    for step in (1, 2, 10):
        run.save_step(step, writer(str(step)))
    newest = run.newest_step()
    assert newest is not None
    assert newest.step == 10
    assert newest.weights.read_text() == "10"


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove", "no manifest"])
def test_a_damaged_step_is_passed_over_and_can_be_saved_again(run: RunFolder, damage: str) -> None:
    run.save_step(1, writer("one"))
    folder = run.save_step(2, writer("two"))
    match damage:
        case "truncate":
            folder.ema.write_text("tw")
        case "flip":
            folder.optimizer.write_text("twp")
        case "remove":
            folder.state.unlink()
        case "no manifest":
            (folder.path / "manifest.json").unlink()
    newest = run.newest_step()
    assert newest is not None
    assert newest.step == 1
    run.save_step(2, writer("again"))
    newest = run.newest_step()
    assert newest is not None
    assert newest.weights.read_text() == "again"


def test_a_save_that_finds_no_room_leaves_none_taken(run: RunFolder) -> None:
    run.save_step(1, writer("one"))

    def full(folder: StepFolder) -> None:
        folder.weights.write_text("half")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        run.save_step(2, full)
    assert [path.name for path in run.checkpoints.iterdir()] == ["step-00000001"]


def test_old_steps_are_dropped_and_new_ones_kept(run: RunFolder) -> None:
    for step in range(KEPT_STEPS + 3):
        run.save_step(step, writer(""))
    assert [folder.step for folder in run.steps()] == [3, 4, 5]


def _die_at_call(number: int) -> None:
    """From now on, call `number` of those that touch the disk ends the process as SIGKILL would."""
    count = 0

    def dying(function):
        def call(*args, **kwargs):
            nonlocal count
            count += 1
            if count == number:
                os._exit(137)
            return function(*args, **kwargs)

        return call

    os.fsync, os.replace, os.mkdir, builtins.open = (dying(f) for f in (os.fsync, os.replace, os.mkdir, builtins.open))
    Path.write_text = dying(Path.write_text)


def test_a_kill_at_any_moment_of_a_save_leaves_the_step_before_whole(run: RunFolder) -> None:
    run.save_step(1, writer("one"))
    moments = 0
    while True:
        moments += 1
        child = os.fork()
        if child == 0:
            _die_at_call(moments)
            run.save_step(2, writer("two"))
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        newest = run.newest_step()
        assert newest is not None
        assert newest.weights.read_text() == ("two" if newest.step == 2 else "one")
        if status == 0:
            break
        assert status == 137
    assert moments > 10
    assert newest.step == 2
    assert not list(run.checkpoints.glob(".*"))  # what the killed saves left behind is gone


def test_a_log_is_rewound_to_the_step_resumed_from(run: RunFolder) -> None:
    for step in range(1, 6):
        run.append_log({"step": step})
    with run.log.open("a") as file:
        file.write('{"step": 6, "lo')  # cut off by a crash
    run.rewind_log(3)
    assert [entry["step"] for entry in run.read_log()] == [1, 2, 3]


def test_a_folder_of_something_else_is_not_made_a_run(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(RunError, match="holds no run; name another folder"):
        RunFolder(tmp_path).create()
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_setting_a_run_aside_deletes_nothing(run: RunFolder) -> None:
    run.save_step(1, writer("one"))
    run.plan.write_text("{}")
    first = run.set_aside()
    run.create()
    run.plan.write_text("{}")
    second = run.set_aside()
    assert first != second
    newest = RunFolder(first).newest_step()
    assert newest is not None
    assert newest.weights.read_text() == "one"


def test_a_step_without_one_of_its_averages_is_damaged(run: RunFolder) -> None:
    def write(folder: StepFolder) -> None:
        writer("content")(folder)
        folder.more_ema(0.9999).write_text("average")

    saved = run.save_step(1, write)
    assert saved.is_whole()
    (saved.path / "ema-0.9999.safetensors").unlink()
    assert not saved.is_whole()


def test_a_name_that_is_not_utf8_is_told_by_its_bytes(run: RunFolder) -> None:
    folder = os.fsdecode(b"caf\xe9")
    run.write_text(run.plan, json.dumps({"clips": folder, "about": "café"}, ensure_ascii=False))
    assert json.loads(run.plan.read_text()) == {"clips": folder, "about": "café"}


def test_a_run_is_trained_by_one_at_a_time(run: RunFolder) -> None:
    lock = run.path.with_name(f".{run.path.name}.lock")
    with run.locked():
        assert lock.is_file()
        with pytest.raises(RunError, match="another process is training"), RunFolder(run.path).locked():
            pass
        assert lock.is_file()  # the one who was turned away took nothing with him
    assert not lock.exists()
    with run.locked():
        run.set_aside()  # as --fresh does, and the name stays taken
        with pytest.raises(RunError, match="another process"), run.locked():
            pass


def test_a_lock_that_a_kill_left_is_in_nobodys_way(run: RunFolder) -> None:
    run.path.with_name(f".{run.path.name}.lock").touch()
    with run.locked():
        pass


def test_a_refused_start_leaves_no_folder_behind(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="refused"), RunFolder(tmp_path / "my" / "runs" / "cats").locked():
        raise RunError("refused")
    assert not any(tmp_path.iterdir())
