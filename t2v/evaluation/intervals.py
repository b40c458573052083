"""How sure a share is that was counted on a few clips."""

from math import sqrt
from typing import NamedTuple


class Interval(NamedTuple):
    """A range that holds the true value with a stated confidence."""

    low: float
    high: float


def wilson(num_right: int, num_all: int, *, z: float = 1.959964) -> Interval:
    """Wilson's score interval of a share: the shares p that lie within z standard errors of what was counted.

    These are the roots of (p_seen - p)^2 = z^2 p (1 - p) / n, which never leave [0, 1] and do not shrink to a point
    where all or none are right, unlike p_seen +- z sqrt(p_seen (1 - p_seen) / n). Of no clips nothing is known: [0, 1].

    z: 1.96 for 95% confidence
    Wilson 1927, Probable Inference, the Law of Succession, and Statistical Inference.
    """
    if num_all == 0:
        return Interval(0.0, 1.0)
    share = num_right / num_all
    middle = (share + z**2 / (2 * num_all)) / (1 + z**2 / num_all)
    reach = z / (1 + z**2 / num_all) * sqrt(share * (1 - share) / num_all + z**2 / (4 * num_all**2))
    # At the ends rounding would leave a trace beyond them.
    return Interval(max(0.0, middle - reach), min(1.0, middle + reach))
