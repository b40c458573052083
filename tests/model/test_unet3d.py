"""What the network promises, whatever its weights."""

from typing import get_args

import pytest
import torch
from einops import rearrange
from torch.nn import functional as F

from t2v.config import SpatialAttentionName
from t2v.model.attention import SpatialAttention, SpatialLinearAttention, TemporalAttention
from t2v.model.blocks import ResnetBlock
from t2v.model.positions import RelativePositionBias, distance_bucket
from t2v.model.unet3d import SPATIAL, Unet3D

COND_DIM = 6


def small(seed=0, **changes):
    """A tiny network in float64, the same for the same seed."""
    settings = {"dim": 8, "cond_dim": COND_DIM, "dim_mults": (1, 2), "attn_heads": 2, "attn_dim_head": 4} | changes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Unet3D(settings.pop("dim"), **settings).double()


def draw(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def captions(num_clips, *, null=False, seed=2):
    return {"pooled": draw(num_clips, COND_DIM, seed=seed), "is_null": torch.full((num_clips,), null)}


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.inference_mode():
        yield


def test_a_clip_does_not_see_its_neighbours():
    network, x, t, text = small(), draw(3, 3, 4, 8, 8), torch.tensor([0, 400, 999]), captions(3)
    together = network(x, t, text)
    for i in range(3):
        alone = network(x[i : i + 1], t[i : i + 1], {key: value[i : i + 1] for key, value in text.items()})
        torch.testing.assert_close(alone, together[i : i + 1])


def test_frames_see_each_other_unless_they_are_stills():
    network, x, t = small(), draw(2, 3, 4, 8, 8), torch.tensor([300, 300])
    # The first attention sees all frames even of stills, as in the original; here only the others are looked at.
    network.init_temporal.fn.to_out.weight.zero_()
    changed = x.clone()
    changed[:, :, 3] += 1
    mask = torch.tensor([True, False])
    before, after = (network(clips, t, focus_present_mask=mask)[:, :, :3] for clips in (x, changed))
    torch.testing.assert_close(before[0], after[0])
    assert (before[1] - after[1]).abs().max() > 1e-6


def test_a_still_leaves_the_clips_beside_it_alone():
    network, x, t = small(), draw(2, 3, 4, 8, 8), torch.tensor([300, 300])
    mixed = network(x, t, focus_present_mask=torch.tensor([True, False]))
    torch.testing.assert_close(mixed[1], network(x, t)[1])
    torch.testing.assert_close(mixed[0], network(x, t, focus_present_mask=torch.tensor([True, True]))[0])


def test_a_clip_of_one_frame_is_a_frame_held_to_the_present():
    network, x, t, text = small(), draw(2, 3, 4, 8, 8), torch.tensor([0, 700]), captions(2)
    network.init_temporal.fn.to_out.weight.zero_()  # the only place where the mask lets frames see each other
    held = network(x, t, text, focus_present_mask=torch.tensor([True, True]))
    for k in range(4):
        torch.testing.assert_close(network(x[:, :, k : k + 1], t, text), held[:, :, k : k + 1])
    assert (network(x, t, text) - held).abs().max() > 1e-6


def test_one_frame_gives_every_weight_a_gradient_as_processes_that_train_together_wait_for_it():
    with torch.inference_mode(False):
        network, x, t = small(), draw(2, 3, 1, 8, 8), torch.tensor([10, 600])
        text = captions(2) | {"is_null": torch.tensor([True, False])}
        network(x, t, text).square().mean().backward()
        assert all(weights.grad is not None for weights in network.parameters())
        assert torch.equal(network.relative_bias.weight.grad, torch.zeros_like(network.relative_bias.weight))


def test_the_network_knows_the_direction_of_time():
    network, x, t = small(), draw(1, 3, 5, 8, 8), torch.tensor([300])
    assert (network(x.flip(2), t).flip(2) - network(x, t)).abs().max() > 1e-3


@pytest.mark.parametrize("patch", [2, 4])
def test_folding_pixels_into_channels_loses_nothing(patch):
    folded = small(patch=patch, out_dim=2)
    plain = small(channels=3 * patch**2, out_dim=2 * patch**2)
    plain.load_state_dict(folded.state_dict())
    x, t = draw(2, 3, 3, 16, 8), torch.tensor([10, 600])
    by_hand = plain(F.pixel_unshuffle(x.transpose(1, 2), patch).transpose(1, 2), t)
    by_hand = F.pixel_shuffle(by_hand.transpose(1, 2), patch).transpose(1, 2)
    torch.testing.assert_close(folded(x, t), by_hand)


@pytest.mark.parametrize(
    "changes",
    [
        {"out_dim": 6},
        {"channels": 1},
        {"channels": 4, "patch": 2},
        {"init_dim": 12},
        {"init_kernel_size": 3},
        {"blocks": 1},
        {"blocks": (3, 1)},
        {"attn_heads": (1, 4)},
        {"spatial_attn": "none"},
        {"spatial_attn": ("linear", "full")},
        {"temporal_attn": False},
        {"temporal_attn": (False, True)},
        {"attn_dim_head": 40},
        {"dim_mults": (1,)},
        {"dim_mults": (2, 1, 3)},
        {"cond_dim": None},
    ],
    ids=str,
)
@pytest.mark.parametrize("num_frames", [1, 5])
def test_every_argument_gives_a_network(changes, num_frames):
    network = small(**changes)
    channels = changes.get("channels", 3)
    out = network(draw(2, channels, num_frames, 8, 16), torch.tensor([0.5, 999.0]))
    assert out.shape == (2, changes.get("out_dim", channels), num_frames, 8, 16)
    assert out.isfinite().all()


def test_every_name_of_a_spatial_attention_has_an_entry():
    assert {*SPATIAL, "none"} == set(get_args(SpatialAttentionName))


def test_said_level_by_level_the_original_is_the_same_network():
    asked = {"blocks": (2, 2), "spatial_attn": ["linear", "linear"], "temporal_attn": (True, True), "attn_heads": (2,)}
    state, default = small(**asked).state_dict(), small().state_dict()
    assert state.keys() == default.keys()
    assert all(torch.equal(state[name], default[name]) for name in default)


def test_each_level_has_what_it_was_given_on_both_ways():
    network = small(
        dim_mults=(1, 2, 4),
        blocks=(1, 2, 3),
        attn_heads=(1, 2, 4),
        spatial_attn=("none", "linear", "full"),
        temporal_attn=(False, True, False),
    )

    def parts(level):
        num_blocks = sum(isinstance(part, ResnetBlock) for part in level.children())
        spatial, temporal = (part and (type(part.fn), part.fn.heads) for part in (level.spatial, level.temporal))
        return num_blocks, spatial, temporal

    expected = [
        (1, None, None),
        (2, (SpatialLinearAttention, 2), (TemporalAttention, 2)),
        (3, (SpatialAttention, 4), None),
    ]
    assert [parts(level) for level in network.downs] == expected
    assert [parts(level) for level in reversed(network.ups)] == expected
    assert network.init_temporal is None
    assert network.mid_temporal.fn.heads == network.mid_spatial.fn.heads == 4


def test_without_attention_over_frames_they_meet_in_the_middle_alone():
    network, x, t = small(temporal_attn=False), draw(1, 3, 4, 8, 8), torch.tensor([300])
    changed = x.clone()
    changed[:, :, 3] += 1

    def change_of_the_others():
        return (network(changed, t) - network(x, t))[:, :, :3].abs().max()

    assert change_of_the_others() > 1e-6
    network.mid_temporal.fn.to_out.weight.zero_()
    assert change_of_the_others() < 1e-12


def test_a_level_of_fewer_heads_has_the_first_of_them():
    wide, narrow = small(attn_heads=2), small(attn_heads=(1, 2))
    cut = {}
    for name, tensor in wide.state_dict().items():
        cut[name] = tensor
        if tensor.shape == narrow.state_dict()[name].shape:
            continue
        if name.endswith("to_qkv.weight"):
            heads = rearrange(tensor, "(s m d) c -> s m d c", s=3, m=2)
            cut[name] = rearrange(heads[:, :1], "s m d c -> (s m d) c")
        else:
            first, second = tensor.chunk(2, dim=1)
            cut[name] = first.clone()
            second.zero_()  # the second head is not heard
    narrow.load_state_dict(cut)
    x, t = draw(2, 3, 4, 8, 8), torch.tensor([10, 600])
    torch.testing.assert_close(narrow(x, t), wide(x, t))
    torch.testing.assert_close(*(net(x, t, focus_present_mask=torch.tensor([True, False])) for net in (narrow, wide)))


def test_started_at_zero_the_answer_is_0_and_every_block_a_way_past():
    network, x, t = small(zero_init=True), draw(2, 3, 4, 8, 8), torch.tensor([10, 600])
    assert torch.equal(network(x, t, captions(2)), torch.zeros_like(x))
    features = draw(2, 4, 8, 8, 16)
    assert torch.equal(network.mid_block1(features, draw(2, 4 * 8 + COND_DIM)), features)
    assert torch.equal(network.mid_spatial(features), features)
    usual = small()
    assert (usual.mid_spatial(features) - features).abs().max() > 1e-3


def test_started_at_zero_every_weight_learns_after_a_few_steps():
    with torch.inference_mode(False):
        network, x, t = small(zero_init=True), draw(2, 3, 4, 8, 8), torch.tensor([10, 600])
        text = captions(2) | {"is_null": torch.tensor([True, False])}
        before = {name: tensor.clone() for name, tensor in network.named_parameters()}
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        for _ in range(4):
            optimizer.zero_grad()
            (network(x, t, text) - x).square().mean().backward()
            assert torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0) < 10
            optimizer.step()
        for name, tensor in network.named_parameters():
            assert not torch.equal(tensor, before[name]), name


