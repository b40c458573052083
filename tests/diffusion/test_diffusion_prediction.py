"""What networks predict, and the distances by which they are judged."""

from typing import get_args

import pytest
import torch
from torch.nn import functional

from t2v.config import LossName, PredictionName
from t2v.diffusion.losses import LOSSES
from t2v.diffusion.prediction import PREDICTIONS

# Pure noise says nothing of the clip, so eps cannot be read back at an alpha of 0; the others can.
LEVELS = [(name, alpha) for name in PREDICTIONS for alpha in (0.0, 0.01, 0.6, 0.99) if (name, alpha) != ("eps", 0.0)]


def clip_and_noise():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 1, 3, 2, 5, 5, generator=generator, dtype=torch.float64)


def test_every_name_in_the_settings_has_an_entry():
    assert set(PREDICTIONS) == set(get_args(PredictionName))
    assert set(LOSSES) == set(get_args(LossName))


@pytest.mark.parametrize("name, alpha", LEVELS)
def test_the_clean_clip_can_be_read_back(name, alpha):
    x0, noise = clip_and_noise()
    alpha = torch.tensor(alpha, dtype=torch.float64)
    sigma = (1 - alpha**2).sqrt()
    output = PREDICTIONS[name].target(x0, noise, alpha, sigma)
    torch.testing.assert_close(PREDICTIONS[name].x0(output, alpha * x0 + sigma * noise, alpha, sigma), x0)


def test_losses_are_those_of_torch():
    x0, noise = clip_and_noise()
    torch.testing.assert_close(LOSSES["l1"](x0, noise), functional.l1_loss(x0, noise, reduction="none"))
    torch.testing.assert_close(LOSSES["l2"](x0, noise), functional.mse_loss(x0, noise, reduction="none"))
    torch.testing.assert_close(LOSSES["huber"](x0, noise), functional.smooth_l1_loss(x0, noise, reduction="none"))


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_zero_only_where_the_answer_is_right(name):
    error = torch.tensor([0.0, 0.1, 0.9, 1.1, 5.0])
    loss = LOSSES[name](error, torch.zeros(5))
    assert loss[0] == 0
    assert (loss.diff() > 0).all()
    assert loss.equal(LOSSES[name](torch.zeros(5), error))
