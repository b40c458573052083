"""Many visitors at once on a real page: every clip asked for arrives, and the server stays as it was.

    python benchmarks/page_load.py                  32 visitors for two minutes, on the model in the box
    python benchmarks/page_load.py --vanish 0.25    a quarter of the requests is abandoned midway

Starts `t2v app` as a process of its own. Every visitor asks for one clip after another, with prompts and seeds of its
own. Prints what came of the requests, the waiting times and the server's memory, and exits with 1 where a request
ended otherwise than with its clip or a refusal in words, or the server grew.
"""

import argparse
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from gradio_client import Client
from gradio_client.exceptions import AppError
from gradio_client.utils import QueueError

from t2v.data.made_by import read_made_by
from t2v.data.reading import read_clip

START_S = 120
PATIENCE_S = 300  # an answer that takes longer counts as none
WARM_UP = 0.3  # of the time; before it the server's memory may grow
# Of the memory after the warm-up. Gradio keeps 0.2 MB for each visitor, of the last 500 that it saw.
MAX_GROWTH = 0.1
SHOWN_MISTAKES = 5


@dataclass(frozen=True)
class Wish:
    """What a visitor asks for."""

    prompt: str
    seed: int
    num_steps: int
    num_frames: int

    def __str__(self) -> str:
        return f"{self.prompt!r}, seed {self.seed}"


@dataclass(frozen=True)
class Outcome:
    """How a request ended. kind: clip, refused, left (by the visitor) or wrong; seconds: from asking to the answer."""

    kind: str
    seconds: float
    words: str = ""


@dataclass(frozen=True)
class Visitors:
    """A crowd at one address.

    vanish: the share of requests that their visitor leaves midway; half by cancelling, half as a closed browser does
    folder: for what the visitors download
    """

    address: str
    prompts: Sequence[str]
    folder: Path
    vanish: float = 0.0
    num_steps: int = 4
    num_frames: int = 4

    def crowd(self, num_visitors: int, seconds: float) -> list[Outcome]:
        """What came of all requests of so many visitors in so much time."""
        ends = time.monotonic() + seconds
        with ThreadPoolExecutor(num_visitors) as threads:
            return [
                outcome
                for outcomes in threads.map(lambda number: list(self._visit(number, ends)), range(num_visitors))
                for outcome in outcomes
            ]

    def _visit(self, number: int, ends: float) -> Iterator[Outcome]:
        dice = random.Random(number)
        usual = 1.0  # seconds that an answer takes
        with self._client(number) as client:
            while time.monotonic() < ends:
                wish = self._wish(number, dice)
                if dice.random() < self.vanish:
                    leave = self._cancel if dice.random() < 0.5 else self._close_the_tab
                    outcome = leave(client, wish, dice.uniform(0, 1.2 * usual))
                else:
                    outcome = self._ask(client, wish)
                if outcome.kind == "clip":
                    usual = outcome.seconds
                elif outcome.kind == "refused":
                    time.sleep(dice.uniform(0.2, 1.0))
                yield outcome

    @contextmanager
    def _client(self, number: int) -> Iterator[Client]:
        client = Client(
            self.address, verbose=False, analytics_enabled=False, download_files=self.folder / f"visitor-{number}"
        )
        try:
            yield client
        finally:
            client.close()

    def _wish(self, number: int, dice: random.Random) -> Wish:
        prompt = f"{dice.choice(self.prompts)}, {self.prompts[number % len(self.prompts)]}"
        return Wish(prompt, dice.randrange(2**31), self.num_steps, self.num_frames)

    def _ask(self, client: Client, wish: Wish, *, leave_after: float | None = None) -> Outcome:
        started, cancelled = time.monotonic(), False
        job = client.submit(**vars(wish), api_name="/generate")
        try:
            try:
                files, _ = job.result(timeout=PATIENCE_S if leave_after is None else leave_after)
            except TimeoutError:
                if leave_after is None:
                    return Outcome("wrong", PATIENCE_S, f"no answer to {wish}")
                job.cancel()
                cancelled = True
                files, _ = job.result(timeout=PATIENCE_S)
        except QueueError as refusal:
            return Outcome("refused", time.monotonic() - started, str(refusal))
        except CancelledError:
            kind = "left" if cancelled else "wrong"
            return Outcome(kind, time.monotonic() - started, f"cancelled: {wish}")
        except (AppError, httpx.HTTPError, OSError, ValueError, KeyError) as error:
            # After cancelling gradio_client may find no clip, or that the answer came in the same moment.
            if cancelled and (isinstance(error, KeyError) or "2 tasks to be done" in str(error)):
                return Outcome("left", time.monotonic() - started)
            return Outcome("wrong", time.monotonic() - started, f"{type(error).__name__}: {error}")
        seconds = time.monotonic() - started
        mistakes = mistakes_in([Path(file) for file in files], wish)
        return Outcome("wrong" if mistakes else "clip", seconds, "; ".join(mistakes))

    def _cancel(self, client: Client, wish: Wish, after_s: float) -> Outcome:
        return self._ask(client, wish, leave_after=after_s)

    def _close_the_tab(self, client: Client, wish: Wish, after_s: float) -> Outcome:
        """Ask by plain HTTP and let go of the connection, as a browser or a killed process does."""
        started = time.monotonic()
        try:
            kind, words = self._listen_for(wish, max(after_s, 0.05))
        except (httpx.HTTPError, KeyError, ValueError) as error:
            kind, words = "wrong", f"{type(error).__name__}: {error}"
        return Outcome(kind, time.monotonic() - started, words)

    def _listen_for(self, wish: Wish, seconds: float) -> tuple[str, str]:
        ends = time.monotonic() + seconds
        with httpx.Client(base_url=self.address, timeout=PATIENCE_S) as browser:
            answer = browser.post("gradio_api/call/v2/generate", json=vars(wish))
            if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
                return "refused", answer.json()["detail"]
            stream = browser.stream("GET", f"gradio_api/call/generate/{answer.json()['event_id']}", timeout=seconds)
            with suppress(httpx.ReadTimeout), stream as lines:
                for line in lines.iter_lines():
                    if line == "event: error":
                        return "wrong", f"an error about {wish}"
                    if line == "event: complete" or time.monotonic() > ends:
                        break
        return "left", ""


