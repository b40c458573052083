"""Muon: the orthogonal factor of the momentum, and AdamW where there is no matrix."""

import math

import pytest
import torch
from torch import Tensor, nn

from t2v.config import TrainSettings
from t2v.training.muon import Muon, is_matrix, orthogonal_factor
from t2v.training.optimizer import build_optimizer


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def with_gradient(*shape: int, seed: int = 0) -> nn.Parameter:
    parameter = nn.Parameter(randn(*shape, seed=seed))
    parameter.grad = randn(*shape, seed=seed + 1)
    return parameter


def as_published(x: Tensor) -> Tensor:
    """Newton-Schulz as Jordan et al. 2024 write it, in float64, of one matrix."""
    wide = x.double() if x.shape[0] <= x.shape[1] else x.double().mT
    wide = wide / wide.norm()
    for _ in range(5):
        gram = wide @ wide.mT
        wide = 3.4445 * wide + (-4.7750 * gram + 2.0315 * gram @ gram) @ wide
    return wide if x.shape[0] <= x.shape[1] else wide.mT


@pytest.mark.parametrize("shape", [(16, 40), (40, 16), (24, 24), (32, 288)])
def test_the_rounds_on_the_gram_matrix_are_those_that_were_published(shape: tuple[int, int]) -> None:
    matrices = randn(3, *shape) * torch.logspace(0, -3, shape[1])
    expected = torch.stack([as_published(matrix) for matrix in matrices])
    torch.testing.assert_close(orthogonal_factor(matrices).double(), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("shape", [(16, 40), (40, 16), (32, 288)])
def test_rounds_in_bf16_are_those_but_for_its_rounding(shape: tuple[int, int]) -> None:
    matrices = randn(3, *shape) * torch.logspace(0, -1, shape[1])
    expected = torch.stack([as_published(matrix) for matrix in matrices])
    found = orthogonal_factor(matrices, rounds_in=torch.bfloat16)
    assert found.dtype == torch.float32
    assert (found - expected).norm() < 0.02 * expected.norm()


def test_singular_vectors_stay_and_their_values_come_near_one() -> None:
    u, _, vt = torch.linalg.svd(randn(24, 60), full_matrices=False)
    found = orthogonal_factor((u * torch.linspace(1, 0.05, 24) @ vt)[None])[0]
    lengths = torch.diagonal(u.mT @ found @ vt.mT)
    assert 0.65 < lengths.min() < lengths.max() < 1.25
    torch.testing.assert_close(u * lengths @ vt, found, rtol=0, atol=1e-4)


@pytest.mark.parametrize("rounds_in", [torch.float32, torch.bfloat16])
def test_no_gradient_at_all_is_no_step(rounds_in: torch.dtype) -> None:
    assert not orthogonal_factor(torch.zeros(1, 16, 20), rounds_in=rounds_in).any()


def test_only_the_rounds_follow_the_precision_of_a_run() -> None:
    """Weights and momentum are float32 in every precision, as they sum what is small."""
    settings = TrainSettings(optimizer="muon")
    steps = []
    for precision in ("fp32", "bf16"):
        parameter = with_gradient(32, 64)
        before = parameter.detach().clone()
        optimizer = build_optimizer([parameter], settings, precision=precision)
        optimizer.step()
        assert parameter.dtype == optimizer.state[parameter]["momentum"].dtype == torch.float32
        steps.append(parameter.detach() - before)
    exact, rounded = steps
    assert not torch.equal(exact, rounded)
    assert (exact - rounded).norm() < 0.02 * exact.norm()


@pytest.mark.parametrize("shape", [(64, 256), (256, 64), (48, 48)])
def test_a_step_is_as_long_as_one_of_adamw(shape: tuple[int, int]) -> None:
    """Liu et al. 2025: a fifth of the rate, at any shape, as AdamW's steps have once gradients are noisy."""
    parameter = with_gradient(*shape)
    before = parameter.detach().clone()
    Muon([parameter], lr=1e-3).step()
    assert (parameter - before).square().mean().sqrt().item() == pytest.approx(0.2e-3, rel=0.25)


def test_a_convolution_is_the_matrix_of_its_filters() -> None:
    convolution = with_gradient(16, 8, 3, 3)
    assert convolution.grad is not None
    matrix = nn.Parameter(convolution.detach().flatten(1).clone())
    matrix.grad = convolution.grad.flatten(1)
    for parameter in (convolution, matrix):
        Muon([parameter], lr=1e-2).step()
    assert torch.equal(convolution.flatten(1), matrix)


def test_momentum_looks_ahead() -> None:
    parameter = with_gradient(16, 16)
    start, first, second = parameter.detach().clone(), randn(16, 16, seed=5), randn(16, 16, seed=6)
    optimizer = Muon([parameter], lr=1e-2, momentum=0.9, weight_decay=0.5)
    for gradient in (first, second):
        parameter.grad = gradient
        optimizer.step()
    mean, expected = 0.1 * first, start
    for gradient in (first, second):
        mean = mean if gradient is first else 0.9 * mean + 0.1 * second
        ahead = 0.1 * gradient + 0.9 * mean
        expected = expected * (1 - 1e-2 * 0.5) - 1e-2 * 0.2 * math.sqrt(16) * as_published(ahead).float()
    torch.testing.assert_close(parameter.detach(), expected, rtol=0, atol=1e-5)


def test_what_is_no_matrix_takes_adamw() -> None:
    shapes = [(7,), (40, 8), (1, 5, 1)]
    ours, theirs = ([with_gradient(*shape, seed=seed) for seed, shape in enumerate(shapes)] for _ in range(2))
    assert not any(map(is_matrix, ours))
    optimizers = (
        Muon(ours, lr=1e-2, weight_decay=0.1),
        torch.optim.AdamW(theirs, lr=1e-2, betas=(0.9, 0.99), weight_decay=0.1),
    )
    for _ in range(3):
        for optimizer in optimizers:
            optimizer.step()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-7)


def test_a_parameter_without_gradient_is_left_alone() -> None:
    still, moving = nn.Parameter(randn(16, 16)), with_gradient(16, 16)
    before = still.detach().clone()
    optimizer = Muon([still, moving, nn.Parameter(randn(3))], lr=1e-2)
    optimizer.step()
    assert torch.equal(still, before)
    assert list(optimizer.state) == [moving]


def test_a_closure_finds_the_gradients() -> None:
    given, found = with_gradient(16, 16), nn.Parameter(randn(16, 16))

    def closure() -> float:
        loss = (found * randn(16, 16, seed=1)).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()

    assert Muon([given], lr=1e-2).step() is None
    assert Muon([found], lr=1e-2).step(closure) == pytest.approx((randn(16, 16) * randn(16, 16, seed=1)).sum().item())
    assert torch.equal(found, given)


def test_it_learns_a_badly_scaled_problem_faster_than_adamw() -> None:
    """Of inputs whose scales span three decades, what the weak ones carry is learned, too."""
    inputs, wanted = randn(512, 32) * torch.logspace(0, -3, 32) @ randn(32, 32, seed=1), randn(32, 16, seed=2)
    target, left = inputs @ wanted, {}
    for name in ("adamw", "muon"):
        weights = nn.Parameter(torch.zeros(32, 16))
        optimizer = build_optimizer([weights], TrainSettings.model_validate({"optimizer": name, "learning_rate": 0.05}))
        for _ in range(200):
            loss = (inputs @ weights - target).square().mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        left[name] = loss.item()
    assert left["muon"] < left["adamw"]
