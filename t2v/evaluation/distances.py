"""How far two sets of clips are apart, measured on their features."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Features = NDArray[np.float64]


def frechet_distance(one: ArrayLike, other: ArrayLike) -> float:
    """Squared Fréchet distance between the normal distributions with the means and covariances of two sets.

        |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))

    one, other: n d features, at least two rows each; the covariances are the unbiased ones (divided by n - 1)
    Dowson and Landau 1982, eq. 16; Heusel et al. 2017 for features of a network. It is biased upwards for few samples,
    so it is only to be compared at equal n, beside the distance of real clips from other real clips.
    """
    first, second = _features(one), _features(other)
    apart = first.mean(axis=0) - second.mean(axis=0)
    # A covariance is A^T A of the centred features A, so tr (C1 C2)^(1/2) is the sum of the singular values of A1 A2^T.
    # No root of a nearly singular matrix is taken, which loses digits and can come out complex. With R from A = Q R the
    # product is d by d, and Q does not change its singular values.
    roots = [_centred_root(features) for features in (first, second)]
    cross = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    distance = apart @ apart + sum((root**2).sum() for root in roots) - 2 * cross
    return max(0.0, float(distance))


def kernel_distance(one: ArrayLike, other: ArrayLike, *, chunk: int = 2048) -> float:
    """Unbiased squared maximum mean discrepancy under the cubic kernel k(x, y) = (x . y / d + 1)^3.

        mean of k(x, x') over x != x'  +  mean of k(y, y') over y != y'  -  2 mean of k(x, y)

    one, other: n d features, at least two rows each, not necessarily as many; chunk: rows taken at a time, which bounds
        memory by chunk * n numbers
    Its expectation does not depend on n, and for equal distributions it is 0: single values may be negative.
    Binkowski et al. 2018, Demystifying MMD GANs, section 4; the estimator is Gretton et al. 2012, eq. 3.
    """
    first, second = _features(one), _features(other)
    within = sum(_mean_kernel_of_pairs(features, chunk) for features in (first, second))
    between = _kernel_sum(first, second, chunk) / (len(first) * len(second))
    return float(within - 2 * between)


def _features(values: ArrayLike) -> Features:
    features = np.asarray(values, np.float64)
    assert features.ndim == 2 and len(features) >= 2, f"features are n d with n of at least 2, not {features.shape}"
    assert np.isfinite(features).all(), "features hold NaN or infinity"
    return features


def _centred_root(features: Features) -> Features:
    """A matrix R, at most d by d, with R^T R the covariance of the features."""
    centred = (features - features.mean(axis=0)) / np.sqrt(len(features) - 1)
    return np.asarray(np.linalg.qr(centred, mode="r"), np.float64)


def _mean_kernel_of_pairs(features: Features, chunk: int) -> float:
    """The mean of the kernel over all ordered pairs of two different rows."""
    count, width = features.shape
    own = (((features**2).sum(axis=1) / width + 1) ** 3).sum()
    return float((_kernel_sum(features, features, chunk) - own) / (count * (count - 1)))


def _kernel_sum(one: Features, other: Features, chunk: int) -> float:
    width = one.shape[1]
    starts = range(0, len(one), chunk)
    return float(sum(((one[start : start + chunk] @ other.T / width + 1) ** 3).sum() for start in starts))