def mistakes_in(files: Sequence[Path], wish: Wish) -> list[str]:
    """In what the files of an answer differ from the wish, in words. Removes them."""
    if len(files) != 1:
        return [f"{len(files)} clips for {wish}"]
    (file,) = files
    told, num_frames = read_made_by(file), len(read_clip(file).frames)
    shutil.rmtree(file.parent)
    mistakes = [f"{name} {told[name]!r} for {wish}" for name, value in vars(wish).items() if told[name] != value]
    if num_frames != wish.num_frames:
        mistakes.append(f"{num_frames} frames for {wish}")
    return mistakes


def known_prompts(address: str) -> list[str]:
    """What the page's first checkpoint gives as examples; anything at all for a model without captions."""
    client = Client(address, verbose=False, analytics_enabled=False, download_files=False)
    first = client.predict(api_name="/checkpoints")[0]
    client.close()
    return first["example_prompts"] or ["anything"]


@dataclass
class Watch:
    """The server's memory (MB), threads and open files over time, and how many files it has written."""

    process: psutil.Process
    folder: Path
    samples: list[tuple[float, float, int, int]] = field(default_factory=list)

    def look(self) -> None:
        with self.process.oneshot():
            memory = self.process.memory_info().rss / 1e6
            self.samples.append((time.monotonic(), memory, self.process.num_threads(), self.process.num_fds()))

    @contextmanager
    def looking(self, every_s: float = 1.0) -> Iterator[None]:
        done = threading.Event()

        def look_on() -> None:
            while not done.wait(every_s):
                self.look()

        thread = threading.Thread(target=look_on)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    @property
    def settled(self) -> np.ndarray:
        """n 4, the samples after the warm-up."""
        return np.array(self.samples[int(WARM_UP * len(self.samples)) :])

    def growth(self) -> tuple[float, float, float]:
        """MB after the warm-up, MB at the end, each over a tenth of the time, and the slope in MB a minute."""
        seconds, memory = self.settled[:, 0], self.settled[:, 1]
        tenth = max(1, len(memory) // 10)
        slope = np.polyfit(seconds - seconds[0], memory, 1)[0] * 60
        return float(np.median(memory[:tenth])), float(np.median(memory[-tenth:])), float(slope)

    def num_files(self) -> int:
        return sum(len(files) for _, _, files in os.walk(self.folder))  # which minds no folder that goes meanwhile


@contextmanager
def app_process(
    folder: Path, *options: str, t2v: Sequence[str] = (str(Path(sys.executable).with_name("t2v")),)
) -> Iterator[tuple[str, psutil.Process]]:
    """`t2v app` as a process of its own, which keeps its files in `folder`; gives its address.

    t2v: the command
    """
    with socket.socket() as finder:
        finder.bind(("127.0.0.1", 0))
        port = finder.getsockname()[1]
    command = [*t2v, "app", "--port", str(port), *options]
    with open(folder / "server.log", "w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=os.environ | {"TMPDIR": str(folder)})
        address = f"http://127.0.0.1:{port}/"
        try:
            _wait_for(lambda: _answers(address) or server.poll() is not None)
            if server.poll() is not None:
                sys.exit(f"the server did not start:\n{(folder / 'server.log').read_text()}")
            yield address, psutil.Process(server.pid)
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(60)


def _answers(address: str) -> bool:
    with suppress(httpx.HTTPError):
        return httpx.get(f"{address}config").is_success
    return False


def _wait_for(condition: Callable[[], Any]) -> None:
    ends = time.monotonic() + START_S
    while not condition():
        if time.monotonic() > ends:
            sys.exit(f"the server did not answer within {START_S} s")
        time.sleep(0.2)


def main() -> None:
    """Start the server, send the visitors, print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visitors", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--vanish", type=float, default=0.0, help="share of requests that are left midway")
    parser.add_argument("--checkpoint", type=Path, help="default: the model in the box")
    parser.add_argument("--num-steps", type=int, default=4)
    parser.add_argument("--num-frames", type=int, default=4)
    options = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="t2v-load-") as name:
        tempfile.tempdir = name  # where gradio_client leaves an empty folder for each download
        folder = Path(name)
        server_folder = folder / "server"
        server_folder.mkdir()
        chosen = ("--checkpoint", str(options.checkpoint.absolute())) if options.checkpoint else ()
        with app_process(server_folder, *chosen) as (address, process):
            visitors = Visitors(
                address,
                known_prompts(address),
                folder / "visitors",
                options.vanish,
                options.num_steps,
                options.num_frames,
            )
            watch = Watch(process, server_folder)
            started = time.monotonic()
            with watch.looking():
                outcomes = visitors.crowd(options.visitors, options.seconds)
            seconds = time.monotonic() - started
            num_files = watch.num_files()
        complaints = (server_folder / "server.log").read_text().splitlines()[2:]
        left_behind = [path.name for path in server_folder.glob("t2v-page-*")]
    report(outcomes, seconds, watch, num_files)
    mistakes = [outcome.words for outcome in outcomes if outcome.kind == "wrong"]
    mistakes += [f"{path} was left behind" for path in left_behind]
    mistakes += [f"the server said: {line}" for line in complaints]
    before, after, _ = watch.growth()
    if after > before * (1 + MAX_GROWTH):
        mistakes.append(f"the server's memory grew from {before:.0f} to {after:.0f} MB")
    if not any(outcome.kind == "clip" for outcome in outcomes):
        mistakes.append("nobody got a clip")
    for mistake in mistakes[:SHOWN_MISTAKES]:
        print("WRONG:", mistake)
    sys.exit(1 if mistakes else 0)


def report(outcomes: Sequence[Outcome], seconds: float, watch: Watch, num_files: int) -> None:
    """Print the table."""
    kinds = Counter(outcome.kind for outcome in outcomes)
    refusals = Counter(outcome.words for outcome in outcomes if outcome.kind == "refused")
    waits = [outcome.seconds for outcome in outcomes if outcome.kind == "clip"] or [np.nan]
    before, after, slope = watch.growth()
    first, last = watch.settled[0], watch.settled[-1]
    print(f"requests {len(outcomes)}: {kinds['clip']} clips, {kinds['refused']} refused, {kinds['left']} left midway,")
    print(f"    {kinds['wrong']} wrong; refusals: {', '.join(map(repr, refusals)) or 'none'}")
    print(f"clips a second {kinds['clip'] / seconds:.2f}, waiting median {np.median(waits):.1f} s,")
    print(f"    95% within {np.percentile(waits, 95):.1f} s, longest {max(waits):.1f} s")
    print(f"memory {before:.1f} MB after the warm-up, {after:.1f} MB at the end, {slope:+.1f} MB a minute")
    print(f"threads {first[2]:.0f} then {last[2]:.0f}, open files {first[3]:.0f} then {last[3]:.0f}")
    print(f"files in the server's folder at the end {num_files}")


if __name__ == "__main__":
    main()
