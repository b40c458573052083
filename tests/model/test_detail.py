"""The head that corrects what is said of large patches."""

import pytest
import torch
from einops import rearrange

from t2v.errors import SettingsError
from t2v.model.unet3d import Unet3D
from t2v.reading import recipe_from_mapping

WIDTH = 8


def network(*, patch=8, **changes):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Unet3D(WIDTH, dim_mults=(1,), attn_heads=2, attn_dim_head=4, patch=patch, **changes).double()


def learned(**changes):
    """One whose head says something."""
    detailed = network(detail=4, **changes)
    with torch.no_grad():
        detailed.detail.to_out.weight.normal_(generator=torch.Generator().manual_seed(1))
    return detailed


def answer(asked, *, size=16, clips=1):
    x = torch.randn(clips, 3, 2, size, size, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return asked(x, torch.full((clips,), 300))


@pytest.mark.parametrize("patch", [2, 4, 8])
@pytest.mark.parametrize("out_dim", [None, 6])
def test_a_new_head_changes_nothing_and_a_learned_one_does(patch, out_dim):
    plain, young = (answer(network(patch=patch, out_dim=out_dim, detail=detail)) for detail in (None, 4))
    assert torch.equal(young, plain)
    old = answer(learned(patch=patch, out_dim=out_dim))
    assert old.shape == plain.shape and not torch.allclose(old, plain)


def test_a_patch_may_hold_more_than_the_network_is_wide():
    """Without a head every patch is a bias and a sum of as many pictures as the network has channels."""

    def rank(asked):
        patches = rearrange(answer(asked, clips=20), "b c f (h p) (w q) -> (b f h w) (c p q)", p=8, q=8)
        return torch.linalg.matrix_rank(patches - patches.mean(dim=0)).item()

    with torch.no_grad():
        assert rank(network()) == WIDTH
        assert rank(learned()) > 4 * WIDTH


def test_the_head_learns_from_the_first_step_on():
    asked = network(detail=4)
    answer(asked).square().mean().backward()
    assert asked.detail.to_out.weight.grad.abs().sum() > 0


def test_computing_activations_again_gives_the_same_gradients():
    found = []
    for again in (False, True):
        asked = learned()
        asked.checkpoint_activations = again
        answer(asked).square().mean().backward()
        found.append([parameter.grad for parameter in asked.detail.parameters()])
    assert all(torch.equal(once, twice) for once, twice in zip(*found, strict=True))


def test_detail_of_single_pixels_is_refused():
    with pytest.raises(SettingsError, match=r"detail needs a patch of 2 or more"):
        recipe_from_mapping({"model": {"detail": 8}})
