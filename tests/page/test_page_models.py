"""What a visitor may choose: names on a list, each loaded once, and anew when a run has gone on."""

import shutil

import pytest

from t2v.errors import CheckpointError
from t2v.page.models import BOX, MAX_LOADED, Models


@pytest.fixture
def folders(tmp_path):
    return {"runs": tmp_path / "runs", "checkpoints": tmp_path / "checkpoints"}


@pytest.fixture
def add_step(make_checkpoint, folders):
    """A saved step of a run, as training leaves it, with its averaged weights only."""

    def add(run: str, step: int):
        from t2v.checkpoint.run_folder import RunFolder

        folder = RunFolder(folders["runs"] / run)
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.checkpoints.mkdir(exist_ok=True)
        file = make_checkpoint(f"{run}-{step}.safetensors", step=step)
        return folder.save_step(step, lambda made: shutil.copy(file, made.ema))

    return add


def test_the_list_holds_the_chosen_one_the_box_files_and_runs(make_checkpoint, folders, add_step):
    make_checkpoint("checkpoints/mine.safetensors")
    add_step("gifs", 40)
    (folders["runs"] / "empty").mkdir()
    chosen = make_checkpoint("chosen.safetensors")
    names = Models(**folders, chosen=chosen).names()
    assert names == [str(chosen), BOX, "checkpoints/mine.safetensors", "runs/gifs"]


def test_one_file_is_offered_once(make_checkpoint, folders):
    mine = make_checkpoint("checkpoints/mine.safetensors")
    assert Models(**folders, chosen=mine).names() == [str(mine), BOX]


def test_a_path_is_no_name(make_checkpoint, folders):
    other = make_checkpoint("elsewhere/other.safetensors")
    models = Models(**folders)
    for name in (str(other), "../elsewhere/other.safetensors", "checkpoints/../elsewhere/other.safetensors", ""):
        with pytest.raises(CheckpointError, match="no checkpoint"):
            models.service(name)


def test_a_model_is_loaded_once(make_checkpoint, folders):
    models = Models(**folders, chosen=make_checkpoint())
    name = models.names()[0]
    assert models.service(name) is models.service(name)


def test_a_run_that_went_on_is_loaded_anew(folders, add_step):
    models = Models(**folders)
    add_step("gifs", 40)
    assert models.service("runs/gifs").header.step == 40
    add_step("gifs", 80)
    assert models.service("runs/gifs").header.step == models.header("runs/gifs").step == 80


def test_few_models_are_held_and_the_last_used_stay(make_checkpoint, folders):
    for number in range(MAX_LOADED + 1):
        make_checkpoint(f"checkpoints/{number}.safetensors")
    models = Models(**folders)
    names = [f"checkpoints/{number}.safetensors" for number in range(MAX_LOADED + 1)]
    first, second = models.service(names[0]), models.service(names[1])
    assert models.service(names[0]) is first  # now the second is the one not used for longest
    models.service(names[2])
    assert models.service(names[0]) is first
    assert models.service(names[1]) is not second


def test_a_broken_file_is_a_sentence(folders):
    folders["checkpoints"].mkdir()
    (folders["checkpoints"] / "bad.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        Models(**folders).service("checkpoints/bad.safetensors")


def test_a_clips_own_word_for_its_model_leads_back_to_it(make_checkpoint, folders, add_step):
    make_checkpoint("checkpoints/mine.safetensors")
    add_step("gifs", 40)
    models = Models(**folders)
    for name in ("checkpoints/mine.safetensors", "runs/gifs"):
        assert models.made(models.service(name).checkpoint.name) == name
    assert models.made("worlds.safetensors") == BOX
    assert models.made("gone.safetensors") is None and models.made("gone/step-00000001") is None
