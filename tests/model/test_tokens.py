"""The tokens of a caption in the network: what reads them, and what they must not change."""

import pytest
import torch

from t2v.errors import SettingsError
from t2v.model.tokens import TokenReader
from t2v.model.unet3d import Unet3D
from t2v.reading import recipe_from_mapping

COND_DIM = 6
ROADS = {
    "pooling": {"token_pooling": True},
    "cross-attention": {"cross_attn": True},
    "both, behind two layers": {"token_pooling": True, "cross_attn": (False, True), "token_layers": 2},
}


def network(seed=0, **changes):
    settings = {
        "cond_dim": COND_DIM,
        "dim_mults": (1, 2),
        "attn_heads": 2,
        "attn_dim_head": 4,
        "token_dim": 32,
    } | changes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Unet3D(8, **settings).double()


def draw(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def captions(*num_tokens, room=5):
    """Captions of so many tokens and one pooled vector for all, so that they differ in their tokens alone."""
    mask = torch.arange(room) < torch.tensor(num_tokens)[:, None]
    tokens = draw(len(num_tokens), room, COND_DIM, seed=3) * mask[..., None]
    pooled = draw(1, COND_DIM, seed=2).expand(len(num_tokens), -1)
    return {"pooled": pooled, "tokens": tokens, "mask": mask, "is_null": torch.zeros(len(num_tokens), dtype=torch.bool)}


def clips(number):
    return draw(1, 3, 2, 8, 8).expand(number, -1, -1, -1, -1), torch.full((number,), 300)


@pytest.fixture(params=ROADS)
def reader(request):
    return network(**ROADS[request.param])


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.inference_mode():
        yield


def test_other_tokens_give_another_clip(reader):
    first, second = reader(*clips(2), captions(3, 3))
    assert (first - second).abs().max() > 1e-4


def test_room_for_more_tokens_changes_nothing(reader):
    text = captions(3, 2, room=3)
    roomy = captions(3, 2, room=9)
    roomy["tokens"][:, :3], roomy["tokens"][:, 3:] = text["tokens"], 7.0  # whatever lies where there is no token
    torch.testing.assert_close(reader(*clips(2), roomy), reader(*clips(2), text))


def test_a_clip_hears_its_own_tokens_alone(reader):
    text = captions(3, 2, 5)
    together = reader(*clips(3), text)
    for row in range(3):
        alone = reader(*clips(1), {key: value[row : row + 1] for key, value in text.items()})
        torch.testing.assert_close(alone, together[row : row + 1])


def test_the_null_hides_every_token_and_is_what_no_text_at_all_is(reader):
    text = captions(3, 5)
    hidden = reader(*clips(2), text | {"is_null": torch.ones(2, dtype=torch.bool)})
    torch.testing.assert_close(hidden[0], hidden[1])
    torch.testing.assert_close(hidden, reader(*clips(2)))
    assert (hidden - reader(*clips(2), text)).abs().max() > 1e-4


def test_a_network_that_reads_no_tokens_needs_none():
    text = captions(3, 2)
    given = {key: text[key] for key in ("pooled", "is_null")}
    plain = network()
    assert not plain.reads_tokens and not hasattr(plain, "token_reader")
    torch.testing.assert_close(plain(*clips(2), text), plain(*clips(2), given))


def test_pixels_look_at_tokens_at_the_levels_that_are_asked_for():
    levels = network(cross_attn=(False, True))
    assert [level.cross is not None for level in levels.downs] == [False, True]
    assert [level.cross is not None for level in levels.ups] == [True, False]
    assert levels.mid_cross is not None and network(cross_attn=(True, False)).mid_cross is None


def test_without_text_there_is_nothing_to_look_at():
    unconditional = network(cond_dim=None, **ROADS["both, behind two layers"])
    assert not unconditional.reads_tokens
    assert unconditional(*clips(1)).shape == (1, 3, 2, 8, 8)


def test_started_at_zero_cross_attention_changes_nothing_and_learns():
    started = network(cross_attn=True, zero_init=True)
    assert not started.mid_cross.fn.to_out.weight.any() and started.token_reader.to_width.weight.any()


def test_tokens_are_standardised_feature_by_feature_over_all_of_them():
    reader = TokenReader(4, 32, num_layers=0, pools=False)
    tokens = [100 * torch.randn(n, 4, generator=torch.Generator().manual_seed(n)) + 5 for n in (3, 9, 30)]
    tokens = [each * torch.tensor([1.0, 2.0, 3.0, 0.0]) for each in tokens]
    reader.set_statistics(tokens)
    every = torch.cat(tokens).double()
    torch.testing.assert_close(reader.token_mean, every.mean(dim=0).float())
    torch.testing.assert_close(reader.token_std[:3], every.std(dim=0, correction=0)[:3].float())
    assert reader.token_std[3] > 1  # never blown up


def test_widths_that_heads_cannot_share_are_refused():
    with pytest.raises(ValueError, match="token_dim must be a multiple of 32, not 48"):
        network(token_pooling=True, token_dim=48)


def test_layers_that_nobody_would_read_are_refused():
    with pytest.raises(SettingsError, match="token_layers needs token_pooling or cross_attn"):
        recipe_from_mapping({"model": {"token_layers": 1}})
