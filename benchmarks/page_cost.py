"""What the page costs over the bare service: seconds a clip by several roads, alternating in one run.

    OMP_NUM_THREADS=1 python benchmarks/page_cost.py
    OMP_NUM_THREADS=1 python benchmarks/page_cost.py --asleep 0.14

The bare service draws and writes the GIF in this process. So does the handler behind the page's button; the other roads
lead to `t2v app` in a process of its own. Every road has to end in the same file. Also prints the seconds of computing
by both processes, which tell more than the clock where others use the machine. Exits with 1 where a road takes over 5%
or 0.3 s longer than the bare service, save that of a gradio_client as it comes: it reads the machine's certificates
four times a call, which takes 0.2 s whatever it calls.

A machine whose clock is not steady to 0.3 s of a clip shows nothing so. With --asleep the network answers zeros after
so many seconds of sleep: what is left to differ is the page's own time.
"""

import argparse
import json
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import torch
from gradio_client import Client
from page_load import app_process
from torch import Tensor

from t2v.cli.main import main as run_t2v
from t2v.config import GenerationSettings
from t2v.model import Unet3D
from t2v.page.models import BOX, Models
from t2v.page.shelf import FILE_SIDE, Shelf
from t2v.page.studio import Studio
from t2v.service import GenerationService, save_clip

PROMPT = "fireworks at night"
BY_CLIENT = "/generate by gradio_client"
PATIENCE_S = 600
MOST_PART, MOST_S = 0.05, 0.3
SERVE_ASLEEP = "--serve-asleep"

Road = Callable[[GenerationSettings], bytes]  # to the content of the GIF


def main() -> None:
    """Drive every road with the same seeds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=9, help="by each road")
    parser.add_argument("--num-steps", type=int, default=GenerationSettings().num_steps)
    parser.add_argument("--asleep", type=float, metavar="S", help="seconds that a network asleep takes for an answer")
    options = parser.parse_args()
    t2v = {}
    if options.asleep:
        put_to_sleep(options.asleep)
        t2v = {"t2v": (sys.executable, __file__, SERVE_ASLEEP, str(options.asleep))}
    with tempfile.TemporaryDirectory(prefix="t2v-cost-") as name, ExitStack() as stack:
        tempfile.tempdir = name
        folder = Path(name)
        (folder / "server").mkdir()
        address, server = stack.enter_context(app_process(folder / "server", **t2v))
        http = stack.enter_context(httpx.Client(base_url=address, timeout=PATIENCE_S))
        models = Models(runs=folder / "none", checkpoints=folder / "none")
        roads = {
            "the bare service": bare(models.service(BOX), folder / "bare.gif"),
            "the page's handler": handler(Studio(models, Shelf(folder / "clips", keep_s=3600))),
            "its event, as browsers send it": as_a_browser(http),
            "/generate by plain HTTP": by_http(http),
            BY_CLIENT: by_client(address, folder / "got"),
            "the same without certificates": by_client(address, folder / "got", ssl_verify=False),
        }
        seconds = measure(roads, [psutil.Process(), server], options.clips, options.num_steps)
    sys.exit(report(seconds))


def put_to_sleep(seconds: float) -> None:
    """Let every network of this process answer zeros, after that time."""

    def answer(network: Unet3D, x: Tensor, t: Tensor, text: object = None) -> Tensor:
        time.sleep(seconds)
        return torch.zeros_like(x)

    Unet3D.forward = answer


def serve_asleep() -> None:
    """`t2v` with such networks: page_cost.py --serve-asleep S, and the arguments of the command."""
    _, _, seconds, *arguments = sys.argv
    put_to_sleep(float(seconds))
    sys.argv = ["t2v", *arguments]
    run_t2v()


def measure(
    roads: dict[str, Road], processes: Sequence[psutil.Process], num_clips: int, num_steps: int
) -> dict[str, np.ndarray]:
    """n 2 for each road: seconds by the clock and of computing, for the same seeds. The first round is not counted."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in roads}
    names = list(roads)
    for seed in range(num_clips + 1):
        settings = GenerationSettings(prompt=PROMPT, seed=seed, num_steps=num_steps)
        contents = set()
        for name in names[seed % len(names) :] + names[: seed % len(names)]:
            started, computed = time.perf_counter(), computing(processes)
            contents.add(roads[name](settings))
            seconds[name].append((time.perf_counter() - started, computing(processes) - computed))
        assert len(contents) == 1, "the roads end in different files"
    return {name: np.array(took[1:]) for name, took in seconds.items()}


