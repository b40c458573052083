"""`t2v evaluate`: a checkpoint becomes a table, a file and a page; a stop costs nothing."""

import json
import re
import signal
from pathlib import Path

import pytest
import typer

import t2v.evaluate.run
from t2v.cli.generate import NAMES
from t2v.cli.main import app
from t2v.config import GenerationSettings

SMALL = ["--prompts", 1, "--families", "suns", "--steps", 2]


@pytest.fixture
def model(make_checkpoint, fake_encoder):
    """A minute model whose clips are as small as the judge can read."""
    data = {"size": 32, "num_frames": 4}
    return make_checkpoint("model.safetensors", cond_dim=fake_encoder.dim, recipe={"data": data})


@pytest.fixture
def stopped_at(monkeypatch):
    """stopped_at(n) presses Ctrl-C while clip n is judged."""

    def press(number):
        seen = []
        judge = t2v.evaluate.run.judged

        def judged(question, frames):
            seen.append(question)
            if len(seen) == number:
                signal.raise_signal(signal.SIGINT)
            return judge(question, frames)

        monkeypatch.setattr(t2v.evaluate.run, "judged", judged)

    return press


def options():
    return {one.name: one for one in typer.main.get_command(app).commands["evaluate"].params}


def test_every_setting_of_a_clip_has_the_option_that_generate_has():
    for name, field in GenerationSettings.model_fields.items():
        if name in ("prompt", "num_clips"):
            assert name not in options()
        elif name != "seed":
            assert options()[name].help == field.description
            assert set(options()[name].opts) == set(NAMES.get(name, [f"--{name.replace('_', '-')}"]))


def test_a_table_a_file_and_a_page(t2v, model):
    status, out, err = t2v("evaluate", model, "--only", "alignment", *SMALL, "--json", "r.json", "--html", "r.html")
    assert status == 0, err
    assert out.startswith("model.safetensors (sha256 ") and "2 steps of unipc, guidance 2" in out
    assert re.search(r"^  one subject +\d+\.\d% \(\d+-\d+\)", out, re.MULTILINE)
    assert "3 clips to draw: about" in err and err.endswith("wrote r.json\nwrote r.html\n")
    told = json.loads(Path("r.json").read_text())
    assert told["alignment"]["clips"] == 3 and not told["partial"]
    assert Path("r.html").read_text().startswith("<!doctype html>")


def test_ctrl_c_reports_what_is_known_and_the_same_again_goes_on(t2v, model, stopped_at):
    stopped_at(2)
    status, out, err = t2v("evaluate", model, "--only", "alignment", *SMALL, "--json", "r.json")
    assert status == 130
    assert "stopping" in err and "alignment: 2 of 3 clips" in out and "PARTIAL" in out.splitlines()[-1]
    assert json.loads(Path("r.json").read_text())["partial"]
    status, out, err = t2v("evaluate", model, "--only", "alignment", *SMALL, "--json", "r.json")
    assert status == 0
    assert "2 clips of 3 were drawn before" in err and "PARTIAL" not in out
    assert not json.loads(Path("r.json").read_text())["partial"]


def test_the_seed_and_the_settings_are_heard(t2v, model):
    told = []
    for choice in (["--seed", 1], ["--guidance", 3], []):
        assert t2v("evaluate", model, "--only", "alignment", *SMALL, *choice, "--json", "r.json").status == 0
        told.append(json.loads(Path("r.json").read_text()))
    assert (told[0]["seed"], told[2]["seed"]) == (1, 0)
    assert told[1]["settings"]["guidance_scale"] == 3.0
    seeds = [{one["seed"] for one in report["alignment"]["judged"]} for report in told]
    assert seeds[1] == seeds[2] and not seeds[0] & seeds[2]


@pytest.mark.parametrize(
    "arguments, reason",
    [
        (["--only", "likelihood", "--prompts", 5], "--prompts and --splits choose what is judged"),
        (["--clips", ".", "--families", "suns"], "--families chooses among worlds"),
        (["--held-out", "."], "--held-out goes with --clips"),
        (["--only", "alignment", "--clips", "."], "choose real clips, of which alignment needs none"),
        (["--only", "alignment", "--real-clips", 9], "choose real clips, of which alignment needs none"),
        (["--only", "alignment", "--known-clips", 9], "choose real clips, of which alignment needs none"),
        (["--json", "report.txt"], "report.txt must end in .json"),
        (["--html", "report"], "report must end in .html"),
    ],
)
def test_wrong_usage_is_said_at_once(t2v, model, arguments, reason):
    status, out, err = t2v("evaluate", model, *arguments)
    assert (status, out) == (2, "")
    assert reason in " ".join(err.replace("│", " ").split())


@pytest.mark.parametrize(
    "arguments, reason",
    [
        (["--only", "luck"], "unknown measure 'luck'; known are alignment, likelihood, likeness"),
        (["--splits", "all"], "unknown split 'all'; known are seen, unseen-combinations, unseen-wordings"),
        (["--families", "cats"], "unknown family 'cats'"),
        (["--json", "nowhere/report.json"], "nowhere/report.json cannot be written: its folder is missing"),
        (["--only", "likelihood", "--clips", "nowhere"], "nowhere"),
        (["--size", 33], "size must be a multiple of 2"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_drawn(refused, model, arguments, reason):
    assert reason in refused("evaluate", model, *arguments)


def test_a_model_of_clips_that_are_no_worlds_is_told_what_to_name(refused, make_checkpoint):
    plain = make_checkpoint("plain.safetensors")
    assert "name a folder of clips with --clips" in refused("evaluate", plain, "--only", "likelihood")
