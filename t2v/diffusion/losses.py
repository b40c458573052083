"""What training makes small: distances between answer and truth, or the bound on the likelihood itself."""

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


def motion_error(output: Tensor, target: Tensor) -> Tensor:
    """Squared difference of what moves, the deviation of each pixel from its mean over the frames. Both: b c f h w.

    Returns b, the mean over all values.
    """
    error = output - target
    return (error - error.mean(dim=2, keepdim=True)).square().flatten(1).mean(1)


# Element by element.
DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"l1": l1, "l2": l2, "huber": huber}

# Losses that are the variational bound itself, and how much its term at t counts, of num_timesteps.
BOUNDS: dict[str, Callable[[int], float]] = {
    "kl": lambda num_timesteps: 1.0,
    "rescaled_kl": lambda num_timesteps: float(num_timesteps),
}

LOSSES = (*DISTANCES, *BOUNDS)
