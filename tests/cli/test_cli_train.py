"""`t2v train` as people type it: exit status, and one clear line for each thing that can go wrong."""

import os
import shlex
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from t2v.checkpoint.run_folder import RunFolder
from t2v.cli.main import main
from t2v.training import choose
from t2v.training.loop import Training
from t2v.training.start import ReadyRun

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
batch_size = 1
save_every = 3
precision = "fp32"
"""


@dataclass(frozen=True)
class Said:
    """What a command said and how it ended."""

    status: int
    out: str
    err: str


@dataclass(frozen=True)
class Desk:
    """A folder to work in, and commands typed there."""

    capsys: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch

    def type(self, line: str) -> Said:
        self.monkeypatch.setattr(sys, "argv", shlex.split(line))
        with pytest.raises(SystemExit) as ended:
            main()
        said = self.capsys.readouterr()
        return Said(int(ended.value.code or 0), said.out, said.err)


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(choose, "MEASURED_S", 0.0)
    Path("gifs").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    first, *others = [Image.fromarray(frame) for frame in pixels]
    first.save("gifs/01.gif", save_all=True, append_images=others, duration=100)
    Path("mine.toml").write_text(RECIPE)
    # A command takes over Ctrl-C for its process, which here is the tests' own.
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr(ReadyRun, "write_samples", lambda self: None)
    yield Desk(capsys, monkeypatch)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("decoder_processes")
def test_a_run_ends_with_the_command_that_draws_from_it(desk: Desk) -> None:
    said = desk.type("t2v train gifs --recipe mine.toml --device cpu")
    assert said.status == 0
    assert said.out == 't2v generate "..." --checkpoint runs/gifs\n'
    assert RunFolder(Path("runs/gifs")).exists()
    assert "4 steps of" in said.err

    again = desk.type("t2v train gifs --device cpu")
    assert again.status == 0
    assert "runs/gifs is finished at step 4; extend it with --steps 8, or start anew with --fresh" in again.err
    assert again.out == said.out

    more = desk.type("t2v train gifs --device cpu --steps 5")
    assert more.status == 0
    assert "extended from 4 to 5 steps" in more.err


def test_a_caption_for_all_clips_is_trained_on_and_kept(desk: Desk, fake_encoder: Any) -> None:
    refused = desk.type("t2v train gifs --recipe mine.toml --device cpu --caption 'a {thing}'")
    assert (refused.status, refused.err.count("\n")) == (1, 1)
    assert "text.template: a template has no placeholder but {caption}, and this is 'a {thing}'" in refused.err
    said = desk.type("t2v train gifs --recipe mine.toml --device cpu --caption 'a  sprite'")
    assert said.out == 't2v generate "a sprite" --checkpoint runs/gifs\n'
    assert desk.type("t2v train gifs --device cpu").out == said.out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_prints_the_command_that_goes_on(desk: Desk, number: signal.Signals) -> None:
    take_step = Training.take_step

    def interrupted(self: Training):
        if self.step == 1 and self.run.exists():  # not while the machine is timed
            os.kill(os.getpid(), number)
        return take_step(self)

    desk.monkeypatch.setattr(Training, "take_step", interrupted)
    said = desk.type("t2v train gifs --recipe mine.toml --device cpu --out 'my run'")
    assert said.status == 128 + number
    assert said.out == ""
    assert "finishing this step and saving; once more ends at once" in said.err
    assert "saved at step 2; go on with: t2v train gifs --out 'my run' --device cpu" in said.err
    newest = RunFolder(Path("my run")).newest_step()
    assert newest is not None
    assert newest.step == 2


def test_a_signal_while_samples_are_drawn_stops_the_drawing(desk: Desk) -> None:
    reached_the_end = []

    def draw(self: ReadyRun) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):
            pass  # the handler runs between two instructions
        reached_the_end.append(True)

    desk.monkeypatch.setattr(ReadyRun, "write_samples", draw)
    said = desk.type("t2v train gifs --recipe mine.toml --device cpu --set train.sample_every=2")
    assert said.status == 130
    assert not reached_the_end
    assert "saved at step 2" in said.err


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ("nowhere", "error: nowhere does not exist; name a folder that holds clips"),
        ("gifs --steps 5 --budget 1h", "error: --steps and --budget both say when to stop; give one of them"),
        ("gifs --budget soon", "error: 'soon' is not a time; write it as 2h, 90m, 1h30m or 45s"),
        ("gifs --set train.btch=3", "error: unknown setting 'train.btch'; did you mean 'train.batch_size'?"),
        ("gifs --set batch", "error: --set takes key=value such as train.batch_size=8, not 'batch'"),
        ("gifs --recipe huge", "error: no recipe 'huge': name one of tiny, small, base, seed, or a .toml file"),
        ("gifs --init-from nowhere.safetensors", "error: there is no checkpoint nowhere.safetensors; name a"),
        ("gifs --out gifs/run", "error: the run folder gifs/run lies among the clips"),
        ("gifs --out mine.toml", "error: mine.toml is a file; name a folder for the run with --out"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_status_1(desk: Desk, options: str, line: str) -> None:
    said = desk.type(f"t2v train {options} --device cpu")
    assert said.status == 1
    assert said.err.startswith(line)
    assert said.err.count("\n") == 1
    assert said.out == ""
    assert not Path("runs").exists()


@pytest.mark.parametrize("options", ["", "gifs --steps 0", "gifs --seed -1", "gifs --device tpu", "gifs --nonsense"])
def test_wrong_usage_is_status_2(desk: Desk, options: str) -> None:
    assert desk.type(f"t2v train {options}").status == 2