def gradients(network, x, t, text):
    """The loss' gradients by name, and how many bytes the backward pass was left with."""
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda each: kept.append(each.nbytes) or each, lambda each: each):
        loss = network(x, t, text, focus_present_mask=torch.tensor([True, False])).square().mean()
    loss.backward()
    return {name: tensor.grad.clone() for name, tensor in network.named_parameters()}, sum(kept)


@pytest.mark.parametrize("bf16", [False, True])
def test_activations_computed_again_give_the_same_gradients_to_the_last_bit(bf16):
    with torch.inference_mode(False):
        x, t, text = draw(2, 3, 4, 8, 8).float(), torch.tensor([10, 600]), captions(2)
        network, saving = small(blocks=(2, 1)).float(), small(blocks=(2, 1)).float()
        saving.checkpoint_activations = True
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            (grads, kept), (again, kept_then) = (gradients(net, x, t, text) for net in (network, saving))
        assert all(torch.equal(grads[name], again[name]) for name in grads)
        assert kept_then < kept / 5


def test_activations_are_computed_again_for_gradients_only():
    network, x, t = small(), draw(1, 3, 2, 8, 8), torch.tensor([300])
    network.checkpoint_activations = True
    calls = []
    network.mid_block1.block1.register_forward_hook(lambda *given: calls.append(1))
    network(x, t)
    assert len(calls) == 1
    with torch.inference_mode(False):
        x, t = draw(1, 3, 2, 8, 8), torch.tensor([300])
        network = small()
        network.checkpoint_activations = True
        network.mid_block1.block1.register_forward_hook(lambda *given: calls.append(1))
        network(x, t).square().mean().backward()
    assert len(calls) == 3


