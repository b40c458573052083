"""What a caption says of places and moments."""

import pytest
import torch

from t2v.model.places import NUM_COORDINATES, PlaceReader, coordinates
from t2v.model.unet3d import Unet3D

COND_DIM = 6


def drawn(*shape, seed=2):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network(**changes):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        settings = {"cond_dim": COND_DIM, "dim_mults": (1, 2), "attn_heads": 2, "attn_dim_head": 4}
        return Unet3D(8, **settings | changes).double()


def learned(**changes):
    """One that has learned to listen for places."""
    told = network(place_dim=8, **changes)
    with torch.no_grad():
        for number, (name, parameter) in enumerate(told.named_parameters()):
            if ".place.to_scale_shift" in name:
                parameter.copy_(drawn(*parameter.shape, seed=number))
    return told


def text(pooled):
    return {"pooled": pooled, "is_null": torch.zeros(len(pooled), dtype=torch.bool)}


def reader():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return PlaceReader(5, 8).double()


@pytest.mark.parametrize("cond_dim", [None, COND_DIM])
def test_at_first_it_changes_nothing(cond_dim):
    young, plain = network(cond_dim=cond_dim, place_dim=8), network(cond_dim=cond_dim)
    young.load_state_dict(plain.state_dict(), strict=False)
    x, t = drawn(2, 3, 4, 8, 8), torch.tensor([10.0, 900.0])
    torch.testing.assert_close(young(x, t), plain(x, t), rtol=0, atol=1e-12)
    assert not torch.allclose(learned(cond_dim=cond_dim)(x, t), network(cond_dim=cond_dim)(x, t))


def test_it_learns_from_the_first_step_on():
    young = network(place_dim=8)
    young(drawn(1, 3, 4, 8, 8), torch.tensor([300.0]), text(drawn(1, COND_DIM))).square().mean().backward()
    listening = [level.place.to_scale_shift.weight.grad for level in (*young.downs, *young.ups)]
    assert all(gradient.abs().sum() > 0 for gradient in listening)


@pytest.mark.parametrize("frames", [1, 4])
def test_every_weight_has_a_gradient(frames):
    """As processes that train together wait for each."""
    young = network(place_dim=8)
    young(drawn(1, 3, frames, 8, 8), torch.tensor([300.0]), text(drawn(1, COND_DIM))).square().mean().backward()
    assert all(parameter.grad is not None for parameter in young.place_reader.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_it_listens_in_half_precision(dtype):
    asked = learned().float()
    x, t, said = drawn(1, 3, 4, 8, 8).float(), torch.tensor([300.0]), text(drawn(1, COND_DIM).float())
    exact = asked(x, t, said)
    with torch.autocast("cpu", dtype):
        rounded = asked(x, t, said)
    assert (rounded - exact).abs().mean() < 0.05 * exact.abs().mean()


def test_every_place_and_moment_is_told_apart_and_hears_the_text():
    said = reader()(drawn(2, 5), (3, 4, 6))
    assert said.shape == (2, 3, 4, 6, 8)
    for clip in said:
        apart = torch.cdist(clip.flatten(0, 2), clip.flatten(0, 2)) + torch.eye(72)
        assert apart.min() > 1e-4
    assert not torch.allclose(said[0], said[1])


def test_a_place_means_the_same_on_grids_of_all_sizes():
    """Every third cell of a grid three times as fine lies in the middle of a coarse one."""
    coarse, fine = (reader()(drawn(1, 5), (3, 2 * times, 4 * times)) for times in (1, 3))
    torch.testing.assert_close(fine[:, :, 1::3, 1::3], coarse)


def test_a_frame_alone_knows_no_moment():
    [one], [three] = (reader()(drawn(1, 5), (frames, 2, 2)) for frames in (1, 3))
    alone = reader()(drawn(2, 5)[:1].expand(2, -1), (3, 2, 2), torch.tensor([True, False]))
    torch.testing.assert_close(alone[0], one.expand(3, -1, -1, -1))
    torch.testing.assert_close(alone[1], three)
    assert not torch.allclose(three, one.expand(3, -1, -1, -1))


def test_masked_frames_are_those_of_stills():
    asked = learned(temporal_attn=False)
    x, t, said = drawn(1, 3, 2, 8, 8), torch.tensor([300.0]), text(drawn(1, COND_DIM))
    masked = asked(x, t, said, focus_present_mask=torch.tensor([True]))
    stills = torch.cat([asked(frame, t, said) for frame in x.split(1, dim=2)], dim=2)
    torch.testing.assert_close(masked, stills)
    assert not torch.allclose(masked, asked(x, t, said))


def test_coordinates_run_from_one_end_to_the_other():
    found = coordinates(4)
    assert found.shape == (4, NUM_COORDINATES)
    torch.testing.assert_close(found[:, 0], torch.tensor([-0.75, -0.25, 0.25, 0.75]))
    torch.testing.assert_close(found[:, 0], -found[:, 0].flip(0))
    assert coordinates(1)[0, 0] == 0


def test_computing_activations_again_gives_the_same_gradients():
    found = []
    for again in (False, True):
        asked = learned()
        asked.checkpoint_activations = again
        asked(drawn(2, 3, 4, 8, 8), torch.tensor([10.0, 900.0]), text(drawn(2, COND_DIM))).square().mean().backward()
        found.append([parameter.grad for parameter in asked.place_reader.parameters()])
    assert all(torch.equal(once, twice) for once, twice in zip(*found, strict=True))
