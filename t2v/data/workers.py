"""Processes that decode, so that a decoder's crash, hang or hunger costs one file and never the training.

They are commands of our own that talk over pipes: multiprocessing would run the caller's main module once more or copy
a process in the midst of torch's threads, and would unpickle what comes back from a decoder of strangers' files.
"""

import json
import math
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np

from t2v.data.limits import USUAL
from t2v.data.pixels import Pixels
from t2v.data.worker_main import OUT_OF_MEMORY, Seen
from t2v.errors import ClipError, T2VError

# -P: what lies in the folder where a person happens to be must not pass for a library.
COMMAND = (sys.executable, "-P", "-m", "t2v.data.worker_main")
MAX_BYTES = 2 << 30
MAX_ANSWER_BYTES = 1 << 30
PATIENCE = 5.0  # times max_seconds, on the clock: a decoder may wait for its turn, or for nothing
START_SECONDS = 60.0
LAST_SECONDS = 2.0
AHEAD = 4  # results a thread may be ahead of who takes them
HEAR_S = 0.5  # the longest that a Ctrl-C goes unheard

_In = TypeVar("_In")
_Out = TypeVar("_Out")


@dataclass(frozen=True)
class Task:
    """One of `worker_main.TASKS`, with its settings as JSON can hold them."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)


def pixels_task(pixels: Pixels) -> Task:
    """Facts and the frames that training sees."""
    return Task("pixels", pixels.as_json())


def scan_task(pixels: Pixels) -> Task:
    """Facts of a clip all of whose frames were unpacked."""
    return Task("scan", _bounds(pixels))


def look_task(pixels: Pixels) -> Task:
    """Facts by the structure of the files alone."""
    return Task("look", _bounds(pixels))


def _bounds(pixels: Pixels) -> dict[str, Any]:
    return {"limits": asdict(pixels.limits), "sequence_fps": pixels.sequence_fps}


class Workers:
    """Processes that decode; to be used in a `with`. Each is started when there is first something for it to do.

    max_seconds: of a core's work that one file may take; on the clock it may take several times as long
    max_bytes: of memory that a process may take, where the system can hold it to that, as Linux can
    command: what is started, with its limits behind it
    A process that passes a limit is ended, and the next file gets another.
    """

    def __init__(
        self, *, max_seconds: float = USUAL.max_decode_s, max_bytes: int = MAX_BYTES, command: Sequence[str] = COMMAND
    ) -> None:
        self._max_seconds, self._max_bytes, self._command = max_seconds, max_bytes, command
        self._lock = threading.Lock()
        self._idle: list[_Process] = []
        self._all: set[_Process] = set()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all processes, those at work too: whoever waits for one gets a ClipError."""
        with self._lock:
            self._closed = True
            ended = list(self._all)
        for process in ended:
            process.end()

    def decode(self, task: Task, contents: Sequence[bytes]) -> Seen:
        """Facts of one clip, with a `reason` among them where it is damaged, and frames if the task has any.

        May be called by several threads, each of which keeps one process busy. Raises ClipError, worded to follow the
        file's name, where the process did not live to answer: then nothing is known of the file for certain.
        """
        process = self._take()
        try:
            seen = process.ask(task, contents)
        except BaseException:
            with self._lock:
                self._all.discard(process)
            process.end()
            raise
        with self._lock:
            self._idle.append(process)
        return seen

    def _take(self) -> "_Process":
        with self._lock:
            if self._closed:
                raise ClipError("was not decoded: the work was stopped")
            while self._idle:
                # One that a system short of memory has ended meanwhile is not the next file's fault.
                if (process := self._idle.pop()).is_alive:
                    return process
                self._all.discard(process)
                process.end()
        process = _Process(self._command, max_seconds=self._max_seconds, max_bytes=self._max_bytes)
        with self._lock:
            self._all.add(process)
            closed = self._closed
        if closed:
            process.end()
        return process


