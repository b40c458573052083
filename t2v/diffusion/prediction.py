"""What a network says about a noised clip: the noise, the velocity or the clean clip.

Everywhere x_t = alpha x0 + sigma noise, and alpha, sigma broadcast over the clips (b c f h w).
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor


class Prediction(NamedTuple):
    """The two directions of a parameterization.

    x0: (output, x_t, alpha, sigma) -> the clean clip that the output means
    target: (x0, noise, alpha, sigma) -> what the network should have said
    """

    x0: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    target: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def x0_from_eps(output: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """Take the predicted noise away. Needs alpha > 0: pure noise says nothing of the clip. Ho et al. 2020, eq. 15."""
    return (x_t - sigma * output) / alpha


def x0_from_v(output: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """Turn back from the velocity; finite at every level. Salimans & Ho 2022, appendix D."""
    return alpha * x_t - sigma * output


def x0_from_x0(output: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """The output is the clean clip."""
    return output


def eps_target(x0: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """The noise that was mixed in. Ho et al. 2020, eq. 14."""
    return noise


def v_target(x0: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """The velocity at which x_t moves as clip turns into noise. Salimans & Ho 2022, appendix D."""
    return alpha * noise - sigma * x0


def x0_target(x0: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """The clean clip itself."""
    return x0


PREDICTIONS: dict[str, Prediction] = {
    "eps": Prediction(x0_from_eps, eps_target),
    "v": Prediction(x0_from_v, v_target),
    "x0": Prediction(x0_from_x0, x0_target),
}
