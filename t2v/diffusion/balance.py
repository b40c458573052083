"""How much each noise level counts, found while training goes on."""

from collections.abc import Sequence

import torch
from torch import Tensor

NUM_STRATA = 40  # of the timesteps, which count alike within one


class LossBalance:
    """The recent mean loss of every noise level, by which its losses are divided, so that all levels count alike.

    The error of a clip that is all but lost in noise is a hundred times that of one which is all but clean, and most of
    it nobody could foretell. Where levels count by their errors, what is learned of outlines is drowned by that. Karras
    et al. 2024 (EDM2) learn the divisor with a small network; a running mean needs none.

    It is part of a run's state; it is fed with every loss of a step in the order of the global batch, so that it is the
    same in all processes and however the batch is split.

    num_timesteps; horizon: losses of a stratum behind its mean, once there were as many
    """

    def __init__(self, num_timesteps: int, *, horizon: int = 100) -> None:
        self.num_timesteps = num_timesteps
        self.horizon = horizon
        num_strata = min(NUM_STRATA, num_timesteps)
        self.means = torch.zeros(num_strata, dtype=torch.float64)
        self.counts = torch.zeros(num_strata, dtype=torch.int64)

    def probabilities(self) -> None:
        """Of the timesteps to be drawn, none: all are alike."""

    def weights(self, t: Tensor) -> Tensor:
        """What the losses at t (b) are to be weighed by: b, float64. Their weighed mean over all levels is the mean of
        the losses as they are; a stratum that has shown none or nothing but 0 counts as it is."""
        known = self.means > 0
        weights = torch.ones_like(self.means)
        weights[known] = self.means[known].mean() / self.means[known]
        return weights[self._strata(t)]

    def update(self, t: Sequence[int], losses: Sequence[float]) -> None:
        """Remember losses, in order."""
        for stratum, loss in zip(self._strata(torch.tensor(t)).tolist(), losses, strict=True):
            self.counts[stratum] += 1
            self.means[stratum] += (loss - self.means[stratum]) / min(int(self.counts[stratum]), self.horizon)

    def state(self) -> dict[str, Tensor]:
        return {"means": self.means, "counts": self.counts}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.means, self.counts = state["means"].clone(), state["counts"].clone()

    def _strata(self, t: Tensor) -> Tensor:
        return t * len(self.means) // self.num_timesteps
