"""Real `t2v train` processes, killed between two saves, end with the weights of a run that nothing disturbed.

In bf16, with 8-bit AdamW, two passes a step and captions. The moment of a kill is chosen by log.jsonl, never by a
clock: the process is halted, and only once its halted state is seen to lie where it should is it killed.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from t2v.checkpoint.run_folder import RunFolder
from t2v.training.plan import load_plan

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SAVE_EVERY = 6
NUM_STEPS = 16
PATIENCE_S = 240.0
CAPTIONS = ("a red cat runs", "a cat", "red\nred cat")
RECIPE = f"""
prompts = ["a cat"]
[data]
size = 8
num_frames = 2
[model]
dim = 16
dim_mults = [1, 2]
attn_heads = 1
attn_dim_head = 8
init_kernel_size = 3
[train]
num_steps = {NUM_STEPS}
batch_size = 1
accumulation = 2
learning_rate = 1e-3
warmup_steps = 2
optimizer = "adamw8bit"
ema_start = 3
precision = "bf16"
save_every = {SAVE_EVERY}
sample_every = 1000
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips with captions, a small random BERT to read them, and a recipe."""
    folder = tmp_path_factory.mktemp("kill")
    (folder / "clips").mkdir()
    for number, caption in enumerate(CAPTIONS):
        pixels = np.random.default_rng(number).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
        frames = [Image.fromarray(frame) for frame in pixels]
        path = folder / "clips" / f"{number}.gif"
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)
        path.with_suffix(".txt").write_text(caption)
    (folder / "recipe.toml").write_text(RECIPE)
    write_bert(folder / "bert")
    return folder


def write_bert(folder: Path) -> None:
    from tokenizers.implementations import BertWordPieceTokenizer
    from transformers import BertConfig, BertModel

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "cat", "runs"]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=len(words),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=64,
        )
        BertModel(config).save_pretrained(folder)
    tokenizer = BertWordPieceTokenizer({word: number for number, word in enumerate(words)})
    tokenizer.save(str(folder / "tokenizer.json"))


def command(folder: Path, out: Path) -> list[str]:
    words = ["train", "clips", "--recipe", "recipe.toml", "--set", "text.encoder=bert", "--device", "cpu"]
    return [sys.executable, "-c", "from t2v.cli.main import main; main()", *words, "--out", str(out)]


def environment() -> dict[str, str]:
    # One thread: what is compared bit by bit must not depend on how many cores were free.
    return os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def train(folder: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """The command, left alone until it ends."""
    return subprocess.run(
        command(folder, out), cwd=folder, env=environment(), capture_output=True, text=True, timeout=PATIENCE_S
    )


@contextmanager
def training(folder: Path, out: Path) -> Iterator[subprocess.Popen[str]]:
    """The command while it runs; whatever happens, no process is left."""
    started = subprocess.Popen(
        command(folder, out),
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


def last_logged(run: RunFolder) -> int:
    return max((entry["step"] for entry in run.read_log()), default=0)


def newest_saved(run: RunFolder) -> int:
    newest = run.newest_step()
    return -1 if newest is None else newest.step


def halt_between_saves(process: subprocess.Popen[str], run: RunFolder) -> tuple[int, int]:
    """Halt the process past the first save, two steps or more after a save and two or more before the next.

    Returns the newest saved and the last logged step. Two, since the step in flight may still be finished.
    """
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        if last_logged(run) > SAVE_EVERY and 2 <= last_logged(run) % SAVE_EVERY <= SAVE_EVERY - 2:
            process.send_signal(signal.SIGSTOP)
            os.waitpid(process.pid, os.WUNTRACED)  # until it stands still
            saved, logged = newest_saved(run), last_logged(run)
            if saved > 0 and saved + 2 <= logged <= saved + SAVE_EVERY - 2:
                return saved, logged
            process.send_signal(signal.SIGCONT)
        time.sleep(0.005)
    raise AssertionError(f"no step between two saves within {PATIENCE_S} s; the log is at {last_logged(run)}")


def state(run: RunFolder) -> dict[str, Tensor]:
    """Weights, average and optimizer of the last step."""
    newest = run.newest_step()
    assert newest is not None and newest.step == NUM_STEPS
    return {
        f"{path.name}/{name}": tensor
        for path in (newest.weights, newest.ema, newest.optimizer)
        for name, tensor in load_file(path).items()
    }


def assert_identical(run: RunFolder, other: RunFolder) -> None:
    ours, theirs = state(run), state(other)
    assert ours.keys() == theirs.keys()
    different = [name for name in ours if not torch.equal(ours[name], theirs[name])]
    assert not different, f"{len(different)} of {len(ours)} tensors differ, first {different[:3]}"


@pytest.fixture(scope="module")
def unbroken(folder: Path) -> RunFolder:
    out = folder / "unbroken"
    done = train(folder, out)
    assert done.returncode == 0, done.stderr
    return RunFolder(out)


def test_the_undisturbed_run_is_what_this_test_is_about(unbroken: RunFolder) -> None:
    plan = load_plan(unbroken)
    assert plan.precision == "bf16"
    assert plan.recipe.train.accumulation == 2
    assert plan.cond_dim == 16
    assert [entry["step"] for entry in unbroken.read_log()] == list(range(1, NUM_STEPS + 1))
    newest = unbroken.newest_step()
    assert newest is not None
    # bitsandbytes keeps small tensors in 32 bits; 8-bit states come as bytes, two for each weight that is big enough.
    in_8_bits = [tensor for tensor in load_file(newest.optimizer).values() if tensor.dtype == torch.uint8]
    assert len(in_8_bits) >= 2
    assert all(tensor.numel() >= 4096 for tensor in in_8_bits)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_killed_run_that_is_started_again_ends_bit_identical(
    folder: Path, unbroken: RunFolder, number: signal.Signals
) -> None:
    run = RunFolder(folder / number.name)
    with training(folder, run.path) as process:
        saved, logged = halt_between_saves(process, run)
        second = train(folder, run.path)
        assert second.returncode == 1
        assert f"another process is training {run.path}" in second.stderr
        assert saved < logged < saved + SAVE_EVERY < NUM_STEPS
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)
        _, said = process.communicate(timeout=PATIENCE_S)
    # A process that died of SIGKILL is told as -9 here, and as 137 by a shell.
    assert process.returncode in (128 + number, -number if number == signal.SIGKILL else 128 + number)
    assert "Traceback" not in said
    if number == signal.SIGKILL:
        assert newest_saved(run) == saved
    else:  # the step in flight was finished and saved
        assert logged <= newest_saved(run) == last_logged(run) < saved + SAVE_EVERY
        assert f"saved at step {newest_saved(run)}; go on with: t2v train clips --out {run.path} --device cpu" in said

    resumed_at = newest_saved(run)
    done = train(folder, run.path)
    assert done.returncode == 0, done.stderr
    assert f"going on with {run.path} at step {resumed_at} of {NUM_STEPS}" in done.stderr
    assert "bit-identical" not in done.stderr
    assert_identical(run, unbroken)


def test_a_kill_between_the_first_save_and_the_plan_leaves_nothing_in_the_way(
    folder: Path, unbroken: RunFolder
) -> None:
    run = RunFolder(folder / "unborn")
    dying = "import os, t2v.training.start as start; start.save_plan = lambda *_: os.kill(os.getpid(), 9); "
    words = command(folder, run.path)
    words[2] = dying + words[2]
    killed = subprocess.run(words, cwd=folder, env=environment(), capture_output=True, text=True, timeout=PATIENCE_S)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert newest_saved(run) == 0 and not run.exists()
    done = train(folder, run.path)
    assert done.returncode == 0, done.stderr
    assert_identical(run, unbroken)


def test_ctrl_c_before_the_first_step_ends_quietly(folder: Path) -> None:
    """Halted while captions are read, before there is anything to save."""
    words = command(folder, folder / "early")
    words[2] = (
        "import os, signal, t2v.model.text as text; load = text.TextEncoder.load; "
        "text.TextEncoder.load = lambda *a, **k: (os.kill(os.getpid(), signal.SIGINT), load(*a, **k))[1]; " + words[2]
    )
    done = subprocess.run(words, cwd=folder, env=environment(), capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "early").exists()


def test_the_state_of_a_run_is_json_and_safetensors_only(unbroken: RunFolder) -> None:
    newest = unbroken.newest_step()
    assert newest is not None
    assert {path.suffix for path in newest.path.iterdir()} == {".safetensors", ".json"}
    assert json.loads(newest.state.read_text())["step"] == NUM_STEPS


def _finished(folder: Path, words: list[str]) -> str:
    """Run a command to its good end and return what it wrote to stdout."""
    ran = subprocess.run(
        words, cwd=folder, env=environment(), capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


# Threads of gloo that outlive the training abort the interpreter's end now and then; they are seen on Linux alone.
SPEAKING_TO_NONE = """
from pathlib import Path
from t2v.cli.main import main

