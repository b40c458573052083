"""The average copies first and then follows slowly."""

import torch
from torch import nn

from t2v.training.ema import EMA


def test_up_to_its_start_the_average_is_the_network() -> None:
    network = nn.Linear(3, 3)
    ema = EMA(network, decay=0.9, start=5)
    for step in range(1, 6):
        nn.init.normal_(network.weight)
        ema.update(network, step)
        assert torch.equal(ema.network.weight, network.weight)


def test_the_decay_rises_to_its_limit_and_never_passes_it() -> None:
    ema = EMA(nn.Linear(1, 1), decay=0.95, start=10)
    decays = [ema.decay_at(step) for step in range(1, 1000)]
    assert decays[:10] == [0.0] * 10
    assert decays == sorted(decays)
    assert decays[-1] == 0.95
    assert decays[10] < 0.2  # young: 2/11


def test_a_network_that_stands_still_is_reached() -> None:
    network = nn.Linear(2, 2)
    ema = EMA(network, decay=0.9, start=0)
    nn.init.constant_(network.weight, 7.0)
    for step in range(1, 300):
        ema.update(network, step)
    assert torch.allclose(ema.network.weight, network.weight)


def test_buffers_are_carried_along() -> None:
    network = nn.BatchNorm1d(2)
    ema = EMA(network, decay=0.9, start=0)
    network.running_mean.fill_(3.0)
    ema.update(network, 1)
    assert torch.equal(ema.network.running_mean, network.running_mean)