def computing(processes: Sequence[psutil.Process]) -> float:
    """Seconds that the processes have computed so far."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def report(seconds: dict[str, np.ndarray]) -> int:
    """Print the table; 1 where a road costs too much."""
    bare_seconds = next(iter(seconds.values()))
    print(f"{len(bare_seconds)} clips by each road: medians, and the median of the differences within a round")
    print(f"{'':<32} {'by the clock':^26}  {'computing':^26}")
    costs_too_much = False
    for name, took in seconds.items():
        middle, more = np.median(took, axis=0), np.median(took - bare_seconds, axis=0)
        part = more / np.median(bare_seconds, axis=0)
        costs_too_much |= name != BY_CLIENT and bool(part[0] > MOST_PART or more[0] > MOST_S)
        columns = (f"{middle[k]:6.3f} s {more[k]:+6.3f} s {part[k]:+6.1%}" for k in (0, 1))
        print(f"{name:<32} {'    '.join(columns)}")
    return int(costs_too_much)


def bare(service: GenerationService, path: Path) -> Road:
    def draw(settings: GenerationSettings) -> bytes:
        (clip,) = (clip for step in service.generate(settings) for clip in step.finished)
        save_clip(clip, path, scale=FILE_SIDE // clip.frames.shape[2])
        return path.read_bytes()

    return draw


def handler(studio: Studio) -> Road:
    def draw(settings: GenerationSettings) -> bytes:
        views = list(studio.generate("me", BOX, settings.model_dump(), random_seed=False, made=[]))
        (name,) = next(view["visit"] for view in views if "visit" in view)
        kept = studio.shelf.get(name)
        assert kept is not None
        return studio.shelf.file(kept, "gif").read_bytes()

    return draw


def as_a_browser(http: httpx.Client) -> Road:
    config = http.get("config").json()
    event = next(one["id"] for one in config["dependencies"] if any("submit" in target for target in one["targets"]))
    visitor = {"session_hash": uuid.uuid4().hex}

    def draw(settings: GenerationSettings) -> bytes:
        used = settings.model_dump() | {"num_frames": 10, "size": 32}  # as the controls stand after arriving
        asked = {"data": [BOX, False, None, *used.values()], "fn_index": event} | visitor
        http.post("gradio_api/queue/join", json=asked).raise_for_status()
        with http.stream("GET", "gradio_api/queue/data", params=visitor) as lines:
            text = "".join(line for line in lines.iter_lines() if "clips/" in line)
        return http.get(text[text.index("clips/") :].split(".gif")[0] + ".gif").content

    return draw


def by_http(http: httpx.Client) -> Road:
    def draw(settings: GenerationSettings) -> bytes:
        event = http.post("gradio_api/call/v2/generate", json=settings.model_dump()).json()["event_id"]
        with http.stream("GET", f"gradio_api/call/generate/{event}") as lines:
            ((files, _),) = answers(lines.iter_lines())
        return http.get(files[0]["url"]).content

    return draw


def answers(lines: Iterator[str]) -> Iterator[Any]:
    """What an event stream gives as complete."""
    for line in lines:
        if line == "event: complete":
            yield json.loads(next(lines).removeprefix("data: "))


def by_client(address: str, folder: Path, **options: Any) -> Road:
    client = Client(address, verbose=False, analytics_enabled=False, download_files=folder, **options)

    def draw(settings: GenerationSettings) -> bytes:
        files, _ = client.predict(**settings.model_dump(), api_name="/generate")
        return Path(files[0]).read_bytes()

    return draw


if __name__ == "__main__":
    serve_asleep() if SERVE_ASLEEP in sys.argv[1:2] else main()
