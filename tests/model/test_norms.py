"""The norm with scale, shift and SiLU, and the gradient that keeps only what it was given."""

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from t2v.model import norms


def case(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    x, gain, shift = (
        torch.randn(shape, generator=draw).to(dtype).requires_grad_() for shape in ((2, 3, 2, 2, 6), (2, 6), (2, 6))
    )
    return x, gain, shift


def gradients(x: Tensor, gain: Tensor, shift: Tensor) -> tuple[Tensor, ...]:
    out = norms.norm_scale_shift_silu(x, gain, shift)
    return torch.autograd.grad(out, (x, gain, shift), torch.linspace(-1, 1, out.numel()).view(out.shape).to(out))


@pytest.mark.parametrize("piece", [6, 42, 72, norms.PIECE])  # a pixel, seven, a clip, all
def test_the_gradient_is_that_of_the_formula_in_pieces_of_any_size(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(norms, "PIECE", piece)
    assert torch.autograd.gradcheck(norms.norm_scale_shift_silu, case(torch.float64))


@pytest.mark.parametrize("dtype, bound", [(torch.float32, 1e-6), (torch.bfloat16, 2e-2)])
def test_the_gradient_is_as_exact_as_the_numbers_allow(dtype: torch.dtype, bound: float) -> None:
    given = case(dtype)
    exact = gradients(*(each.detach().double().requires_grad_() for each in given))
    for ours, true in zip(gradients(*given), exact, strict=True):
        assert ours.dtype == dtype
        assert (ours.double() - true).norm() / true.norm() < bound


def test_one_gain_serves_all_clips() -> None:
    x, gain, shift = (each.detach() for each in case(torch.float64))
    shared = gain[0].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda one: norms.norm_scale_shift_silu(x, one, shift), (shared,))


def test_nothing_is_kept_for_the_gradient_but_what_was_given() -> None:
    given = case(torch.float32)
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        norms.norm_scale_shift_silu(*given)
    assert sum(tensor.numel() for tensor in kept) == sum(tensor.numel() for tensor in given)
