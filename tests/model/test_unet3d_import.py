"""Foreign weights are understood whole or refused by name."""

import pytest
import torch
from safetensors.torch import load_file

from t2v.errors import CheckpointError
from t2v.model.lucidrains import state_from_trainer, unet_weights
from t2v.model.unet3d import Unet3D


@pytest.fixture
def state(golden_folder):
    """A state dict of the original, without text."""
    return load_file(golden_folder / "lucidrains_unet_nocond.safetensors")


def built(state):
    settings, weights = unet_weights(state)
    network = Unet3D(**settings)
    network.load_state_dict(weights)
    return network


def test_the_settings_are_read_off_the_shapes(state):
    assert unet_weights(state).settings == {
        "dim": 8,
        "cond_dim": None,
        "out_dim": 3,
        "dim_mults": (1, 2, 4),
        "channels": 3,
        "attn_heads": 4,
        "attn_dim_head": 8,
        "init_dim": 8,
        "init_kernel_size": 7,
        "spatial_attn": "linear",
    }


def test_a_gaussian_diffusion_holds_the_same_network(state):
    wrapped = {f"denoise_fn.{name}": tensor for name, tensor in state.items()}
    wrapped |= {"betas": torch.zeros(100), "alphas_cumprod": torch.zeros(100)}
    plain = unet_weights(state).state
    for name, tensor in unet_weights(wrapped).state.items():
        assert torch.equal(tensor, plain[name])


def test_text_is_recognised_and_left_unscaled(state):
    x, t = torch.randn(2, 3, 2, 8, 8), torch.tensor([5, 700])
    expected = built(state)(x, t)
    # Weights that ignore the text: the answer must be that of the network without one.
    for name in [name for name in state if name.endswith(".mlp.1.weight")]:
        state[name] = torch.cat((state[name], torch.zeros(len(state[name]), 24)), dim=1)
    network = built(state | {"null_cond_emb": torch.randn(1, 24)})
    assert network.cond_dim == 24
    assert torch.equal(network.text_mean, torch.zeros(24)) and torch.equal(network.text_std, torch.ones(24))
    text = {"pooled": torch.randn(2, 24), "is_null": torch.tensor([False, True])}
    torch.testing.assert_close(network(x, t, text), expected)


def test_a_network_without_linear_attention_is_recognised(state):
    state = {name: tensor for name, tensor in state.items() if name.split(".")[2:3] != ["2"]}
    assert unet_weights(state).settings["spatial_attn"] == "none"
    assert built(state)(torch.randn(1, 3, 2, 8, 8), torch.tensor([0])).isfinite().all()


def test_a_trainers_file_offers_averaged_and_raw_weights(state):
    ema, model = ({"betas": torch.zeros(250), "denoise_fn.x": torch.tensor(value)} for value in (1.0, 2.0))
    checkpoint = {"step": 7, "model": model, "ema": ema, "scaler": {}}
    assert state_from_trainer(checkpoint) == (ema, 250)
    assert state_from_trainer(checkpoint, ema=False) == (model, 250)
    assert state_from_trainer({"ema": state}).num_timesteps is None


@pytest.mark.parametrize("checkpoint", [{}, {"state_dict": {}, "step": 1}, {"ema": 3}])
def test_another_trainers_file_is_refused(checkpoint):
    with pytest.raises(CheckpointError, match="'ema' is missing"):
        state_from_trainer(checkpoint)


def test_missing_weights_are_named(state):
    for name in ("init_conv.weight", "downs.1.0.block1.proj.weight", "final_conv.1.weight"):
        with pytest.raises(CheckpointError, match=f"'{name}' are missing"):
            unet_weights({key: tensor for key, tensor in state.items() if key != name})
    del state["mid_block1.block2.norm.gamma"]
    with pytest.raises(CheckpointError, match=r"'mid_block1\.block2\.gain' are missing"):
        unet_weights(state)


def test_unknown_weights_are_named(state):
    with pytest.raises(CheckpointError, match=r"unknown weights 'downs.0.0.block1.norm.weight'"):
        unet_weights(state | {"downs.0.0.block1.norm.weight": torch.ones(8)})


def test_weights_of_a_wrong_shape_are_named(state):
    with pytest.raises(CheckpointError, match=r"'time_mlp.3.bias' have shape \(5,\) where \(32,\) was expected"):
        unet_weights(state | {"time_mlp.3.bias": torch.zeros(5)})
    with pytest.raises(CheckpointError, match=r"'init_conv.weight' have shape \(8, 27\), not 5 dimensions"):
        unet_weights(state | {"init_conv.weight": torch.zeros(8, 27)})


def test_what_is_no_tensor_is_named(state):
    with pytest.raises(CheckpointError, match="'epoch' is not a tensor"):
        unet_weights(state | {"epoch": 3})


def test_a_different_rotation_is_refused(state):
    name = "mid_temporal_attn.fn.fn.fn.rotary_emb.freqs"
    with pytest.raises(CheckpointError, match=f"'{name}' holds rotary frequencies"):
        unet_weights(state | {name: state[name] * 1.01})