class _Process:
    """One process and its pipes, used by one thread at a time."""

    def __init__(self, command: Sequence[str], *, max_seconds: float, max_bytes: int) -> None:
        self._max_bytes, self._max_seconds = max_bytes, max_seconds
        # Its own limit of waiting is for the case that this process is gone.
        words = [*command, str(max_bytes), str(max_seconds), str(2 * PATIENCE * max_seconds)]
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,  # a Ctrl-C in the terminal is this process's to act on
            creationflags=getattr(subprocess, "BELOW_NORMAL_PRIORITY_CLASS", 0),
        )
        assert self._process.stdin and self._process.stdout
        self._requests, self._answers = self._process.stdin, self._process.stdout
        with _Deadline(START_SECONDS, self._process.kill):
            is_ready = self._line() == {"ready": True}
        if not is_ready:
            self.end()
            raise T2VError(f"the process that decodes clips does not start; this shows why: {shlex.join(words)}")

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, task: Task, contents: Sequence[bytes]) -> Seen:
        """See `Workers.decode`. After a ClipError the process is of no use."""
        header = {"task": task.name, "settings": task.settings, "sizes": [len(content) for content in contents]}
        with _Deadline(PATIENCE * self._max_seconds, self._process.kill) as deadline:
            seen = self._exchange(json.dumps(header).encode() + b"\n", contents)
        if deadline.passed:
            raise ClipError(f"made the decoder hang for more than {PATIENCE * self._max_seconds:g} s")
        if seen is None:
            raise ClipError(self._how_it_ended())
        return seen

    def end(self) -> None:
        """End the process if it has not ended; may be called by any thread."""
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):  # the system may hold it in a call of its own
            self._process.wait(LAST_SECONDS)
        with suppress(OSError):  # what was still to be written
            self._requests.close()
        self._answers.close()

    def _exchange(self, header: bytes, contents: Sequence[bytes]) -> Seen | None:
        """The answer, or None where there is none or it makes no sense."""
        try:
            self._requests.write(header)
            for content in contents:
                self._requests.write(content)
            self._requests.flush()
            answer = self._line()
            if answer is None or not isinstance(answer.get("facts"), dict):
                return None
            return answer["facts"], self._frames(answer.get("shape"))
        except (OSError, ValueError):  # the process is gone, or no frames
            return None

    def _line(self) -> dict[str, Any] | None:
        try:
            told = json.loads(self._answers.readline(1 << 20))
        except (ValueError, RecursionError):
            return None
        return told if isinstance(told, dict) else None

    def _frames(self, shape: Any) -> np.ndarray | None:
        if shape is None:
            return None
        if not (isinstance(shape, list) and all(isinstance(side, int) and side > 0 for side in shape)):
            raise ValueError("no shape")
        size = math.prod(shape)
        content = self._answers.read(size) if size <= MAX_ANSWER_BYTES else b""
        return np.frombuffer(content, dtype=np.uint8).reshape(shape)

    def _how_it_ended(self) -> str:
        status = 0
        with suppress(subprocess.TimeoutExpired):
            status = self._process.wait(LAST_SECONDS)
        if status == 0:
            return "made the decoder answer nonsense"
        if status == OUT_OF_MEMORY:
            return f"takes more than {self._max_bytes >> 20:,} MB of memory to decode"
        if status == -getattr(signal, "SIGPROF", 0):
            return f"takes more than {self._max_seconds:g} s to decode"
        return f"made the decoder crash ({f'signal {-status}' if status < 0 else f'exit status {status}'})"


class _Deadline:
    """In a `with`: calls `act` from another thread once the time is over. `passed`: whether it did."""

    def __init__(self, seconds: float, act: Callable[[], None]) -> None:
        self.passed = False
        self._act = act
        self._timer = threading.Timer(seconds, self._pass)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        self._timer.join()

    def _pass(self) -> None:
        self.passed = True
        self._act()


def in_order(
    work: Callable[[_In], _Out],
    items: Iterable[_In],
    *,
    num_threads: int,
    ahead: int | None = None,
    known: Callable[[_In], _Out | None] = lambda item: None,
) -> Generator[_Out]:
    """Results of `work` on several threads, in the order of the items.

    ahead: how many are begun before they are asked for, so that those of a large folder never fill the memory; by
    default a few for each thread
    known: gives the result at once where nothing has to be done, else None; called by the caller's thread
    """
    waiting: deque[_Out | Future[_Out]] = deque()
    ahead = AHEAD * num_threads if ahead is None else ahead
    pool = ThreadPoolExecutor(num_threads)
    try:
        for item in items:
            result = known(item)
            waiting.append(pool.submit(work, item) if result is None else result)
            if len(waiting) > ahead:
                yield _result(waiting.popleft())
        while waiting:
            yield _result(waiting.popleft())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _result(item: "_Out | Future[_Out]") -> _Out:
    if not isinstance(item, Future):
        return item
    # Not in one go: a Ctrl-C in the very moment in which a wait begins is heard when that wait is over.
    while not item.done():
        wait([item], timeout=HEAR_S)
    return item.result()


def usable_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