def test_null_takes_the_place_of_a_caption():
    network, x, t = small(), draw(2, 3, 2, 8, 8), torch.tensor([300, 300])
    without = network(x, t)
    torch.testing.assert_close(network(x, t, captions(2, null=True)), without)
    half = captions(2) | {"is_null": torch.tensor([True, False])}
    out = network(x, t, half)
    torch.testing.assert_close(out[0], without[0])
    torch.testing.assert_close(out[1], network(x, t, captions(2))[1])
    assert (out[1] - without[1]).abs().max() > 1e-3


def test_different_captions_give_different_clips():
    network, x, t = small(), draw(1, 3, 2, 8, 8), torch.tensor([300])
    outs = [network(x, t, captions(1, seed=seed)) for seed in (2, 3)]
    assert (outs[0] - outs[1]).abs().max() > 1e-3


def test_one_text_for_all_is_a_network_with_other_biases():
    network, plain = small(), small(cond_dim=None)
    text_emb = draw(COND_DIM)
    state = network.state_dict()
    for name in [name for name in state if name.endswith("to_scale_shift.weight")]:
        of_time, of_text = state[name].split((4 * 8, COND_DIM), dim=1)
        bias = name.replace("weight", "bias")
        state |= {name: of_time, bias: state[bias] + of_text @ F.silu(text_emb)}
    plain.load_state_dict({name: state[name] for name in plain.state_dict()})
    x, t = draw(2, 3, 3, 8, 8), torch.tensor([10, 600])
    text = {"pooled": text_emb.expand(2, -1), "is_null": torch.tensor([False, False])}
    torch.testing.assert_close(network(x, t, text), plain(x, t))


def test_texts_are_standardised_feature_by_feature():
    # Like MiniLM's pooled vectors: far from zero, with little spread; the last feature never changes.
    pooled = 0.5 + 0.03 * draw(200, COND_DIM)
    pooled[:, -1] = 0.7
    network, unscaled = small(), small()
    network.set_text_statistics(pooled)
    standard = (pooled[:2] - pooled.mean(0)) / pooled.std(0, correction=0)
    standard[:, -1] = 0
    x, t, is_null = draw(2, 3, 2, 8, 8), torch.tensor([10, 600]), torch.tensor([False, False])
    out = network(x, t, {"pooled": pooled[:2], "is_null": is_null})
    torch.testing.assert_close(out, unscaled(x, t, {"pooled": standard, "is_null": is_null}))


