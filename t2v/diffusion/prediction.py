"""What a network says about a noised clip: the noise, the velocity, the clean clip or the clip one step cleaner.

Everywhere x_t = alpha x0 + sigma noise.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from t2v.diffusion.choose import choose
from t2v.diffusion.schedule import Schedule, spread


class Scales(NamedTuple):
    """Coefficients of the clips' timesteps, each shaped to scale b c f h w.

    x0_weight, x_t_weight: of the posterior mean, the clip one step cleaner
    """

    alpha: Tensor
    sigma: Tensor
    x0_weight: Tensor
    x_t_weight: Tensor

    @classmethod
    def of(cls, schedule: Schedule, t: Tensor, like: Tensor) -> "Scales":
        """The coefficients at t (b) in the dtype and place of `like`."""
        coefficients = (*schedule.level(t), *schedule.posterior(t)[:2])
        return cls(*(spread(coefficient, like) for coefficient in coefficients))


class Prediction(NamedTuple):
    """The two directions of a parameterization.

    x0: (output, x_t, scales) -> the clean clip that the output means
    target: (x0, noise, scales) -> what the network should have said
    """

    x0: Callable[[Tensor, Tensor, Scales], Tensor]
    target: Callable[[Tensor, Tensor, Scales], Tensor]


def x0_from_eps(output: Tensor, x_t: Tensor, scales: Scales) -> Tensor:
    """Take the predicted noise away. Needs alpha > 0: pure noise says nothing of the clip. Ho et al. 2020, eq. 15."""
    return (x_t - scales.sigma * output) / scales.alpha


def x0_from_v(output: Tensor, x_t: Tensor, scales: Scales) -> Tensor:
    """Turn back from the velocity; finite at every level. Salimans & Ho 2022, appendix D."""
    return scales.alpha * x_t - scales.sigma * output


def x0_from_x0(output: Tensor, x_t: Tensor, scales: Scales) -> Tensor:
    """The output is the clean clip."""
    return output


def x0_from_previous(output: Tensor, x_t: Tensor, scales: Scales) -> Tensor:
    """Solve the posterior mean for the clean clip. Ho et al. 2020, eq. 7; Nichol & Dhariwal 2021, code."""
    return (output - scales.x_t_weight * x_t) / scales.x0_weight


def eps_target(x0: Tensor, noise: Tensor, scales: Scales) -> Tensor:
    """The noise that was mixed in. Ho et al. 2020, eq. 14."""
    return noise


def v_target(x0: Tensor, noise: Tensor, scales: Scales) -> Tensor:
    """The velocity at which x_t moves as clip turns into noise. Salimans & Ho 2022, appendix D."""
    return scales.alpha * noise - scales.sigma * x0


def x0_target(x0: Tensor, noise: Tensor, scales: Scales) -> Tensor:
    """The clean clip itself."""
    return x0


def previous_target(x0: Tensor, noise: Tensor, scales: Scales) -> Tensor:
    """The mean of the clip one step cleaner. Ho et al. 2020, eq. 7."""
    return scales.x0_weight * x0 + scales.x_t_weight * (scales.alpha * x0 + scales.sigma * noise)


PREDICTIONS: dict[str, Prediction] = {
    "eps": Prediction(x0_from_eps, eps_target),
    "v": Prediction(x0_from_v, v_target),
    "x0": Prediction(x0_from_x0, x0_target),
    "previous": Prediction(x0_from_previous, previous_target),
}


def noise_in(x_t: Tensor, x0: Tensor, scales: Scales) -> Tensor:
    """The noise that makes x_t of x0. Needs sigma > 0."""
    return (x_t - scales.alpha * x0) / scales.sigma


def convert(output: Tensor, x_t: Tensor, scales: Scales, *, source: str, to: str) -> Tensor:
    """What a network of prediction `to` would have said where one of prediction `source` said `output`."""
    x0 = choose(PREDICTIONS, source, "prediction").x0(output, x_t, scales)
    return choose(PREDICTIONS, to, "prediction").target(x0, noise_in(x_t, x0, scales), scales)
