"""Models of video-diffusion-pytorch come in as they are, and nothing that lies in their files is run."""

import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from t2v.checkpoint import load_checkpoint
from t2v.checkpoint.foreign import import_checkpoint
from t2v.config import DiffusionSettings, GenerationSettings
from t2v.errors import CheckpointError, SettingsError, T2VError
from t2v.service import GenerationService

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def state():
    return load_file(GOLDEN / "lucidrains_unet_nocond.safetensors")


@pytest.fixture
def target(tmp_path):
    return tmp_path / "models" / "out.safetensors"


def in_diffusion(state, num_timesteps=250):
    """What its GaussianDiffusion saves: the network under a prefix, and the schedule."""
    return {f"denoise_fn.{name}": tensor for name, tensor in state.items()} | {"betas": torch.zeros(num_timesteps)}


def in_trainer(state):
    other = {
        name: tensor + 1 if tensor.is_floating_point() and "freqs" not in name else tensor
        for name, tensor in state.items()
    }
    return {"step": 7, "model": in_diffusion(other), "ema": in_diffusion(state), "scaler": {"scale": 65536.0}}


FORMS = {"plain": lambda state: state, "diffusion": in_diffusion, "trainer": in_trainer}


def saved(tmp_path, content, name="model.pt"):
    torch.save(content, tmp_path / name)
    return tmp_path / name


@pytest.mark.golden("lucidrains_unet_io", "nocond_forward")
@pytest.mark.parametrize("form", FORMS)
def test_an_imported_network_answers_as_the_original(golden_case, state, tmp_path, target, form):
    import_checkpoint(saved(tmp_path, FORMS[form](state)), target, size=16)
    with torch.no_grad():
        out = load_checkpoint(target).network()(golden_case.shared("x"), golden_case.shared("time"))
    golden_case.check("out", out)


@pytest.mark.parametrize("form, num_timesteps, step", [("plain", 1000, 0), ("diffusion", 250, 0), ("trainer", 250, 7)])
def test_the_header_tells_what_the_file_knows(state, tmp_path, target, form, num_timesteps, step):
    header = import_checkpoint(saved(tmp_path, FORMS[form](state)), target, num_frames=6, size=32)
    assert header == load_checkpoint(target).header
    assert header.recipe.diffusion == DiffusionSettings(
        num_timesteps=num_timesteps, schedule="cosine", prediction="eps", loss="l1"
    )
    assert (header.recipe.data.num_frames, header.recipe.data.size, header.recipe.data.channels) == (6, 32, 3)
    assert (header.step, header.cond_dim, header.recipe.model.dim_mults) == (step, None, (1, 2, 4))


def test_the_encoder_is_the_classic_one_unless_told(state, tmp_path, target):
    source = saved(tmp_path, state)
    assert import_checkpoint(source, target).recipe.text.encoder == "bert-base-cased"
    assert (
        import_checkpoint(source, target, encoder="./mine").recipe.text.model_dump().items()
        >= {
            "encoder": "./mine",
            "pooling": "mean",
        }.items()
    )


def test_raw_weights_can_be_taken_instead_of_averaged_ones(state, tmp_path, target):
    source = saved(tmp_path, in_trainer(state))
    weights = []
    for averaged in (True, False):
        import_checkpoint(source, target, averaged=averaged)
        weights.append(load_checkpoint(target).weights["init_conv.weight"])
    torch.testing.assert_close(weights[1], weights[0] + 1)


def test_a_safetensors_file_of_theirs_comes_in_too(state, tmp_path, target):
    save_file(in_diffusion(state), tmp_path / "theirs.safetensors")
    assert import_checkpoint(tmp_path / "theirs.safetensors", target).recipe.diffusion.num_timesteps == 250


def test_an_imported_model_draws_clips(state, tmp_path, target):
    import_checkpoint(saved(tmp_path, state), target, num_frames=2, size=8)
    service = GenerationService.load(target, device="cpu")
    *_, last = service.generate(GenerationSettings(num_steps=2, seed=1))
    assert last.finished[0].frames.shape == (2, 8, 8, 3)


