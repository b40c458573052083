"""A bench to try runs on: clips, a recipe so small that a run takes a blink, and runs made before."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from t2v.checkpoint.run_folder import RunFolder
from t2v.training import choose
from t2v.training.request import TrainRequest
from t2v.training.start import ReadyRun, open_run

RECIPE = """
[data]
size = 8
num_frames = 2
[model]
dim = 4
dim_mults = [1]
attn_heads = 1
attn_dim_head = 8
init_kernel_size = 3
spatial_attn = "none"
[train]
num_steps = 4
batch_size = 2
warmup_steps = 2
ema_start = 2
save_every = 2
precision = "fp32"
"""


@dataclass
class Bench:
    """A folder of clips without captions, a recipe, and a place for runs."""

    folder: Path
    ready_made: Path
    said: list[str] = field(default_factory=list)

    @property
    def clips(self) -> Path:
        return self.folder / "clips"

    @property
    def out(self) -> Path:
        return self.folder / "run"

    @property
    def run(self) -> RunFolder:
        return RunFolder(self.out)

    @property
    def recipe(self) -> str:
        return str(self.folder / "recipe.toml")

    @property
    def last_words(self) -> str:
        return "\n".join(self.said)

    def open(self, **changed: Any) -> ReadyRun:
        self.said.clear()
        request = {"clips": self.clips, "out": self.out, "recipe": self.recipe, "device": "cpu"} | changed
        return open_run(TrainRequest(**request), self.said.append)

    def train(self, *, up_to: int | None = None, **changed: Any) -> ReadyRun:
        """Start as `open` does and take steps to the end, or leave as a kill would after step `up_to`."""
        ready = self.open(**changed)
        for progress in ready.training.steps():
            if progress.step == up_to:
                break
        return ready

    def put(self, kind: str) -> None:
        """Put a run in place that was made before: one that is finished, or one killed after step 3."""
        shutil.copytree(self.ready_made / kind, self.out)

    def weights(self, run: RunFolder | None = None) -> dict[str, Tensor]:
        newest = (run or self.run).newest_step()
        assert newest is not None
        both = load_file(newest.weights) | {f"ema.{key}": value for key, value in load_file(newest.ema).items()}
        return {key: value.clone() for key, value in both.items()}  # the files themselves may be damaged by a test

    @staticmethod
    def write_gif(path: Path, seed: int, *, num_frames: int = 3, side: int = 8) -> None:
        pixels = np.random.default_rng(seed).integers(0, 256, (num_frames, side, side, 3), dtype=np.uint8)
        frames = [Image.fromarray(frame) for frame in pixels]
        path.parent.mkdir(parents=True, exist_ok=True)
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=100, loop=0)

    @staticmethod
    def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
        return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)

    def content(self) -> dict[str, bytes]:
        """Every file of the run."""
        files = (path for path in self.out.rglob("*") if path.is_file())
        return {str(path.relative_to(self.out)): path.read_bytes() for path in files}


def new_bench(folder: Path, ready_made: Path) -> Bench:
    for number in range(3):
        Bench.write_gif(folder / "clips" / f"0{number}.gif", number)
    (folder / "recipe.toml").write_text(RECIPE)
    return Bench(folder, ready_made)


@pytest.fixture(scope="session")
def ready_made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    bench = new_bench(folder, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choose, "MEASURED_S", 0.0)
        bench.train(out=folder / "finished")
        bench.train(out=folder / "broken", up_to=3)
    return folder


@pytest.fixture
def bench(tmp_path: Path, ready_made: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(choose, "MEASURED_S", 0.0)  # one step is timing enough here
    return new_bench(tmp_path, ready_made)
