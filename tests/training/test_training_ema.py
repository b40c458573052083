"""The average copies first and then follows slowly, and without its ramp it is what the originals compute."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from t2v.errors import SettingsError
from t2v.reading import recipe_from_mapping
from t2v.training.ema import EMA


class Weights(nn.Module):
    """A network of one parameter and one buffer."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights.clone())
        self.register_buffer("buffer", torch.zeros(()))


@pytest.mark.golden("improved_diffusion", "update_ema_*")
def test_from_the_first_step_and_at_one_rate_it_is_that_of_improved_diffusion(golden_case: Any) -> None:
    case = golden_case
    ema = EMA(Weights(case["initial_target"]), decay=case.args["rate"], start=0, ramp=False)
    for step, (weights, expected) in enumerate(zip(case["source_params"], case["target_after_each"], strict=True), 1):
        ema.update(Weights(weights), step)
        torch.testing.assert_close(ema.network.weights.data, expected, rtol=0, atol=1e-6)


@pytest.mark.golden("dome272", "ema_*")
def test_after_its_copies_it_is_that_of_dome272_save_for_the_buffers(golden_case: Any) -> None:
    case, start = golden_case, golden_case.args["step_start_ema"]
    ema = EMA(Weights(torch.zeros(6)), decay=case.args["beta"], start=start, ramp=False)
    for step, (weights, expected) in enumerate(zip(case["model_w"], case["ema_w_after_each"], strict=True), 1):
        network = Weights(weights)
        network.buffer.copy_(case["model_buffer_at_step"][step - 1])
        ema.update(network, step)
        torch.testing.assert_close(ema.network.weights.data, expected, rtol=0, atol=1e-6)
        assert ema.network.buffer == network.buffer
        assert case["ema_buffer_after_each"][step - 1] == case["model_buffer_at_step"][min(step, start) - 1]


def test_averages_kept_twice_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"more_ema_decays must all differ, not \[0.9, 0.99, 0.9\]"):
        recipe_from_mapping({}, {"train.more_ema_decays": "[0.9, 0.99, 0.9]"})


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


def test_an_average_kept_elsewhere_is_drawn_from_where_the_network_is() -> None:
    network = nn.Linear(3, 3)
    ema = EMA(network, decay=0.9, start=0)
    assert ema.network is ema.kept
    ema.home = torch.device("meta")  # as if the network were on a GPU
    assert ema.network.weight.device.type == "meta"
    assert torch.equal(ema.kept.weight, network.weight)


@pytest.mark.gpu
def test_an_average_in_the_cpus_memory_is_that_of_the_gpu_to_the_last_bit() -> None:
    network = nn.BatchNorm1d(1000).cuda()
    ema, away = (EMA(network, decay=0.9, start=2, device=device) for device in (None, torch.device("cpu")))
    for step in range(1, 20):
        nn.init.normal_(network.weight)
        network.running_mean.fill_(step)
        ema.update(network, step)
        away.update(network, step)
        assert {tensor.device.type for tensor in away.kept.state_dict().values()} == {"cpu"}
        for name, tensor in ema.network.state_dict().items():
            assert torch.equal(away.network.state_dict()[name], tensor)
            assert torch.equal(away.kept.state_dict()[name], tensor.cpu())


def test_buffers_are_carried_along() -> None:
    network = nn.BatchNorm1d(2)
    ema = EMA(network, decay=0.9, start=0)
    network.running_mean.fill_(3.0)
    ema.update(network, 1)
    assert torch.equal(ema.network.running_mean, network.running_mean)
