"""Distances between what the network said and what was right, element by element."""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional


def l1(output: Tensor, target: Tensor) -> Tensor:
    """Absolute difference."""
    return (output - target).abs()


def l2(output: Tensor, target: Tensor) -> Tensor:
    """Squared difference."""
    return (output - target) ** 2


def huber(output: Tensor, target: Tensor) -> Tensor:
    """Half the square below a difference of 1, a line of slope 1 above. Huber 1964."""
    return functional.huber_loss(output, target, reduction="none")


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"l1": l1, "l2": l2, "huber": huber}
