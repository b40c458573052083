"""The time between two frames, as the network is told it."""

import torch

from t2v.model.unet3d import Unet3D

COND_DIM = 6


def network(**changes):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Unet3D(8, cond_dim=COND_DIM, dim_mults=(1,), attn_heads=2, attn_dim_head=4, **changes).double()


def learned():
    """One that has learned what intervals mean."""
    told = network(interval=True)
    with torch.no_grad():
        told.interval_mlp[-1].weight.normal_(generator=torch.Generator().manual_seed(1))
    return told


def answer(asked, *intervals):
    draw = torch.Generator().manual_seed(2)
    x = torch.randn(1, 3, 2, 8, 8, generator=draw, dtype=torch.float64).expand(len(intervals), -1, -1, -1, -1)
    pooled = torch.randn(1, COND_DIM, generator=draw, dtype=torch.float64).expand(len(intervals), -1)
    text = {"pooled": pooled, "is_null": torch.zeros(len(intervals), dtype=torch.bool)}
    told = {} if intervals[0] is None else {"interval": torch.tensor(intervals)}
    return asked(x, torch.full((len(intervals),), 300), text | told)


def test_at_first_it_changes_nothing():
    young, plain = network(interval=True), network()
    young.load_state_dict(plain.state_dict(), strict=False)
    assert torch.equal(answer(young, 125.0), answer(plain, 125.0))


def test_each_clip_is_told_its_own():
    both = answer(learned(), 100.0, 250.0)
    assert not torch.allclose(both[0], both[1])
    for place, interval in enumerate((100.0, 250.0)):
        assert torch.allclose(answer(learned(), interval)[0], both[place])


def test_no_interval_is_the_same_as_not_being_told():
    assert torch.equal(answer(learned(), 0.0), answer(learned(), None))
    assert not torch.allclose(answer(learned(), 0.0), answer(learned(), 100.0))


def test_its_weights_learn_also_from_pictures_that_have_none():
    told = network(interval=True)
    for interval, moves in ((0.0, False), (125.0, True)):
        told.zero_grad()
        answer(told, interval).square().mean().backward()
        gradient = told.interval_mlp[-1].weight.grad
        # Processes that train together wait for a gradient of every weight.
        assert gradient is not None and bool(gradient.any()) == moves


def test_a_network_without_text_is_not_told():
    with torch.random.fork_rng(devices=[]):
        plain = Unet3D(8, dim_mults=(1,), attn_heads=2, attn_dim_head=4, interval=True)
    assert plain.interval_mlp is None