# What is refused.


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("write", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_what_would_run_on_opening_is_refused_and_not_run(state, tmp_path, target, write):
    source, sprung = tmp_path / "model.pt", tmp_path / "sprung"
    write({**in_trainer(state), "scaler": Trap(sprung)}, source)
    with pytest.raises(CheckpointError, match="could run anything") as caught:
        import_checkpoint(source, target)
    # torch's own words tell people to switch the protection off.
    assert "weights_only" not in str(caught.value) and "\n" not in str(caught.value)
    assert not sprung.exists() and not target.exists()
    pickle.loads(pickle.dumps(Trap(sprung)))
    assert sprung.exists(), "the trap works where it is not refused"


def test_a_whole_module_is_refused(tmp_path, target):
    with pytest.raises(CheckpointError, match=r"save its state_dict\(\) instead"):
        import_checkpoint(saved(tmp_path, torch.nn.Linear(2, 2)), target)


CONTENTS = {
    "a tensor": torch.zeros(3),
    "a list": [torch.zeros(3)],
    "nothing": {},
    "numbered weights": {0: torch.zeros(3)},
    "another network": {"conv.weight": torch.zeros(3)},
    "another trainer": {"model": {"conv.weight": torch.zeros(3)}, "optimizer": {}},
    "a stray number": {"epoch": 3},
    "an empty trainer": {"ema": {}, "model": {}},
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_other_contents_are_refused_in_one_line(tmp_path, target, content):
    with pytest.raises(CheckpointError, match=r"model\.pt") as caught:
        import_checkpoint(saved(tmp_path, content), target)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300
    assert not target.exists()


@pytest.mark.parametrize("content", [b"", b"text " * 20, bytes(1000), b"GIF89a" + bytes(50), b"PK\x03\x04" + bytes(99)])
@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_other_files_are_refused_in_one_line(tmp_path, target, content, ending):
    source = tmp_path / f"model{ending}"
    source.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"is not a whole|is damaged") as caught:
        import_checkpoint(source, target)
    assert "\n" not in str(caught.value)


def test_a_truncated_file_is_refused(state, tmp_path, target):
    source = saved(tmp_path, state)
    source.write_bytes(source.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match=r"is not a whole file of torch\.save"):
        import_checkpoint(source, target)


def test_a_missing_file_is_refused(tmp_path, target):
    with pytest.raises(CheckpointError, match="there is no file"):
        import_checkpoint(tmp_path / "nowhere.pt", target)


def test_one_of_our_own_is_told_apart(make_checkpoint, target):
    with pytest.raises(CheckpointError, match="t2v wrote itself"):
        import_checkpoint(make_checkpoint(), target)


def test_a_target_of_another_ending_is_refused(state, tmp_path):
    with pytest.raises(CheckpointError, match=r"out.pt must end in .safetensors"):
        import_checkpoint(saved(tmp_path, state), tmp_path / "out.pt")


@pytest.mark.parametrize(
    "options, reason",
    [
        ({"size": 63}, "data.size must be a multiple of 4 with this model, not 63"),
        ({"size": 4096}, "data.size: .*512, not 4096"),
        ({"num_frames": 1000}, "data.num_frames: .*128, not 1000"),
    ],
)
def test_settings_that_t2v_cannot_draw_are_refused(state, tmp_path, target, options, reason):
    with pytest.raises(SettingsError, match=reason):
        import_checkpoint(saved(tmp_path, state), target, **options)
    assert not target.exists()


def test_a_network_with_another_output_is_refused(state, tmp_path, target):
    wide = {**state, "final_conv.1.weight": torch.zeros(6, 8, 1, 1, 1), "final_conv.1.bias": torch.zeros(6)}
    with pytest.raises(CheckpointError, match="its output has 6 channels, its clips have 3"):
        import_checkpoint(saved(tmp_path, wide), target)


@pytest.mark.parametrize("step", ["seven", -1])
def test_a_senseless_count_of_steps_is_refused(state, tmp_path, target, step):
    with pytest.raises(T2VError, match="step"):
        import_checkpoint(saved(tmp_path, {**in_trainer(state), "step": step}), target)