def test_a_feature_that_hardly_varies_is_not_blown_up():
    pooled = draw(200, COND_DIM)
    pooled[:, 0] *= 1e-4
    network = small()
    network.set_text_statistics(pooled)
    spread = pooled.std(0, correction=0)
    torch.testing.assert_close(network.text_std[0], 0.1 * spread.square().mean().sqrt())
    torch.testing.assert_close(network.text_std[1:], spread[1:])


@pytest.mark.parametrize("num_captions", [1, 3])
def test_captions_that_are_all_alike_count_as_zero(num_captions):
    network = small().float()
    pooled = (0.1 * draw(1, COND_DIM)).float().expand(num_captions, -1)
    network.set_text_statistics(pooled)
    assert torch.equal(network.text_mean, pooled[0])
    assert torch.equal(network.text_std, torch.ones(COND_DIM))


def test_the_state_holds_the_statistics_of_the_texts_and_nothing_that_can_be_computed():
    network, copy = small(), small(seed=5)
    network.set_text_statistics(draw(20, COND_DIM))
    state = network.state_dict()
    assert state.keys() == {name for name, _ in network.named_parameters()} | {"text_mean", "text_std"}
    copy.load_state_dict(state)
    x, t, text = draw(2, 3, 2, 8, 8), torch.tensor([10, 600]), captions(2)
    assert torch.equal(network(x, t, text), copy(x, t, text))


def test_distance_between_frames_is_all_that_the_bias_knows():
    relative_bias = RelativePositionBias(3)
    bias = relative_bias(12)
    assert torch.equal(bias[:, 1:, 1:], bias[:, :-1, :-1])
    assert torch.equal(bias[:, :7, :7], relative_bias(7))


def test_past_and_future_fall_into_different_buckets():
    relative = torch.arange(-40, 41)
    buckets = distance_bucket(relative)
    assert buckets.min() == 0 and buckets.max() == 31
    assert not set(buckets[relative < 0].tolist()) & set(buckets[relative > 0].tolist())
    assert (buckets[relative >= 0].diff()[1:] >= 0).all()


@pytest.mark.parametrize("num_frames", [1, 4])
def test_bfloat16_stays_close_to_float32(num_frames):
    network, x, t = small().float(), draw(2, 3, num_frames, 8, 8).float(), torch.tensor([10, 600])
    exact = network(x, t, captions(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = network(x, t, captions(2))
    assert rough.dtype == torch.bfloat16
    assert (rough - exact).square().mean() < 1e-3 * exact.square().mean()


@pytest.mark.parametrize("stills", [False, True])
def test_every_weight_learns_in_bfloat16(stills):
    with torch.inference_mode(False):
        network, x, t = small().float(), draw(2, 3, 4, 8, 8).float(), torch.tensor([10, 600])
        text = captions(2) | {"is_null": torch.tensor([True, False])}
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = network(x, t, text, focus_present_mask=torch.tensor([stills, False]))
        out.float().square().mean().backward()
        for name, parameter in network.named_parameters():
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().max() > 0, name


def test_an_empty_picture_gives_no_nan():
    network = small()
    network.init_conv.weight.zero_()
    network.init_conv.bias.zero_()
    assert network(torch.zeros(1, 3, 2, 8, 8, dtype=torch.float64), torch.tensor([0])).isfinite().all()


def test_wrong_calls_say_what_would_work():
    network, t = small(patch=2), torch.tensor([0])
    with pytest.raises(ValueError, match="multiples of 4, not 8x10"):
        network(draw(1, 3, 2, 10, 8), t)
    with pytest.raises(ValueError, match="clips of 3 channels, not 4"):
        network(draw(1, 4, 2, 8, 8), t)
    with pytest.raises(ValueError, match="takes no text"):
        small(cond_dim=None)(draw(1, 3, 2, 8, 8), t, captions(1))
    with pytest.raises(ValueError, match="must be even"):
        small(attn_dim_head=5)
    with pytest.raises(ValueError, match="blocks must be one value, or 2 for the levels of dim_mults, not 3"):
        small(blocks=(1, 2, 3))
    with pytest.raises(ValueError, match="spatial_attn must be linear, full or none, not 'sparse'"):
        small(spatial_attn="sparse")
