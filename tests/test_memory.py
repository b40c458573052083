"""Memory that is freed and needed again."""

import ctypes
import subprocess
import sys

import pytest

from t2v import memory

# Pages that the system had to bring for a tensor of 100 MB, after one like it was freed.
COUNT = """
import resource, torch
from t2v.memory import keep_freed_memory
told = keep_freed_memory()
torch.ones(25_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(25_000_000)
print(told, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PAGES = 100_000_000 // 4096


def counted(**environment):
    told, pages = subprocess.run(
        [sys.executable, "-c", COUNT], env=environment, capture_output=True, text=True, check=True
    ).stdout.split()
    return told == "True", int(pages)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="only glibc can be told")
def test_a_large_tensor_takes_the_memory_of_the_last_one():
    kept, pages = counted()
    assert kept and pages < PAGES / 50


def test_what_the_environment_says_of_memory_stands():
    kept, pages = counted(MALLOC_MMAP_THRESHOLD_="1000000")
    assert not kept and pages > PAGES / 50


@pytest.mark.parametrize("missing", [TypeError, OSError, AttributeError])
def test_other_c_libraries_are_left_alone(missing, monkeypatch):
    def load(name):
        raise missing

    monkeypatch.setattr(ctypes, "CDLL", load)
    assert not memory.keep_freed_memory()
