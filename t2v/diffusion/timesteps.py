"""Which timesteps training visits: all alike, or those more often at which the loss still varies."""

from collections.abc import Sequence

import torch
from torch import Tensor


class LossSecondMoment:
    """Timesteps drawn in proportion to the root mean square of their last losses, once each has enough of them.

    For losses whose size differs greatly between timesteps, such as the variational bound. What it draws is weighed by
    1 / (num_timesteps p), so that the mean stays that of even draws. Until every timestep has a full history all are
    drawn alike.
    Its history is part of a run's state; it is fed with every loss of a step in the order of the global batch, so that
    it is the same in all processes and however the batch is split.

    num_timesteps; history: losses kept of each timestep; even_share: of draws that fall anywhere
    Nichol & Dhariwal 2021, section 3.3.
    """

    def __init__(self, num_timesteps: int, *, history: int = 10, even_share: float = 0.001) -> None:
        self.even_share = even_share
        self.losses = torch.zeros(num_timesteps, history, dtype=torch.float64)
        self.counts = torch.zeros(num_timesteps, dtype=torch.int64)

    @property
    def is_warm(self) -> bool:
        """Whether every timestep has a full history."""
        return bool((self.counts == self.losses.shape[1]).all())

    def probabilities(self) -> Tensor:
        """How probable each timestep is to be drawn: num_timesteps, float64, of sum 1."""
        even = torch.full_like(self.losses[:, 0], 1 / len(self.counts))
        if not self.is_warm:
            return even
        spread = self.losses.square().mean(1).sqrt()
        return (1 - self.even_share) * spread / spread.sum() + self.even_share * even

    def weights(self, t: Tensor) -> Tensor:
        """What the losses at t (b) are to be weighed by: b, float64."""
        return 1 / (len(self.counts) * self.probabilities()[t])

    def update(self, t: Sequence[int], losses: Sequence[float]) -> None:
        """Remember losses, in order; each timestep forgets its oldest."""
        for time, loss in zip(t, losses, strict=True):
            count = int(self.counts[time])
            if count < self.losses.shape[1]:
                self.losses[time, count] = loss
                self.counts[time] += 1
            else:
                self.losses[time] = torch.cat((self.losses[time, 1:], self.losses.new_tensor([loss])))

    def state(self) -> dict[str, Tensor]:
        return {"losses": self.losses, "counts": self.counts}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.losses, self.counts = state["losses"].clone(), state["counts"].clone()


def timestep_at(place: float, probabilities: Tensor | None, num_timesteps: int) -> int:
    """The timestep at which a share `place` in [0, 1) of all probability lies below; None is even probability."""
    if probabilities is None:
        return int(place * num_timesteps)
    reached = torch.searchsorted(probabilities.cumsum(0), torch.tensor(place, dtype=torch.float64), right=True)
    return min(int(reached), num_timesteps - 1)
