"""`t2v info`, `check`, `worlds`, `import` and `export`: what was asked for on stdout, as text or JSON."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from t2v.checkpoint import load_checkpoint
from t2v.checkpoint.run_folder import RunFolder
from t2v.data.video_files import write_clip
from t2v.runtime import Precision
from t2v.training import machine

GOLDEN = Path(__file__).parents[1] / "golden"


def put_gif(path, metadata=None, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = np.random.default_rng(seed).integers(0, 255, (3, 16, 16, 3), np.uint8)
    write_clip(path, frames, frame_ms=100, metadata=metadata)


# info


def test_info_of_a_checkpoint_is_its_header(t2v, make_checkpoint):
    path = make_checkpoint(words=("fire", "火"))
    status, out, err = t2v("info", path)
    assert (status, err) == (0, "")
    told = json.loads(out)
    assert told["sha256"] == load_checkpoint(path).sha256
    assert (told["name"], told["step"], told["words"]) == ("tiny.safetensors", 7, ["fire", "火"])
    assert told["recipe"]["data"]["size"] == 8


def test_info_of_a_run_is_that_of_its_newest_step(t2v, make_checkpoint):
    run = RunFolder(Path("runs/x.gif"))  # even where its name looks like a clip's
    run.create()
    run.save_step(40, lambda folder: folder.ema.write_bytes(make_checkpoint().read_bytes()))
    told = json.loads(t2v("info", run.path).out)
    assert told["name"] == "x.gif/step-00000040"
    assert told["file"] == "runs/x.gif/checkpoints/step-00000040/ema.safetensors"


@pytest.mark.parametrize(
    "metadata", [None, "a comment", "{}", '{"made_by": "someone"}', '{"made_by": 3}', "[1]", "{", "[" * 60_000]
)
def test_info_of_a_clip_that_t2v_did_not_make_is_refused(refused, metadata):
    put_gif(Path("other.gif"), metadata)
    assert "other.gif does not say how it was made: not by t2v, or written with --no-metadata" in refused(
        "info", "other.gif"
    )


def test_info_shows_what_a_terminal_can_take_of_a_strangers_file(t2v):
    put_gif(Path("odd.gif"), json.dumps({"made_by": "t2v 0", "prompt": "\ud800 \x1b[2J"}))
    status, out, _ = t2v("info", "odd.gif")
    assert status == 0 and "\x1b" not in out


@pytest.mark.parametrize("name", ["x.gif", "x.mp4", "x.webm", "x.webp", "x.png", "x.txt", "x.safetensors", "x.pt"])
@pytest.mark.parametrize("content", [b"", b"some text\n" * 9, bytes(300)])
def test_info_of_other_files_is_one_line(refused, name, content):
    Path(name).write_bytes(content)
    assert name in refused("info", name)


def test_info_of_an_empty_folder_is_one_line(refused, tmp_path):
    assert "holds no saved step" in refused("info", tmp_path)


# check


def test_check_of_good_clips_is_a_report(t2v):
    for number in range(2):
        put_gif(Path(f"clips/red circle {number}.gif"), seed=number)
    status, out, err = t2v("check", "clips")
    assert status == 0
    assert out.startswith("clips: 2 clips, 0 files left out\n")
    assert "only 2 clips: a model will repeat them" in out
    assert out.splitlines()[-1] == "verdict: ok, every clip is read; 1 warning"
    assert err == "as the recipe small sees clips; t2v train chooses one itself unless it is told --recipe too\n"
    status, out, err = t2v("check", "clips", "--json", "--recipe", "tiny")
    assert (status, err) == (0, "")
    told = json.loads(out)
    assert (told["ok"], told["recipe"], told["settings"]["data"]["size"], len(told["clips"])) == (True, "tiny", 32, 2)


def test_check_names_what_is_left_out_and_ends_with_status_1(t2v):
    put_gif(Path("clips/good.gif"))
    Path("clips/bad.gif").write_text("no picture")
    status, out, _ = t2v("check", "clips")
    assert status == 1 and "bad.gif" in out
    status, out, _ = t2v("check", "clips", "--json")
    assert status == 1 and [item["key"] for item in json.loads(out)["left_out"]] == ["bad.gif"]


def test_check_of_nothing_is_one_line(refused):
    Path("empty").mkdir()
    assert "empty" in refused("check", "empty")
    assert "nowhere" in refused("check", "nowhere")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "neither was given. Try t2v check ./gifs, or t2v check --machine"),
        (("clips", "--machine"), "both were given"),
        (("clips", "--device", "cpu"), "--device says what --machine measures"),
        (("--machine", "--sheet", "x.png", "--recipe", "tiny"), "--recipe and --sheet can be had for clips"),
        (("clips", "--force"), "--force goes with --sheet or --html"),
        (("clips", "--json", "--clips", "a"), "--json has every clip"),
        (("clips", "--hold-out", "5%", "--set", "data.hold_out=0.1"), "give one of them"),
        (("clips", "--sheet", "x.jpg"), "x.jpg must end in .png"),
    ],
)
def test_check_takes_a_folder_or_the_machine(t2v, arguments, said):
    status, out, err = t2v("check", *arguments)
    assert (status, out) == (2, "") and said in " ".join(err.split())


def test_check_sees_clips_with_the_settings_that_are_typed(t2v, refused):
    for number in range(4):
        put_gif(Path(f"clips/red circle {number}.gif"), seed=number)
    asked = ("--recipe", "tiny", "--set", "data.size=16", "--set", "data.num_frames=2")
    out = t2v("check", "clips", *asked, "--clips", "circle 2").out
    assert "  seen as   2 pictures of 16 x 16 in colour" in out
    assert "  done      2 of 3 frames taken" in out and "circle 1.gif\n" not in out
    told = json.loads(t2v("check", "clips", *asked, "--json", "--hold-out", "50%").out)
    assert told["settings"]["data"]["hold_out"] == 0.5 and told["split"]["held out"]
    same = json.loads(t2v("check", "clips", *asked, "--json", "--set", "data.hold_out=0.5").out)
    assert told == same
    assert "--hold-out takes a share such as 5% or 0.05, not 'half'" in refused("check", "clips", "--hold-out", "half")
    assert "not '100%'" in refused("check", "clips", "--hold-out", "100%")
    assert "did you mean 'data.size'" in refused("check", "clips", "--set", "size=3")


def test_check_writes_a_sheet_and_a_page_and_never_over_a_file(t2v, refused):
    for number in range(2):
        put_gif(Path(f"clips/red circle {number}.gif"), seed=number)
    Path("page.html").write_text("precious")
    Path("page.html").chmod(0o600)
    before = {path: path.read_bytes() for path in Path("clips").rglob("*")}
    assert "page.html is there already; add --force" in refused("check", "clips", "--html", "page.html")
    for inside in ("clips/x.png", "clips/../clips/x.png"):
        assert "lies among the clips" in refused("check", "clips", "--sheet", inside)
    assert "nowhere is no folder to write into" in refused("check", "clips", "--sheet", "nowhere/x.png")
    assert Path("page.html").read_text() == "precious"
    status, out, err = t2v("check", "clips", "--sheet", "sheet.png", "--html", "page.html", "--force")
    assert status == 0 and out.splitlines()[-1].startswith("verdict: ")
    assert err.splitlines()[1:] == ["wrote sheet.png", "wrote page.html"]
    with Image.open("sheet.png") as picture:
        assert picture.format == "PNG"
    assert "red circle 1.gif" in Path("page.html").read_text(encoding="utf-8")
    assert {path: path.read_bytes() for path in Path("clips").rglob("*")} == before
    assert sorted(path.name for path in Path().iterdir()) == ["clips", "page.html", "sheet.png"]


def test_check_of_clips_needs_no_torch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    put_gif(Path("clips/a.gif"))
    code = (
        "import sys; sys.argv = ['t2v', 'check', 'clips', '--sheet', 'x.png', '--html', 'x.html', '--hold-out', '5%']\n"
        "from t2v.cli.main import main\n"
        "try: main()\n"
        "finally: assert not {'torch', 'imageio', 'av', 'gradio', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_check_of_the_machine_is_a_table_or_json(t2v, monkeypatch):
    asked = []
    monkeypatch.setattr(machine, "check_machine", lambda device: asked.append(device) or report())
    status, out, err = t2v("check", "--machine")
    assert (status, out.splitlines()) == (0, report().lines())
    assert err == "measuring this machine; keep it free of other work meanwhile\n"
    status, out, _ = t2v("check", "--machine", "--json", "--device", "cpu")
    assert (status, json.loads(out)) == (0, json.loads(json.dumps(report().as_dict())))
    assert asked == ["auto", "cpu"]


def report():
    return machine.MachineReport(
        device="cpu",
        processor="a made-up one",
        devices={"cuda": False},
        num_cores=2,
        num_threads=1,
        memory_gb=None,
        torch="2.13",
        compiler=None,
        eight_bit=None,
        matmul={"fp32": 280.0, "bf16": 1300.0},
        convolution={"fp32": 200.0, "bf16": 2500.0},
        copying=10.0,
        precision=Precision("bf16", "made up"),
        paces=(machine.Pace("tiny", 8, 0.5),),
    )


# worlds


def test_worlds_are_drawn_again_from_their_seed(t2v):
    for folder in ("one", "two"):
        status, out, err = t2v("worlds", folder, "-n", 3, "--size", 16, "--frames", 4, "--seed", 5)
        assert (status, out, err) == (0, f"3 clips in {folder}\n", "")
    one, two = (sorted(path for path in Path(folder).rglob("*") if path.is_file()) for folder in ("one", "two"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    assert sum(path.suffix == ".gif" for path in one) == 3
    assert t2v("check", "one").status == 0


def test_worlds_draw_only_the_families_and_the_split_that_are_asked_for(t2v):
    drawn = ("-n", 6, "--size", 16, "--frames", 4, "--seed", 5)
    for folder, split in (("seen", "seen"), ("rest", "unseen-combinations")):
        status, _, err = t2v("worlds", folder, *drawn, "--families", "suns, waves", "--split", split)
        assert (status, err) == (0, "")
        assert {path.name.split("-")[0] for path in Path(folder).glob("*.gif")} <= {"suns", "waves"}
    one, two = ([path.read_bytes() for path in sorted(Path(folder).iterdir())] for folder in ("seen", "rest"))
    assert one != two


def test_an_unknown_family_of_worlds_is_refused(refused):
    assert "unknown family 'sun'; known are shapes, fireworks" in refused("worlds", "new", "--families", "sun")
    assert not Path("new").exists()


def test_worlds_never_mix_with_what_is_there(refused):
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("precious")
    assert "mine" in refused("worlds", "mine", "-n", 1)
    assert [path.name for path in Path("mine").iterdir()] == ["thesis.txt"]


# import and export


@pytest.fixture
def foreign(tmp_path):
    state = load_file(GOLDEN / "lucidrains_unet_nocond.safetensors")
    torch.save({"step": 3, "model": {}, "ema": state}, tmp_path / "model.pt")
    return tmp_path / "model.pt"


def test_an_imported_model_is_drawn_from(t2v, foreign):
    status, out, err = t2v("import", foreign, "models/out.safetensors", "--size", 8, "--frames", 2)
    assert (status, out, err) == (0, "models/out.safetensors  dim 8, mults 1 2 4, text none\n", "")
    assert json.loads(t2v("info", "models/out.safetensors").out)["step"] == 3
    status, _, err = t2v("generate", "--checkpoint", "models/out.safetensors", "--steps", 2)
    assert (status, err) == (0, "")


def test_import_refuses_in_one_line(refused, foreign):
    assert "data.size must be a multiple of 4" in refused("import", foreign, "out.safetensors", "--size", 9)
    assert "there is no file nowhere.pt" in refused("import", "nowhere.pt", "out.safetensors")
    # Its raw weights, unlike its averaged ones, are not there.
    assert "'init_conv.weight' are missing" in refused("import", foreign, "out.safetensors", "--no-ema")


def test_export_of_a_run_is_one_small_file_that_draws(t2v, make_checkpoint):
    path = make_checkpoint()
    run = RunFolder(Path("runs/gifs"))
    run.create()
    run.save_step(7, lambda folder: folder.ema.write_bytes(path.read_bytes()))
    status, out, err = t2v("export", "runs/gifs", "new/model.safetensors")
    assert (status, err) == (0, "")
    assert out.startswith("new/model.safetensors  0.")
    assert out.endswith(" MB, 7 steps\n")
    assert Path("new/model.safetensors").stat().st_size < path.stat().st_size
    assert t2v("generate", "--checkpoint", "new/model.safetensors", "--steps", 2).status == 0
