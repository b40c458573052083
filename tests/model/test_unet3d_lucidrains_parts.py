"""Every part of the classic network (lucidrains, MIT) is reproduced by itself, in float32 and in float64."""

import pytest
import torch
from einops import rearrange
from rotary_embedding_torch import RotaryEmbedding

from t2v.model.attention import PreNormResidual, SpatialAttention, SpatialLinearAttention, TemporalAttention
from t2v.model.blocks import Block, ResnetBlock, frame_downsample, rms_normalize
from t2v.model.positions import (
    FramePositions,
    RelativePositionBias,
    distance_bucket,
    frame_rotation,
    rotary_frequencies,
    rotate,
    sinusoidal,
)

DTYPES = [torch.float32, torch.float64]

pytestmark = pytest.mark.parametrize("dtype", DTYPES)


def loaded(module, weights, dtype):
    """The module with these weights; dimensions of 1 in them are dropped."""
    expected = module.state_dict()
    module.load_state_dict({name: weights[name].reshape(expected[name].shape) for name in weights})
    return module.to(dtype)


def renamed(case, **names):
    """The case's weights, the dots of their names written as `__`, under our names; others are left out."""
    return {ours: case.module_weights()[theirs.replace("__", ".")] for theirs, ours in names.items()}


def frames_first(x):
    return rearrange(x, "b c f h w -> b f h w c")


def channels_first(x):
    return rearrange(x, "b f h w c -> b c f h w")


@pytest.mark.parametrize("name", ["temporal_attn_rotary_bias", "temporal_attn_focus_mixed", "temporal_attn_focus_all"])
def test_temporal_attention(lucidrains, name, dtype):
    case = lucidrains.case(name)
    args = case.args
    attention = TemporalAttention(args["dim"], heads=args["heads"], dim_head=args["dim_head"])
    loaded(attention, renamed(case, fn__to_qkv__weight="to_qkv.weight", fn__to_out__weight="to_out.weight"), dtype)
    rotation = frame_rotation(rotary_frequencies(args["dim_head"]).to(dtype), case["x"].shape[2])
    positions = FramePositions(rotation, case["in_pos_bias"].to(dtype)[None, None])
    if "focus" in args:
        positions = positions.focus_present(torch.tensor(args["focus"]))
    case.check("out", channels_first(attention(frames_first(case["x"].to(dtype)), positions).detach()))


def test_spatial_attention(lucidrains, dtype):
    case = lucidrains.case("spatial_full_attn")
    attention = SpatialAttention(case.args["dim"], heads=case.args["heads"])
    loaded(attention, renamed(case, fn__to_qkv__weight="to_qkv.weight", fn__to_out__weight="to_out.weight"), dtype)
    case.check("out", channels_first(attention(frames_first(case["x"].to(dtype))).detach()))


def test_spatial_linear_attention(lucidrains, dtype):
    case = lucidrains.case("spatial_linear_attn_8")
    attention = loaded(SpatialLinearAttention(8, heads=2), case.module_weights(), dtype)
    case.check("out", channels_first(attention(frames_first(case["x"].to(dtype))).detach()))


def test_norm_before_and_residual_after(lucidrains, dtype):
    case = lucidrains.case("residual_prenorm_spatial_linear_attn")
    weights = renamed(
        case,
        fn__norm__gamma="norm.weight",
        fn__fn__to_qkv__weight="fn.to_qkv.weight",
        fn__fn__to_out__weight="fn.to_out.weight",
        fn__fn__to_out__bias="fn.to_out.bias",
    )
    attention = loaded(PreNormResidual(8, SpatialLinearAttention(8, heads=2)), weights, dtype)
    case.check("out", channels_first(attention(frames_first(case["x"].to(dtype))).detach()))


def test_layer_norm(lucidrains, dtype):
    case = lucidrains.case("layernorm_16")
    norm = PreNormResidual(16, torch.nn.Identity()).norm
    loaded(norm, renamed(case, gamma="weight"), dtype)
    case.check("out", channels_first(norm(frames_first(case["x"].to(dtype))).detach()))


