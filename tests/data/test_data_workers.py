"""Whatever a decoder does to its process costs one file and one line, and nothing outlives who started it."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial

import numpy as np
import psutil
import pytest

from t2v.data import folder, workers
from t2v.data.folder import load_clips, scan_folder
from t2v.data.gif import encode
from t2v.data.limits import USUAL
from t2v.data.pixels import Pixels
from t2v.data.workers import Workers, in_order, pixels_task, scan_task
from t2v.errors import ClipError, T2VError

pytestmark = pytest.mark.usefixtures("decoder_processes")
PATIENCE_S = 120
PIXELS = Pixels(
    num_frames=2, size=8, channels=3, background="white", fit="crop", limits=replace(USUAL, max_decode_s=0.5)
)
SCAN = scan_task(PIXELS)

# A decoder that does what the content says, as a broken library would do it.
BEWITCHED = (
    sys.executable,
    "-c",
    """
import os, sys, time
from t2v.data import worker_main

def hang():
    open(os.environ.get("T2V_TEST_HANGS", os.devnull), "w").close()
    time.sleep(1000)

DEEDS = {
    b"crash": os.abort,
    b"leave": lambda: os._exit(3),
    b"hang": lambda: hang(),
    b"toil": lambda: sum(iter(int, 1)),
    b"hog": lambda: bytearray(1 << 30),
    b"surprise": lambda: {}["no such thing"],
    b"chatter": lambda: os.write(1, b"a library says hello"),
}

def bewitched(task):
    def decode(contents, settings):
        DEEDS.get(contents[0], lambda: None)()
        return task(contents, settings)
    return decode

worker_main.TASKS.update({name: bewitched(task) for name, task in worker_main.TASKS.items()})
sys.exit(worker_main.main(sys.argv[1:]))
""",
)
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux holds a process to a limit of its memory")
REASONS = {
    "crash": "made the decoder crash (signal 6)",
    "leave": "made the decoder crash (exit status 3)",
    "hang": "made the decoder hang for more than 1 s",
    "toil": "takes more than 0.5 s to decode",
    "surprise": "cannot be decoded: KeyError: 'no such thing'",
    "chatter": "is not a GIF, WebP, PNG, JPEG, MP4, MOV, WebM, MKV or AVI",
}


def gif(shade: int = 0) -> bytes:
    return encode(np.full((2, 8, 8, 3), shade, dtype=np.uint8), frame_ms=100, comment=None)


@pytest.fixture
def bewitched(monkeypatch):
    """Folders are read by the decoder that does what the content says."""
    monkeypatch.setattr(folder, "Workers", partial(Workers, command=BEWITCHED))


def test_a_clip_comes_back_as_it_was_sent():
    with Workers() as decoders:
        facts, frames = decoders.decode(pixels_task(PIXELS), (gif(70),))
    assert facts == {"num_frames": 2, "duration_ms": 200.0, "width": 8, "height": 8, "format": "gif"}
    assert np.array_equal(frames, np.full((2, 8, 8, 3), 70))


@pytest.mark.parametrize("deed", REASONS)
def test_what_a_decoder_does_costs_one_line_and_the_next_file_is_read(tmp_path, bewitched, deed, monkeypatch):
    monkeypatch.setattr(workers, "PATIENCE", 2.0 if deed == "hang" else 1000.0)
    for number in range(4):
        (tmp_path / f"{number}.gif").write_bytes(gif(number))
        (tmp_path / f"{number}.txt").write_text(f"shade {number}")
    (tmp_path / "1b.gif").write_bytes(deed.encode())
    loaded = load_clips(tmp_path, PIXELS, num_workers=2)
    assert [(item.key, item.reason) for item in loaded.left_out] == [("1b.gif", REASONS[deed])]
    assert [record.captions for record in loaded.records] == [
        (f"shade {frames[0, 0, 0, 0]}",) for frames in loaded.frames
    ]
    assert len(loaded.records) == 4


@ON_LINUX
def test_a_decoder_that_wants_too_much_memory_is_ended():
    with Workers(command=BEWITCHED, max_bytes=1 << 29) as decoders:
        with pytest.raises(ClipError, match="takes more than 512 MB of memory to decode"):
            decoders.decode(SCAN, (b"hog",))
        assert decoders.decode(SCAN, (gif(),))[0]["num_frames"] == 2


@pytest.mark.parametrize(
    "answer",
    [b"\xff\n", b"[]\n", b"{}\n", b'{"facts": {}, "shape": [-1]}\n', b'{"facts": {}, "shape": [2]}\nx', b"no end", b""],
)
def test_nonsense_on_the_pipe_is_no_clip(answer, monkeypatch):
    script = f"""
