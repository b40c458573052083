"""Muon: momentum whose every direction is given the same length, for weights that are matrices."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

# Jordan et al. 2024: five rounds bring every singular value from near 0 to 1 into 0.68 to 1.21.
ROUNDS = 5
CUBIC = (3.4445, -4.7750, 2.0315)  # of s, s**3 and s**5
SMALLEST = 16  # rows and columns of a matrix that is worth it


class Muon(torch.optim.Optimizer):
    """Steps along the orthogonal factor of the momentum for matrices, AdamW for all else.

    A gradient of a matrix is often a few strong directions and many weak ones, and Adam's step is, too. Here all of
    them are learned at once. A convolution is the matrix of its filters: out by in * height * width. A step has the
    root mean square of AdamW's, 0.2 of the rate (Liu et al. 2025), so that rates and weight decay mean the same.
    Gains, biases and matrices of fewer than 16 rows or columns take AdamW.

    momentum: weight of the past in the mean of gradients, which is looked ahead of as Nesterov does; betas: AdamW's;
    rounds_in: float32, or bfloat16 where the chip multiplies such matrices faster. Weights and momentum stay as they
    are. Jordan et al. 2024 (Muon).
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        rounds_in: torch.dtype = torch.float32,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "betas": betas, "weight_decay": weight_decay}
        super().__init__(list(parameters), defaults)
        self.rounds_in = rounds_in

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """Take a step; a closure finds gradients and loss first. Returns its loss, or None without."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            trained = [parameter for parameter in group["params"] if parameter.grad is not None]
            self._step_matrices([parameter for parameter in trained if is_matrix(parameter)], group)
            self._step_others([parameter for parameter in trained if not is_matrix(parameter)], group)
        return loss

    def _step_matrices(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        alike = defaultdict(list)
        for parameter in parameters:
            alike[parameter.flatten(1).shape].append(parameter)
        for shape, here in alike.items():
            ahead = torch.stack([self._ahead(one, group["momentum"]).flatten(1) for one in here])
            steps = orthogonal_factor(ahead, rounds_in=self.rounds_in)
            for parameter, step in zip(here, steps, strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(step.view_as(parameter), alpha=-0.2 * math.sqrt(max(shape)) * group["lr"])

    def _ahead(self, parameter: nn.Parameter, momentum: float) -> Tensor:
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(gradient, 1 - momentum)
        return gradient.lerp(state["momentum"], momentum)

    def _step_others(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter] = {
                    "step": torch.tensor(0.0),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
        kept = [self.state[parameter] for parameter in parameters]
        adamw(
            [parameter.data for parameter in parameters],
            [parameter.grad for parameter in parameters if parameter.grad is not None],
            [state["exp_avg"] for state in kept],
            [state["exp_avg_sq"] for state in kept],
            [],
            [state["step"] for state in kept],
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=1e-8,
            maximize=False,
        )


def is_matrix(parameter: Tensor) -> bool:
    """Whether Muon steps this parameter itself."""
    return parameter.ndim >= 2 and min(len(parameter), parameter[0].numel()) >= SMALLEST


def orthogonal_factor(matrices: Tensor, *, rounds_in: torch.dtype = torch.float32) -> Tensor:
    """About U V^T of each matrix U S V^T, its singular values in 0.68 to 1.21 save those near 0.

    matrices: n p q, float32; rounds_in: float32 or bfloat16. Returns n p q, float32.
    """
    wide = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.mT
    square = wide.square().sum((1, 2), keepdim=True).clamp_min(1e-30)
    out = _rounds_on_gram(wide, square) if rounds_in == torch.float32 else _rounds(wide * square.rsqrt(), rounds_in)
    return out if wide is matrices else out.mT


def _rounds(wide: Tensor, rounds_in: torch.dtype) -> Tensor:
    """X <- (a + b G + c G^2) X with G = X X^T, as published: the errors of one round are not multiplied by the next."""
    a, b, c = CUBIC
    out = wide.to(rounds_in)
    for _ in range(ROUNDS):
        gram = torch.bmm(out, out.mT)
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        out = torch.baddbmm(out, factor, out, beta=a)
    return out.to(wide.dtype)


def _rounds_on_gram(wide: Tensor, square: Tensor) -> Tensor:
    """The same rounds on the first G, of whose polynomials they are made: X is multiplied once, at the end.

    G is square and of the shorter side: for a convolution of 3x3 less than half of the work. float32, as rounding
    errors of G grow some 10**5 times.

    wide: n p q with p <= q; square: n 1 1, its sums of squares.
    """
    gram = torch.bmm(wide, wide.mT) / square
    a, b, c = CUBIC
    product = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device).expand_as(gram) * square.rsqrt()
    for done in range(ROUNDS):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=1, dim2=2).add_(a)
        product = torch.bmm(factor, product)
        if done + 1 < ROUNDS:
            gram = torch.bmm(torch.bmm(factor, gram), factor)
    return torch.bmm(product, wide)