@pytest.mark.parametrize("name", ["rmsnorm_16", "rmsnorm_6"])
def test_rms_norm(lucidrains, name, dtype):
    case = lucidrains.case(name)
    gain = case.module_weights()["gamma"].flatten().to(dtype)
    case.check("out", channels_first(rms_normalize(frames_first(case["x"].to(dtype))) * gain))


BLOCK = {"proj__weight": "conv.weight", "proj__bias": "conv.bias", "norm__gamma": "gain"}


def test_block(lucidrains, dtype):
    case = lucidrains.case("block_scale_shift")
    block = loaded(Block(6, 8), renamed(case, **BLOCK), dtype)
    scale, shift = (case[f"in_{each}"].flatten(1).to(dtype) for each in ("scale", "shift"))
    case.check("out", channels_first(block(frames_first(case["x"].to(dtype)), (scale, shift)).detach()))


@pytest.mark.parametrize("name", ["resnet_time", "resnet_time_same"])
def test_resnet_block(lucidrains, name, dtype):
    case = lucidrains.case(name)
    block = ResnetBlock(case.args["dim"], case.args["dim_out"], embedding_dim=case.args["time_emb_dim"])
    names = {"mlp__1__weight": "to_scale_shift.weight", "mlp__1__bias": "to_scale_shift.bias"}
    names |= {f"{each}__{theirs}": f"{each}.{ours}" for each in ("block1", "block2") for theirs, ours in BLOCK.items()}
    if name == "resnet_time":
        names |= {"res_conv__weight": "skip.weight", "res_conv__bias": "skip.bias"}
    loaded(block, renamed(case, **names), dtype)
    out = block(frames_first(case["x"].to(dtype)), case["in_time_emb"].to(dtype))
    case.check("out", channels_first(out.detach()))


def test_downsample(lucidrains, dtype):
    case = lucidrains.case("downsample")
    downsample = loaded(frame_downsample(6), case.module_weights(), dtype)
    case.check("out", channels_first(downsample(frames_first(case["x"].to(dtype))).detach()))


@pytest.mark.parametrize("name", ["relpos_n10_md32_h4", "relpos_n40_md32_h2", "relpos_n10_md128_h4"])
def test_relative_position_bias(lucidrains, name, dtype):
    case = lucidrains.case(name)
    bias = RelativePositionBias(case.args["heads"], max_distance=case.args["max_distance"])
    loaded(bias, renamed(case, relative_attention_bias__weight="weight"), dtype)
    bucket = distance_bucket(case["rel_pos"], max_distance=case.args["max_distance"])
    assert torch.equal(bucket, case["bucket"])
    case.check("out", bias(case.args["n"]).detach())


@pytest.mark.parametrize("name", ["sinusoidal_16", "sinusoidal_8"])
def test_time_embedding(lucidrains, name, dtype):
    case = lucidrains.case(name)
    case.check("out", sinusoidal(case["t"], dim=case.args["dim"], dtype=dtype))


@pytest.mark.parametrize("name", ["rotary_16_n5", "rotary_32_n12"])
def test_rotation(lucidrains, name, dtype):
    case = lucidrains.case(name)
    frequencies = rotary_frequencies(case.args["dim"])
    assert torch.equal(frequencies, case["freqs"])
    case.check("out", rotate(case["x"].to(dtype), frame_rotation(frequencies.to(dtype), case.args["n"])))


def test_a_wide_head_turns_only_its_first_features(dtype):
    features = torch.randn(2, 7, 48, dtype=dtype)
    library = RotaryEmbedding(32).to(dtype)
    rotation = frame_rotation(rotary_frequencies(48).to(dtype), 7)
    torch.testing.assert_close(rotate(features, rotation), library.rotate_queries_or_keys(features))