try:
    main()
finally:
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    assert not [name for name in names if "gloo" in name], names
"""


@pytest.mark.parametrize("stills", [0, 4])
def test_two_processes_learn_what_one_does_with_twice_the_batch(folder: Path, tmp_path: Path, stills: int) -> None:
    """Equal but for the rounding of sums. By torchrun: `accelerate launch --cpu` takes MPI for more than one."""
    folder = Path(shutil.copytree(folder, tmp_path / "copy", ignore=shutil.ignore_patterns("checkpoints")))
    for number in range(stills):  # where there are some, one process may see clips alone and the other stills alone
        Image.new("RGB", (8, 8), (60 * number, 90, 0)).save(folder / "clips" / f"still{number}.gif")
    typed = ["--set", "train.precision=fp32", "--set", "train.optimizer=adamw", "--set", "train.accumulation=2"]
    _finished(folder, [*command(folder, folder / "alone"), *typed, "--set", "train.batch_size=2"])
    script = folder / "t2v_train.py"
    script.write_text(SPEAKING_TO_NONE)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    said = _finished(folder, [*launcher, *command(folder, folder / "together")[3:], *typed])
    assert said.count("t2v generate") == 1  # one voice, not two
    assert load_plan(RunFolder(folder / "together")).machine.num_processes == 2

    early = _flat_weights(RunFolder(folder / "alone"), SAVE_EVERY)
    one, two = (_flat_weights(RunFolder(folder / name), NUM_STEPS) for name in ("alone", "together"))
    learned = (one - early).norm()
    assert learned > 0
    assert (two - one).norm() < 1e-3 * learned


def _flat_weights(run: RunFolder, step: int) -> Tensor:
    folder = next(folder for folder in run.steps() if folder.step == step)
    return torch.cat([tensor.double().flatten() for _, tensor in sorted(load_file(folder.weights).items())])
