"""How much each noise level counts in the loss.

Each entry of WEIGHTINGS is the weight of a squared error in the clean clip, as a function of the signal-to-noise ratio
alpha**2 / sigma**2. `loss_weight` turns it into that of an error in what the network predicts, so that a weighting
means the same whatever is predicted.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from t2v.diffusion.choose import choose
from t2v.errors import SettingsError


class Weighting(NamedTuple):
    """x0: (snr, gamma) -> weight of an error in the clean clip; usual_gamma: its authors' choice."""

    x0: Callable[[Tensor, float], Tensor]
    usual_gamma: float


def min_snr(snr: Tensor, gamma: float) -> Tensor:
    """Levels cleaner than a ratio of gamma count no more than that one. Hang et al. 2023, eq. 8."""
    return snr.clamp(max=gamma)


def p2(snr: Tensor, gamma: float) -> Tensor:
    """Levels at which little is left to see count less, by (1 + snr)**gamma. Choi et al. 2022, eq. 8 with k = 1."""
    return snr / (1 + snr) ** gamma


def velocity(snr: Tensor, gamma: float) -> Tensor:
    """An error in the clip counts as the error in v that it makes, up to gamma. Salimans & Ho 2022, section 4, SNR + 1.

    For networks that say x0 because noise does not go through their width, and yet should see details (Li & He 2025,
    Back to Basics, who hold back the clean levels by a bound too).
    """
    return (snr + 1).clamp(max=gamma)


WEIGHTINGS: dict[str, Weighting | None] = {
    "none": None,
    "min_snr": Weighting(min_snr, usual_gamma=5.0),
    "p2": Weighting(p2, usual_gamma=1.0),
    "velocity": Weighting(velocity, usual_gamma=400.0),
    "balanced": None,  # by losses of the run itself, see t2v.diffusion.balance
}

# A squared error in the prediction, over the squared error in the clean clip that it makes.
ERROR_RATIOS: dict[str, Callable[[Tensor], Tensor]] = {
    "x0": torch.ones_like,
    "eps": lambda snr: snr,
    "v": lambda snr: snr + 1,
}


def loss_weight(name: str, prediction: str, snr: Tensor, gamma: float | None = None) -> Tensor | None:
    """Weight of the prediction's own squared error at each ratio; None where every level counts as it is.

    snr: any shape, float64; gamma: None takes the authors' choice
    Raises SettingsError for an unknown name, or a prediction that it cannot weigh.
    """
    weighting = choose(WEIGHTINGS, name, "weighting")
    if weighting is None:
        return None
    if prediction not in ERROR_RATIOS:
        raise SettingsError(f"weighting {name} is for prediction {', '.join(ERROR_RATIOS)}, not {prediction}")
    return weighting.x0(snr, weighting.usual_gamma if gamma is None else gamma) / ERROR_RATIOS[prediction](snr)
