"""Every part of the classic network (lucidrains, MIT) is reproduced by itself, in float32 and in float64."""

from functools import partial

import pytest
import torch
from einops import rearrange
from rotary_embedding_torch import RotaryEmbedding

from t2v.model.attention import PreNormResidual, SpatialAttention, SpatialLinearAttention, TemporalAttention
from t2v.model.blocks import Block, ResnetBlock, frame_downsample
from t2v.model.norms import rms_normalize
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
golden = partial(pytest.mark.golden, "lucidrains_unet_io")


def loaded(module, weights, dtype):
    """The module with these weights; dimensions of 1 in them are dropped."""
    expected = module.state_dict()
    module.load_state_dict({name: weights[name].reshape(expected[name].shape) for name in weights})
    return module.to(dtype)


def renamed(case, **names):
    """The case's weights, the dots of their names written as `__`, under our names; others are left out."""
    return {ours: case[f"w/{theirs.replace('__', '.')}"] for theirs, ours in names.items()}


def frames_first(x):
    return rearrange(x, "b c f h w -> b f h w c")


def channels_first(x):
    return rearrange(x, "b f h w c -> b c f h w")


@golden("temporal_attn_*")
def test_temporal_attention(golden_case, dtype):
    case = golden_case
    args = case.args
    attention = TemporalAttention(args["dim"], heads=args["heads"], dim_head=args["dim_head"])
    loaded(attention, renamed(case, fn__to_qkv__weight="to_qkv.weight", fn__to_out__weight="to_out.weight"), dtype)
    rotation = frame_rotation(rotary_frequencies(args["dim_head"]).to(dtype), case["x"].shape[2])
    positions = FramePositions(rotation, case["in_pos_bias"].to(dtype)[None, None])
    if "focus" in args:
        positions = positions.focus_present(torch.tensor(args["focus"]))
    case.check("out", channels_first(attention(frames_first(case["x"].to(dtype)), positions).detach()))


@golden("spatial_full_*")
def test_spatial_attention(golden_case, dtype):
    case = golden_case
    attention = SpatialAttention(case.args["dim"], heads=case.args["heads"])
    loaded(attention, renamed(case, fn__to_qkv__weight="to_qkv.weight", fn__to_out__weight="to_out.weight"), dtype)
    case.check("out", channels_first(attention(frames_first(case["x"].to(dtype))).detach()))


@golden("spatial_linear_*")
def test_spatial_linear_attention(golden_case, dtype):
    case = golden_case
    attention = loaded(SpatialLinearAttention(8, heads=2), case.under("w/"), dtype)
    case.check("out", channels_first(attention(frames_first(case["x"].to(dtype))).detach()))


@golden("residual_*")
def test_norm_before_and_residual_after(golden_case, dtype):
    case = golden_case
    weights = renamed(
        case,
        fn__norm__gamma="norm.weight",
        fn__fn__to_qkv__weight="fn.to_qkv.weight",
        fn__fn__to_out__weight="fn.to_out.weight",
        fn__fn__to_out__bias="fn.to_out.bias",
    )
    attention = loaded(PreNormResidual(8, SpatialLinearAttention(8, heads=2)), weights, dtype)
    case.check("out", channels_first(attention(frames_first(case["x"].to(dtype))).detach()))


@golden("layernorm_*")
def test_layer_norm(golden_case, dtype):
    case = golden_case
    norm = PreNormResidual(16, torch.nn.Identity()).norm
    loaded(norm, renamed(case, gamma="weight"), dtype)
    case.check("out", channels_first(norm(frames_first(case["x"].to(dtype))).detach()))


@golden("rmsnorm_*")
def test_rms_norm(golden_case, dtype):
    case = golden_case
    gain = case["w/gamma"].flatten().to(dtype)
    case.check("out", channels_first(rms_normalize(frames_first(case["x"].to(dtype))) * gain))


BLOCK = {"proj__weight": "conv.weight", "proj__bias": "conv.bias", "norm__gamma": "gain"}


@golden("block_*")
def test_block(golden_case, dtype):
    case = golden_case
    block = loaded(Block(6, 8), renamed(case, **BLOCK), dtype)
    scale, shift = (case[f"in_{each}"].flatten(1).to(dtype) for each in ("scale", "shift"))
    case.check("out", channels_first(block(frames_first(case["x"].to(dtype)), (scale, shift)).detach()))


@golden("resnet_*")
def test_resnet_block(golden_case, dtype):
    case = golden_case
    block = ResnetBlock(case.args["dim"], case.args["dim_out"], embedding_dim=case.args["time_emb_dim"])
    names = {"mlp__1__weight": "to_scale_shift.weight", "mlp__1__bias": "to_scale_shift.bias"}
    names |= {f"{each}__{theirs}": f"{each}.{ours}" for each in ("block1", "block2") for theirs, ours in BLOCK.items()}
    if case.name == "resnet_time":
        names |= {"res_conv__weight": "skip.weight", "res_conv__bias": "skip.bias"}
    loaded(block, renamed(case, **names), dtype)
    out = block(frames_first(case["x"].to(dtype)), case["in_time_emb"].to(dtype))
    case.check("out", channels_first(out.detach()))


@golden("downsample")
def test_downsample(golden_case, dtype):
    case = golden_case
    downsample = loaded(frame_downsample(6), case.under("w/"), dtype)
    case.check("out", channels_first(downsample(frames_first(case["x"].to(dtype))).detach()))


@golden("relpos_*")
def test_relative_position_bias(golden_case, dtype):
    case = golden_case
    bias = RelativePositionBias(case.args["heads"], max_distance=case.args["max_distance"])
    loaded(bias, renamed(case, relative_attention_bias__weight="weight"), dtype)
    bucket = distance_bucket(case["rel_pos"], max_distance=case.args["max_distance"])
    assert torch.equal(bucket, case["bucket"])
    case.check("out", bias(case.args["n"]).detach())


@golden("sinusoidal_*")
def test_time_embedding(golden_case, dtype):
    case = golden_case
    case.check("out", sinusoidal(case["t"], dim=case.args["dim"], dtype=dtype))


@golden("rotary_*")
def test_rotation(golden_case, dtype):
    case = golden_case
    frequencies = rotary_frequencies(case.args["dim"])
    assert torch.equal(frequencies, case["freqs"])
    case.check("out", rotate(case["x"].to(dtype), frame_rotation(frequencies.to(dtype), case.args["n"])))


def test_a_wide_head_turns_only_its_first_features(dtype):
    features = torch.randn(2, 7, 48, dtype=dtype)
    library = RotaryEmbedding(32).to(dtype)
    rotation = frame_rotation(rotary_frequencies(48).to(dtype), 7)
    torch.testing.assert_close(rotate(features, rotation), library.rotate_queries_or_keys(features))