import sys
print('{{"ready": true}}', flush=True)
sys.stdin.buffer.readline()
sys.stdout.buffer.write({answer!r})
"""
    with Workers(command=(sys.executable, "-c", script)) as decoders, pytest.raises(ClipError) as caught:
        decoders.decode(SCAN, (gif(),))
    assert str(caught.value) == "made the decoder answer nonsense"


def test_a_decoder_that_answers_nonsense_and_lives_on_is_ended(monkeypatch):
    monkeypatch.setattr(workers, "LAST_SECONDS", 0.1)
    script = "print('{\"ready\": true}', flush=True); print(input()[:9], flush=True); input(); input()"
    with Workers(command=(sys.executable, "-c", script)) as decoders, pytest.raises(ClipError) as caught:
        decoders.decode(SCAN, (b"a line",))
    assert str(caught.value) == "made the decoder answer nonsense"


def test_accidents_are_not_kept_and_damage_is(tmp_path, bewitched, monkeypatch):
    monkeypatch.setattr(workers, "PATIENCE", 2.0)
    (tmp_path / "good.gif").write_bytes(gif())
    (tmp_path / "hang.gif").write_bytes(b"hang")
    (tmp_path / "text.gif").write_bytes(b"no clip")
    load_clips(tmp_path, PIXELS, cache=tmp_path / "cache")
    asked = []
    decode = Workers.decode
    monkeypatch.setattr(Workers, "decode", lambda *given: asked.append(given[-1]) or decode(*given))
    again = load_clips(tmp_path, PIXELS, cache=tmp_path / "cache")
    assert asked == [(b"hang",)]
    assert [item.reason for item in again.left_out] == [
        REASONS["hang"],
        "is not a GIF, WebP, PNG, JPEG, MP4, MOV, WebM, MKV or AVI",
    ]


def test_nothing_is_started_where_nothing_has_to_be_decoded(tmp_path, monkeypatch):
    (tmp_path / "a.gif").write_bytes(gif())
    load_clips(tmp_path, PIXELS, cache=tmp_path / "cache")
    monkeypatch.setattr(subprocess, "Popen", None)
    assert len(load_clips(tmp_path, PIXELS, cache=tmp_path / "cache").records) == 1


def test_a_decoder_that_cannot_start_is_the_fault_of_no_file(tmp_path):
    decoders = Workers(command=(sys.executable, "-c", "raise SystemExit(1)"))
    with pytest.raises(T2VError, match="does not start; this shows why: ") as caught:
        decoders.decode(SCAN, (gif(),))
    assert not isinstance(caught.value, ClipError)


def test_no_library_is_taken_from_where_a_person_happens_to_be(tmp_path, monkeypatch):
    (tmp_path / "numpy.py").write_text("raise SystemExit('the wrong one')")
    (tmp_path / "a.gif").write_bytes(gif())
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    assert len(scan_folder(tmp_path).clips) == 1


def test_the_end_of_an_idle_decoder_is_the_fault_of_no_file():
    with Workers() as decoders:
        before = psutil.Process().children()
        decoders.decode(SCAN, (gif(),))
        (child,) = set(psutil.Process().children()) - set(before)
        child.kill()
        while child.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        assert decoders.decode(SCAN, (gif(),))[0]["num_frames"] == 2


def test_results_come_in_order_and_few_are_made_before_they_are_wanted():
    begun, taken = [], []

    def work(number: int) -> int:
        begun.append(number)
        time.sleep(0.01 * (number % 3))
        return -number

    numbers = (taken.append(number) or number for number in range(100))
    results = in_order(work, numbers, num_threads=3, ahead=5, known=lambda number: 0 if number == 7 else None)
    first = [next(results) for _ in range(20)]
    assert first == [0 if number == 7 else -number for number in range(20)]
    results.close()
    assert len(taken) == 25 and 7 not in begun


PARENT = f"""
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs tests in the background has it ignored
from pathlib import Path
from t2v.data import folder
from t2v.data.workers import Workers
from dataclasses import replace
from functools import partial
folder.Workers = partial(Workers, command={BEWITCHED!r})
limits = replace(folder.USUAL.limits, max_decode_s=float(sys.argv[2]))
folder.scan_folder(Path(sys.argv[1]), replace(folder.USUAL, limits=limits))
"""


@pytest.mark.parametrize(("number", "max_seconds"), [(signal.SIGINT, 600), (signal.SIGKILL, 0.4)])
def test_not_even_a_hanging_decoder_outlives_who_started_it(tmp_path, number, max_seconds):
    for key in range(100):
        (tmp_path / f"{key}.gif").write_bytes(b"hang")
    command = [sys.executable, "-c", PARENT, str(tmp_path), str(max_seconds)]
    hangs = tmp_path / "hangs"
    environment = {**os.environ, "T2V_TEST_HANGS": str(hangs)}
    parent = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment)
    while not hangs.exists() and parent.poll() is None:
        time.sleep(0.05)
    children = psutil.Process(parent.pid).children()
    parent.send_signal(number)
    parent.wait(PATIENCE_S)
    _, alive = psutil.wait_procs(children, timeout=PATIENCE_S)
    assert children
    assert all(process.status() == psutil.STATUS_ZOMBIE for process in alive)
