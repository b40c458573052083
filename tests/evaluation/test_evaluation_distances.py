"""Distances between sets of features, against closed forms."""

import numpy as np
import pytest

from t2v.evaluation.distances import frechet_distance, kernel_distance


def with_moments(mean, covariance, count, seed=0):
    """Features with exactly this mean and this unbiased covariance."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((count, len(mean)))
    noise -= noise.mean(axis=0)
    whitened = noise @ np.linalg.inv(np.linalg.cholesky(np.cov(noise.T))).T
    return whitened @ np.linalg.cholesky(np.array(covariance)).T + np.array(mean)


def cubic(x, y):
    return (x @ y / len(x) + 1) ** 3


def test_the_frechet_distance_of_normals_with_diagonal_covariances():
    one = with_moments([1, 2, 3], np.diag([1.0, 4.0, 9.0]), 50)
    other = with_moments([1, 0, 4], np.diag([4.0, 4.0, 1.0]), 60, seed=1)
    # Squared difference of means, and of standard deviations: (2^2 + 1) + (1 + 0 + 4).
    assert frechet_distance(one, other) == pytest.approx(10)


def test_the_frechet_distance_of_normals_whose_covariances_do_not_commute():
    first, second = np.array([[2.0, 1.0], [1.0, 1.0]]), np.array([[1.0, 0.0], [0.0, 3.0]])
    one, other = with_moments([0, 0], first, 40), with_moments([0, 0], second, 40, seed=1)
    # For 2 x 2 matrices tr M^(1/2) = sqrt(tr M + 2 sqrt(det M)).
    product = first @ second
    root = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    assert frechet_distance(one, other) == pytest.approx(np.trace(first) + np.trace(second) - 2 * root)


def test_the_frechet_distance_is_sound_with_fewer_clips_than_features():
    rng = np.random.default_rng(0)
    few = rng.standard_normal((10, 64))
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(few, few + 3) == pytest.approx(64 * 9)
    assert frechet_distance(few, few[:, ::-1]) == pytest.approx(frechet_distance(few[:, ::-1], few))
    # Features far from zero must not cost digits.
    assert frechet_distance(few + 1e4, 2 * few + 1e4 - few.mean(axis=0)) == pytest.approx(
        np.trace(np.cov(few.T)), rel=1e-6
    )


def test_the_kernel_distance_is_its_definition():
    rng = np.random.default_rng(0)
    one, other = rng.standard_normal((7, 5)), rng.standard_normal((9, 5)) + 0.5
    within = [
        np.mean([cubic(x, y) for i, x in enumerate(rows) for j, y in enumerate(rows) if i != j])
        for rows in (one, other)
    ]
    between = np.mean([cubic(x, y) for x in one for y in other])
    for chunk in (2, 4, 100):
        assert kernel_distance(one, other, chunk=chunk) == pytest.approx(sum(within) - 2 * between)


def test_the_kernel_distance_of_two_points_has_a_closed_form():
    one, other = np.zeros((3, 4)), np.ones((5, 4))
    assert kernel_distance(one, other) == pytest.approx(1 + 8 - 2)


def test_the_kernel_distance_of_equal_distributions_is_zero_on_average():
    rng = np.random.default_rng(0)
    distances = np.array([kernel_distance(*rng.standard_normal((2, 20, 3))) for _ in range(400)])
    error = distances.std() / np.sqrt(len(distances))
    assert abs(distances.mean()) < 3 * error
    assert distances.min() < 0
    assert kernel_distance(rng.standard_normal((20, 3)), rng.standard_normal((20, 3)) + 2) > 20 * distances.std()


@pytest.mark.parametrize("measure", [frechet_distance, kernel_distance])
def test_what_is_no_set_of_features_is_refused(measure):
    with pytest.raises(AssertionError, match="n of at least 2"):
        measure(np.zeros((1, 3)), np.zeros((4, 3)))
    with pytest.raises(AssertionError, match="NaN"):
        measure(np.full((4, 3), np.nan), np.zeros((4, 3)))
