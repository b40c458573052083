"""Attention over pixels and tokens, as products and as fused kernels."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from t2v.model import attention
from t2v.model.attention import attend


def queries_keys_values(dtype: torch.dtype, loudness: float = 1.0) -> list[Tensor]:
    """2 clips, 2 heads, 9 queries and 5 keys of 16 features, as the network hands them over: not in one piece."""
    drawn = [torch.randn(2, n, 2, 16, generator=torch.Generator().manual_seed(n)) for n in (9, 5, 6)]
    drawn[2] = drawn[2][:, :5]
    drawn[0] = drawn[0] * loudness
    return [one.to(dtype).transpose(1, 2).requires_grad_() for one in drawn]


MASK = torch.tensor([[1, 1, 1, 0, 0], [1, 0, 0, 0, 0]], dtype=torch.bool)[:, None, None]


@pytest.mark.parametrize("loudness", [1.0, 8.0])
@pytest.mark.parametrize("mask", [None, MASK])
def test_in_bf16_it_is_float32s_but_for_rounding(mask: Tensor | None, loudness: float) -> None:
    rounded = queries_keys_values(torch.bfloat16, loudness)
    exact = [one.detach().float().requires_grad_() for one in rounded]
    expected, found = attend(*exact, mask=mask), attend(*rounded, mask=mask)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=0.03)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(9))
    wanted = torch.autograd.grad((expected * weights).sum(), exact)
    for gradient, one in zip(torch.autograd.grad((found * weights).sum(), rounded), wanted, strict=True):
        assert (gradient - one).norm() < 0.03 * one.norm()


def test_what_is_masked_is_not_seen() -> None:
    q, k, v = queries_keys_values(torch.bfloat16)
    seen = attend(q, k, v, mask=MASK)
    for clip, num_keys in enumerate((3, 1)):
        torch.testing.assert_close(seen[clip], attend(q[clip], k[clip, :, :num_keys], v[clip, :, :num_keys]))


@pytest.mark.parametrize(
    ("dtype", "most", "fused"), [("float32", 180, True), ("bfloat16", 180, False), ("bfloat16", 179, True)]
)
def test_products_are_for_bf16_where_few_weights_are_kept(
    dtype: str, most: int, fused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def kernel(*given: Tensor, **also: Tensor | None) -> Tensor:
        calls.append(given)
        return scaled_dot_product_attention(*given, **also)

    monkeypatch.setattr(attention, "MAX_KEPT", most)
    monkeypatch.setattr(attention.F, "scaled_dot_product_attention", kernel)
    attend(*queries_keys_values(getattr(torch, dtype)))
    assert bool(calls) is fused
