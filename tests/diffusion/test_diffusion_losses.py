"""The distances by which answers are judged, and the bounds in their place."""

from typing import get_args

import pytest
import torch
from torch.nn import functional

from t2v.config import LossName
from t2v.diffusion.losses import BOUNDS, DISTANCES, LOSSES


def test_every_name_in_the_settings_has_a_loss():
    assert set(LOSSES) == set(get_args(LossName)) == {*DISTANCES, *BOUNDS}


def test_distances_are_those_of_torch():
    output, target = 2 * torch.randn(2, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(DISTANCES["l1"](output, target), functional.l1_loss(output, target, reduction="none"))
    torch.testing.assert_close(DISTANCES["l2"](output, target), functional.mse_loss(output, target, reduction="none"))
    torch.testing.assert_close(
        DISTANCES["huber"](output, target), functional.smooth_l1_loss(output, target, reduction="none")
    )


@pytest.mark.parametrize("name", DISTANCES)
def test_a_distance_is_zero_only_where_the_answer_is_right(name):
    error = torch.tensor([0.0, 0.1, 0.9, 1.1, 5.0])
    distance = DISTANCES[name](error, torch.zeros(5))
    assert distance[0] == 0
    assert (distance.diff() > 0).all()
    assert distance.equal(DISTANCES[name](torch.zeros(5), error))


def test_the_rescaled_bound_is_of_the_size_of_the_whole_chain():
    assert {name: count(400) for name, count in BOUNDS.items()} == {"kl": 1, "rescaled_kl": 400}
