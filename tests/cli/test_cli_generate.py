"""`t2v generate`: a prompt becomes a file that says how it was made."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from PIL import Image

import t2v.service
from t2v.cli.generate import NAMES, numbered
from t2v.cli.main import app
from t2v.config import GenerationSettings
from t2v.data.video_files import ENCODERS
from t2v.errors import GenerationError
from t2v.presets import PRESETS
from t2v.service import GenerationService

PATIENCE_S = 120
LINE = re.compile(r"(?P<path>.+)  seed (?P<seed>\d+)  \d+\.\d s")


@pytest.fixture
def model(make_checkpoint, fake_encoder):
    return make_checkpoint("model.safetensors", cond_dim=fake_encoder.dim, words=("red", "circle"))


@pytest.fixture
def generate(t2v, model):
    """generate("red", ...) draws in two steps; returns the files and the seeds that stdout names, and stderr."""

    def run(*arguments):
        status, out, err = t2v("generate", *arguments, "--checkpoint", model, "--steps", 2)
        assert status == 0, err
        lines = [LINE.fullmatch(line) for line in out.splitlines()]
        assert all(lines), out
        return [Path(line["path"]) for line in lines], [int(line["seed"]) for line in lines], err

    return run


@pytest.fixture
def drawn_nothing(monkeypatch):
    """Fail where the network is asked although the command cannot succeed."""
    monkeypatch.setattr(t2v.service, "sample_clips", lambda *_, **__: pytest.fail("drawn in vain"))


@pytest.fixture
def asked_for(refused, model, monkeypatch):
    """asked_for("--steps 3") is what the service would be asked for."""
    asked = []

    def resolve(service, settings):
        asked.append(settings)
        raise GenerationError("enough")

    def ask(typed):
        refused("generate", "red", *typed.split(), "--checkpoint", model)
        return asked.pop()

    monkeypatch.setattr(GenerationService, "resolve", resolve)
    return ask


def options():
    return {one.name: one for one in typer.main.get_command(app).commands["generate"].params}


@pytest.mark.parametrize("name, field", GenerationSettings.model_fields.items())
def test_every_setting_has_an_option_with_its_words_and_default(name, field):
    option = options()[name]
    if name != "prompt":
        assert option.help == field.description
        assert set(option.opts) == set(NAMES.get(name, [f"--{name.replace('_', '-')}"]))
    assert (option.default or None) == (field.default or None)


@pytest.mark.parametrize(
    "typed, name, value",
    [
        ("--frames 5", "num_frames", 5),
        ("--num-frames 5", "num_frames", 5),
        ("--steps 2", "num_steps", 2),
        ("--num-steps 2", "num_steps", 2),
        ("--guidance-scale 3.5", "guidance_scale", 3.5),
        ("--guidance 3.5", "guidance_scale", 3.5),
        ("--negative circle", "negative", "circle"),
        ("--num-clips 2", "num_clips", 2),
        ("--size 16", "size", 16),
        ("--sampler ddpm", "sampler", "ddpm"),
        ("--eta 0.5", "eta", 0.5),
        ("--threshold dynamic", "threshold", "dynamic"),
        ("--percentile 0.8", "percentile", 0.8),
        ("--fps 12.5", "fps", 12.5),
        ("--seed 9007199254740991", "seed", 9007199254740991),
    ],
)
def test_what_is_typed_is_what_is_asked_for(asked_for, typed, name, value):
    assert asked_for(typed) == GenerationSettings(prompt="red", **{name: value})


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_sets_what_is_not_typed(asked_for, preset):
    settings = PRESETS[preset]
    assert asked_for(f"--preset {preset}") == GenerationSettings(prompt="red", **settings)
    assert asked_for(f"--num-steps 3 --preset {preset}") == GenerationSettings(
        prompt="red", **settings | {"num_steps": 3}
    )
    # Typed, though it is what would stand there without a preset.
    default = GenerationSettings().num_steps
    asked = asked_for(f"--preset {preset} --steps {default}")
    assert asked == GenerationSettings(prompt="red", **settings | {"num_steps": default})


@pytest.mark.parametrize("ending", ENCODERS)
def test_the_ending_decides_the_format(generate, t2v, ending):
    files, seeds, _ = generate("red", "--out", f"new/folder/clip{ending}")
    assert files == [Path(f"new/folder/clip{ending}")]
    told = json.loads(t2v("info", files[0]).out)
    assert (told["prompt"], told["seed"], told["checkpoint"]) == ("red", seeds[0], "model.safetensors")
    kind = {".gif": b"GIF89a", ".png": b"\x89PNG", ".webp": b"RIFF", ".webm": b"\x1aE\xdf\xa3"}.get(ending, b"")
    assert files[0].read_bytes().startswith(kind)


def test_without_out_nothing_is_ever_overwritten(generate):
    names = [generate("red circle", "--seed", 7)[0][0] for _ in range(3)]
    assert [path.as_posix() for path in names] == [
        "outputs/red-circle-7.gif",
        "outputs/red-circle-7-take2.gif",
        "outputs/red-circle-7-take3.gif",
    ]
    assert names[0].read_bytes() == names[1].read_bytes()


def test_a_file_that_is_named_is_replaced(generate):
    Path("clip.gif").write_text("old")
    assert generate("red", "--out", "clip.gif")[0] == [Path("clip.gif")]
    assert Path("clip.gif").read_bytes().startswith(b"GIF89a")


def test_several_clips_are_numbered(generate):
    files, seeds, _ = generate("red", "--num-clips", 2, "--out", "clip.webp", "--seed", 3)
    assert [path.name for path in files] == ["clip-1.webp", "clip-2.webp"]
    assert seeds == [3, 3]
    assert files[0].read_bytes() != files[1].read_bytes()
    files, _, _ = generate("red", "-n", 2, "--seed", 3)
    assert [path.name for path in files] == ["red-3-1.gif", "red-3-2.gif"]
    assert numbered(Path("a/b.c.gif"), 0, 12) == Path("a/b.c-1.gif")


def test_equal_seeds_write_equal_files(generate):
    first, seeds, _ = generate("red", "--out", "first.gif")
    again, _, _ = generate("red", "--out", "again.gif", "--seed", seeds[0])
    assert first[0].read_bytes() == again[0].read_bytes()
    assert generate("red")[1] != seeds


def test_the_file_is_enlarged_and_timed_as_asked(generate):
    with Image.open(generate("red", "--scale", 3, "--fps", 4, "--frames", 5, "--out", "clip.gif")[0][0]) as image:
        assert (image.size, image.n_frames, image.info["duration"]) == ((24, 24), 5, 250)


def test_metadata_can_be_left_out(generate, refused):
    files, _, _ = generate("red circle of secrets", "--no-metadata", "--out", "clip.gif")
    assert b"secrets" not in files[0].read_bytes()
    assert "does not say how it was made" in refused("info", files[0])


def test_hints_go_to_stderr_and_a_known_request_is_silent(generate):
    assert generate("red circle")[2] == ""
    _, _, err = generate("red dragon", "--size", 16)
    assert err.splitlines() == [
        "note: this model was trained at 8 pixels; 16 may look wrong",
        "note: the word 'dragon' was in no caption",
    ]


def test_a_model_without_text_needs_no_prompt_and_no_encoder(t2v, make_checkpoint):
    status, out, err = t2v("generate", "--checkpoint", make_checkpoint("plain.safetensors"), "--steps", 2, "--seed", 1)
    assert (status, err) == (0, "")
    assert out.startswith("outputs/clip-1.gif  seed 1  ")


def test_a_run_folder_is_drawn_from_and_told_of(t2v, make_checkpoint):
    from t2v.checkpoint.run_folder import RunFolder

    run = RunFolder(Path("runs/gifs"))
    run.create()
    run.save_step(40, lambda folder: folder.ema.write_bytes(make_checkpoint("plain.safetensors").read_bytes()))
    assert t2v("generate", "--checkpoint", "runs/gifs", "--steps", 2, "--out", "clip.gif").status == 0
    assert json.loads(t2v("info", "clip.gif").out)["checkpoint"] == "gifs/step-00000040"


# What is refused, before anything is drawn.


@pytest.mark.parametrize(
    "arguments, reason",
    [
        (["", "--steps", 2], "the prompt is empty; say what to draw"),
        (["red", "--size", 9], "size must be a multiple of 2 with this model, not 9; try 8"),
        (["red", "--out", "clip.avi"], "clip.avi: cannot write .avi; use .gif, .mp4, .webm, .webp, .png"),
        (["red", "--out", "clip"], "clip: cannot write a file without ending"),
        (["red", "--out", "folder.gif"], "folder.gif is a folder; name a file in it, such as folder.gif/clip.gif"),
        (["red", "--out", "file/clip.gif"], "file/clip.gif cannot be written"),
        (["red", "--scale", 32, "--size", 512], "scale must be at most 8"),
        (["red", "--device", "mps"], "this machine has no device 'mps'"),
    ],
)
def test_what_cannot_be_drawn_or_written_is_said_before_drawing(refused, model, drawn_nothing, arguments, reason):
    Path("folder.gif").mkdir()
    Path("file").touch()
    assert reason in refused("generate", *arguments, "--checkpoint", model)
    assert not Path("outputs").exists()


def test_a_default_folder_that_cannot_be_made_is_said_before_drawing(refused, model, drawn_nothing):
    Path("outputs").touch()
    assert "outputs: Not a directory" in refused("generate", "red", "--checkpoint", model)


def test_a_checkpoint_that_is_none_is_refused(refused, tmp_path):
    assert "there is no checkpoint nowhere" in refused("generate", "x", "--checkpoint", "nowhere")
    Path("model.pt").write_bytes(b"PK")
    assert "t2v import" in refused("generate", "x", "--checkpoint", "model.pt")
    assert "holds no saved step" in refused("generate", "x", "--checkpoint", tmp_path)


def test_a_missing_encoder_is_one_line(refused, make_checkpoint):
    path = make_checkpoint(cond_dim=6, recipe={"text": {"encoder": "nobody/nothing"}})
    assert "text encoder 'nobody/nothing' was not found" in refused("generate", "x", "--checkpoint", path)


def test_a_checkpoint_of_other_weights_is_one_line(refused, make_checkpoint, fake_encoder):
    path = make_checkpoint(cond_dim=6, encoder_sha256="abc")
    assert "was trained with other weights" in refused("generate", "x", "--checkpoint", path)


def test_loading_is_asked_for_what_was_typed(t2v, monkeypatch):
    asked = {}

    def load(path, **choices):
        asked.update(choices, path=path)
        raise GenerationError("enough")

    monkeypatch.setattr(GenerationService, "load", load)
    t2v("generate", "x", "--device", "cpu", "--precision", "bf16", "--checkpoint", "a/b", "--guide", "c")
    assert asked == {"path": Path("a/b"), "guide": Path("c"), "device": "cpu", "precision": "bf16"}
    t2v("generate", "x")
    assert asked == {"path": None, "guide": None, "device": "auto", "precision": "fp32"}


@pytest.mark.slow
def test_ctrl_c_ends_without_a_traceback_and_without_a_file(make_checkpoint, tmp_path):
    path = make_checkpoint("plain.safetensors")
    command = [Path(sys.executable).with_name("t2v"), "generate", "--checkpoint", path, "--steps", "1000", "-n", "64"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    # The first of its 64 clips is there: so it is drawing the second.
    while not list(tmp_path.glob("outputs/*.gif")):
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert "Traceback" not in err
    files = sorted(path.name for path in (tmp_path / "outputs").iterdir())
    assert sorted(Path(line.split("  ")[0]).name for line in out.splitlines()) == files
