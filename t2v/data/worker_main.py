"""A process that does nothing but decode: `python -m t2v.data.worker_main MAX_BYTES MAX_SECONDS MAX_WAIT`.

It reads a line of JSON and the bytes that the line announces, and answers in kind, until its input ends. Files from
strangers are unpacked here and nowhere else, so that what a decoder does to its process is done to this one. `workers`
is the other end.
"""

import faulthandler
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np

from t2v.cache import Facts
from t2v.data.limits import Limits
from t2v.data.pixels import Pixels
from t2v.data.reading import look_at_clip, scan_clip
from t2v.errors import ClipError

OUT_OF_MEMORY = 97  # exit status
NICENESS = 10

Seen = tuple[Facts, np.ndarray | None]


def _pixels(contents: Sequence[bytes], settings: Mapping[str, Any]) -> Seen:
    return Pixels.from_json(settings).decode(contents)


def _scan(contents: Sequence[bytes], settings: Mapping[str, Any]) -> Seen:
    return scan_clip(contents, **_bounds(settings)), None


def _look(contents: Sequence[bytes], settings: Mapping[str, Any]) -> Seen:
    return look_at_clip(contents, **_bounds(settings)), None


def _bounds(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {**settings, "limits": Limits(**settings["limits"])}


# What may be asked for: facts and uint8 frames `n h w c`, facts after all was unpacked, facts by the blocks alone.
TASKS: dict[str, Callable[[Sequence[bytes], Mapping[str, Any]], Seen]] = {
    "pixels": _pixels,
    "scan": _scan,
    "look": _look,
}


def main(arguments: Sequence[str]) -> int:
    """Serve with the limits that the command line names; returns the exit status."""
    max_bytes, max_seconds, max_wait = arguments
    try:
        serve(int(max_bytes), max_seconds=float(max_seconds), max_wait=float(max_wait))
    except MemoryError:
        return OUT_OF_MEMORY
    except BrokenPipeError:
        pass  # nobody waits for the answer any more
    return 0


def serve(max_bytes: int, *, max_seconds: float, max_wait: float) -> None:
    """Answer until the input ends.

    max_bytes: memory that this process may take, where the system can hold it to that
    max_seconds: of a core's work for one task, where the system counts that
    max_wait: seconds on the clock for one task; the other end does not wait as long, unless it is gone
    """
    requests, answers = _take_over_pipes()
    _be_modest(max_bytes)
    _write(answers, {"ready": True})
    while line := requests.readline():
        asked = json.loads(line)
        contents = [requests.read(size) for size in asked["sizes"]]
        _set_alarm(max_seconds)
        # The one watch that needs neither a turn of the interpreter, which a hanging decoder may never give, nor POSIX.
        faulthandler.dump_traceback_later(max_wait, exit=True, file=sys.stderr)
        facts, frames = answer(asked["task"], contents, asked["settings"])
        faulthandler.cancel_dump_traceback_later()
        _set_alarm(0)
        shape = None if frames is None else frames.shape
        _write(answers, {"facts": facts, "shape": shape}, b"" if frames is None else np.ascontiguousarray(frames).data)


def answer(task: str, contents: Sequence[bytes], settings: Mapping[str, Any]) -> Seen:
    """The facts of a clip and its frames, if they were asked for; or the reason alone why it cannot be used."""
    try:
        return TASKS[task](contents, settings)
    except ClipError as error:
        return {"reason": str(error)}, None
    except MemoryError:
        raise  # nothing of this process is to be relied on any more
    except Exception as error:  # a decoder's own surprise at a broken file: no clip is worth a training run
        return {"reason": f"cannot be decoded: {type(error).__name__}: {error}"}, None


def _take_over_pipes() -> tuple[BinaryIO, BinaryIO]:
    """The pipes of standard input and output, which from then on lead nowhere: libraries write to them what they
    like."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    return requests, answers


def _be_modest(max_bytes: int) -> None:
    """Leave the machine usable, and take no more memory than allowed; as far as the system knows such things."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for those who started this
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    if sys.platform != "win32":
        import resource

        # Linux counts as data all that a process may write to. Elsewhere only the whole address space has a limit.
        what = resource.RLIMIT_DATA if sys.platform == "linux" else resource.RLIMIT_AS
        for limit, most in ((what, max_bytes), (resource.RLIMIT_CORE, 0)):
            _, hard = resource.getrlimit(limit)
            most = most if hard == resource.RLIM_INFINITY else min(most, hard)
            try:
                resource.setrlimit(limit, (most, hard))
            except (ValueError, OSError):
                continue  # a system that has the name and not the limit


def _set_alarm(seconds: float) -> None:
    """End this process by SIGPROF once it has worked so long; 0 calls that off."""
    # By work, not by the clock: how busy the machine is with other things must not decide what is a clip.
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)


def _write(answers: BinaryIO, header: Mapping[str, Any], content: bytes | memoryview = b"") -> None:
    answers.write(json.dumps(header).encode() + b"\n")
    answers.write(content)
    answers.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
