"""Networks that know all there is to know, so that what a process makes of their answers can be told beforehand."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from t2v.diffusion.gaussian import GaussianDiffusion
from t2v.diffusion.prediction import PREDICTIONS, Scales
from t2v.diffusion.schedule import Schedule, spread
from t2v.diffusion.variance import VARIANCES


def t_told(diffusion: GaussianDiffusion, told: Tensor) -> Tensor:
    """The timesteps of the process at which its network is told this."""
    return (told[:, None].double() - diffusion.schedule.told).abs().argmin(1)


@pytest.fixture
def perfect() -> Callable[[GaussianDiffusion, Tensor], Any]:
    """perfect(diffusion, x0) is the network that knows the clip and answers what training would have asked of it."""

    def build(diffusion: GaussianDiffusion, x0: Tensor) -> Any:
        def network(x_t: Tensor, told: Tensor, text: Any) -> Tensor:
            scales = Scales.of(diffusion.schedule, t_told(diffusion, told), x_t)
            noise = (x_t - scales.alpha * x0) / scales.sigma
            return PREDICTIONS[diffusion.prediction].target(x0, noise, scales)

        return network

    return build


class GaussianClips:
    """Clips whose every value is normal and stands alone: all that a network could know of them is known."""

    mean, std = 0.1, 0.3

    def variance(self, schedule: Schedule, t: int | Tensor) -> Tensor:
        """Var[x_t], of the shape of t."""
        level = schedule.level(t)
        return (level.alpha * self.std) ** 2 + level.sigma**2

    def doubt(self, schedule: Schedule, t: int | Tensor) -> Tensor:
        """Var[x0 | x_t], of the shape of t."""
        return self.std**2 * schedule.level(t).sigma ** 2 / self.variance(schedule, t)

    def step_variance(self, schedule: Schedule, t: int | Tensor) -> Tensor:
        """Var[x one step cleaner | x_t], of the shape of t: that of the posterior and that of not knowing the clip."""
        posterior = schedule.posterior(t)
        return posterior.variance + posterior.x0_weight**2 * self.doubt(schedule, t)

    def x0(self, schedule: Schedule, x_t: Tensor, t: int | Tensor) -> Tensor:
        """E[x0 | x_t]."""
        alpha, variance = spread(schedule.level(t).alpha, x_t), spread(self.variance(schedule, t), x_t)
        return self.mean + alpha * self.std**2 / variance * (x_t - alpha * self.mean)

    def noised(self, schedule: Schedule, z: Tensor, t: int) -> Tensor:
        """The x_t that lies z standard deviations from the mean."""
        return schedule.level(t).alpha * self.mean + self.variance(schedule, t).sqrt() * z

    def network(self, diffusion: GaussianDiffusion) -> Any:
        """The best network: its answer is the mean of the targets, and its variance is the true one."""

        def network(x_t: Tensor, told: Tensor, text: Any) -> Tensor:
            t = t_told(diffusion, told)
            scales, x0 = Scales.of(diffusion.schedule, t, x_t), self.x0(diffusion.schedule, x_t, t)
            said = PREDICTIONS[diffusion.prediction].target(x0, (x_t - scales.alpha * x0) / scales.sigma, scales)
            if not diffusion.learns_variance:
                return said
            log_variance = spread(self.step_variance(diffusion.schedule, t).log(), x_t)
            if diffusion.variance == "learned_range":
                low, high = (
                    VARIANCES["learned_range"].log_variance(diffusion.schedule, t, x_t * 0 + at) for at in (-1, 1)
                )
                log_variance = 2 * (log_variance - low) / (high - low) - 1
            return torch.cat((said, log_variance.expand_as(said)), dim=1)

        return network


@pytest.fixture
def gaussian_clips() -> GaussianClips:
    return GaussianClips()
