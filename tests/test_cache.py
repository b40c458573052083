"""What was made once is found again, by whoever asks, and the disk may refuse or lose anything but the work itself."""

import errno
import mmap
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from t2v import cache
from t2v.cache import RowCache, cache_folder, trim

SHAPE = (2, 3)


def row(number: int) -> np.ndarray:
    """Two items of an odd number and one of an even."""
    num_items = 1 + number % 2
    return np.arange(number, number + 6 * num_items, dtype=np.float32).reshape(num_items, *SHAPE)


def is_mapped(array: np.ndarray) -> bool:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return isinstance(array.base, mmap.mmap)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def rows(tmp_path: Path, said: list[str]):
    """rows(kind) is the cache of this test, opened once more."""
    return lambda kind="a/b": RowCache(tmp_path, kind, shape=SHAPE, dtype=np.float32, say=said.append)


def fill(opened: RowCache, *numbers: int) -> None:
    with opened as added:
        for number in numbers:
            added.add(str(number), row(number), {"number": number})


def holds(opened: RowCache, *numbers: int) -> bool:
    """Whether exactly these rows are there and have their own numbers and facts."""
    with opened as found:
        there = [number for number in range(20) if found.facts(str(number)) == {"number": number}]
        assert all(np.array_equal(found.array(str(number)), row(number)) for number in there)
    return there == list(numbers)


def age(folder: Path, seconds: float) -> None:
    for index in folder.rglob("*.index"):
        os.utime(index, (os.stat(index).st_mtime - seconds,) * 2)


def test_rows_are_found_by_a_later_start(rows):
    fill(rows(), 1, 2)
    fill(rows(), 5)
    assert holds(rows(), 1, 2, 5)


def test_rows_of_another_kind_are_never_met(rows):
    fill(rows("a/b"), 1)
    assert holds(rows("a/c"))


def test_facts_need_no_row(rows):
    with rows() as added:
        added.add("bad", None, {"reason": "is empty"})
    with rows() as found:
        assert found.facts("bad") == {"reason": "is empty"}
        assert found.facts("other") is None


def test_arrays_are_mapped_and_cannot_be_written_to(rows):
    fill(rows(), 1)
    with rows() as found:
        array = found.array("1")
    assert is_mapped(array)
    with pytest.raises(ValueError, match="read-only"):
        array[...] = 0


def test_once_written_rows_leave_memory(rows):
    with rows() as added:
        added.add("1", row(1), {})
    assert is_mapped(added.array("1"))


def test_a_killed_start_leaves_what_it_had_finished(rows, monkeypatch):
    monkeypatch.setattr(cache, "SYNC_S", 0.0)
    killed = rows().__enter__()
    for number in (1, 2):
        killed.add(str(number), row(number), {"number": number})
    monkeypatch.setattr(cache, "SYNC_S", 1000.0)
    killed.add("3", row(3), {"number": 3})  # in no index yet
    assert holds(rows(), 1, 2)
    fill(rows(), 3)
    assert holds(rows(), 1, 2, 3)
    killed._writer.close()


def test_a_torn_index_costs_its_last_row_and_torn_rows_those_that_miss(rows, tmp_path):
    fill(rows(), 1, 2, 3)
    (index,), (content,) = tmp_path.rglob("*.index"), tmp_path.rglob("*.rows")
    index.write_bytes(index.read_bytes()[:-5])
    assert holds(rows(), 1, 2)
    content.write_bytes(content.read_bytes()[:-60])
    assert holds(rows(), 1)


def test_two_at_once_are_not_in_each_others_way(rows):
    with rows() as one, rows() as other:
        for number in (1, 2):
            one.add(str(number), row(number), {"number": number})
            other.add(str(number + 1), row(number + 1), {"number": number + 1})
    assert holds(rows(), 1, 2, 3)


def test_the_longest_unused_goes_first_and_what_is_in_use_stays_readable(rows, tmp_path):
    for number in (1, 2, 3):
        fill(rows(f"kind/{number}"), number)
        age(tmp_path, 100)
    assert holds(rows("kind/1"), 1)  # a use
    with rows("kind/2") as opened:
        size = sum(path.stat().st_size for path in (tmp_path / "kind/1").iterdir())
        trim(tmp_path, max_bytes=2 * size, keep=set())
        assert [number for number in (1, 2, 3) if holds(rows(f"kind/{number}"), number)] == [1, 3]
        assert np.array_equal(opened.array("2"), row(2))


def test_a_cache_over_its_bound_keeps_what_is_being_used(rows, monkeypatch):
    fill(rows("kind/old"), 1)
    monkeypatch.setattr(cache, "MAX_BYTES", 10)
    fill(rows("kind/new"), 2)
    assert holds(rows("kind/new"), 2)
    assert holds(rows("kind/old"))


@pytest.mark.parametrize("when", ["opened", "written", "synced"])
def test_a_full_disk_costs_one_line(rows, said, monkeypatch, when):
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    fill(rows(), 1)
    monkeypatch.setattr(cache, "SYNC_S", 0.0)
    if when == "opened":
        monkeypatch.setattr(Path, "mkdir", lambda *args, **options: full())
    elif when == "written":
        monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, 0))
    else:
        monkeypatch.setattr(os, "fsync", full)
    with rows() as kept:
        for number in (2, 3):
            kept.add(str(number), row(number), {"number": number})
    assert all(np.array_equal(kept.array(str(number)), row(number)) for number in (1, 2, 3))
    assert len(said) == 1
    assert "takes no more (No space left on device); going on in memory" in said[0]


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fill(opened := RowCache(None, "a/b", shape=SHAPE, dtype=np.float32, say=pytest.fail), 1)
    assert np.array_equal(opened.array("1"), row(1))
    assert not list(tmp_path.iterdir())


def test_the_cache_lies_where_the_environment_says(monkeypatch):
    monkeypatch.setenv("T2V_CACHE", "~/elsewhere")
    assert cache_folder() == Path.home() / "elsewhere"


@pytest.mark.parametrize(
    ("system", "variable", "folder"),
    [
        ("linux", None, "home/.cache/t2v"),
        ("linux", "XDG_CACHE_HOME", "elsewhere/t2v"),
        ("darwin", None, "home/Library/Caches/t2v"),
        ("win32", "LOCALAPPDATA", "elsewhere/t2v"),
    ],
)
def test_caches_lie_where_the_system_keeps_them(system, variable, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    for name in ("T2V_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    if variable is not None:
        monkeypatch.setenv(variable, str(tmp_path / "elsewhere"))
    assert cache_folder() == tmp_path / folder
