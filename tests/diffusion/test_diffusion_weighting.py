"""How much each noise level counts, against the papers' formulas written out anew."""

from typing import get_args

import pytest
import torch

from t2v.config import WeightingName
from t2v.diffusion.gaussian import GaussianDiffusion
from t2v.diffusion.prediction import PREDICTIONS
from t2v.diffusion.schedule import make_schedule
from t2v.diffusion.weighting import ERROR_RATIOS, WEIGHTINGS, loss_weight
from t2v.errors import SettingsError

SNR = torch.logspace(-4, 4, 33, dtype=torch.float64)

# Hang et al. 2023, section 3.4, for their three targets; Choi et al. 2022, eq. 8, whose plain loss is of the noise;
# Salimans & Ho 2022, section 4, with a bound.
PAPERS = {
    ("min_snr", "x0"): lambda snr, gamma: min(snr, gamma),
    ("min_snr", "eps"): lambda snr, gamma: min(snr, gamma) / snr,
    ("min_snr", "v"): lambda snr, gamma: min(snr, gamma) / (snr + 1),
    ("p2", "eps"): lambda snr, gamma: 1 / (1 + snr) ** gamma,
    ("p2", "x0"): lambda snr, gamma: snr / (1 + snr) ** gamma,
    ("p2", "v"): lambda snr, gamma: snr / (1 + snr) ** (gamma + 1),
    ("velocity", "x0"): lambda snr, gamma: min(snr + 1, gamma),
    ("velocity", "eps"): lambda snr, gamma: min(snr + 1, gamma) / snr,
    ("velocity", "v"): lambda snr, gamma: min(snr + 1, gamma) / (snr + 1),
}
USUAL = {"min_snr": 5.0, "p2": 1.0, "velocity": 400.0}


def test_every_name_in_the_settings_has_a_weighting():
    assert set(WEIGHTINGS) == set(get_args(WeightingName))


def test_every_weighting_is_compared_with_its_paper():
    formulas = [name for name, weighting in WEIGHTINGS.items() if weighting is not None]
    assert set(PAPERS) == {(name, prediction) for name in formulas for prediction in ERROR_RATIOS}
    # What balances goes by the losses of a run, see test_diffusion_balance.py.
    assert set(WEIGHTINGS) - set(formulas) == {"none", "balanced"}


@pytest.mark.parametrize("gamma", [None, 0.5, 20.0])
@pytest.mark.parametrize("name, prediction", PAPERS)
def test_weights_are_those_of_the_paper(name, prediction, gamma):
    formula = PAPERS[name, prediction]
    expected = [formula(snr, USUAL[name] if gamma is None else gamma) for snr in SNR.tolist()]
    torch.testing.assert_close(loss_weight(name, prediction, SNR, gamma), torch.tensor(expected, dtype=torch.float64))


def test_min_snr_holds_back_the_clean_levels_and_not_the_noisy_ones():
    """With gamma 5: a ratio of 100 counts 5 and one of 1/4 itself in the clip; in the noise 0.05 and 1."""
    snr = torch.tensor([100.0, 0.25]).double()
    assert loss_weight("min_snr", "x0", snr).tolist() == [5, 0.25]
    assert loss_weight("min_snr", "eps", snr).tolist() == [0.05, 1]
    assert loss_weight("min_snr", "v", snr).tolist() == pytest.approx([5 / 101, 0.2])


@pytest.mark.parametrize("prediction", ERROR_RATIOS)
def test_min_snr_without_a_bound_counts_errors_of_the_noise(prediction):
    torch.testing.assert_close(loss_weight("min_snr", prediction, SNR, 1e9), SNR / ERROR_RATIOS[prediction](SNR))


def test_velocity_without_a_bound_is_the_plain_loss_of_v():
    torch.testing.assert_close(loss_weight("velocity", "v", SNR, 1e9), torch.ones_like(SNR))


@pytest.mark.parametrize("prediction", ERROR_RATIOS)
def test_error_ratios_are_what_an_error_in_the_clip_becomes(prediction):
    """Tell the network's answer from a clip that is off by 0.1, and square the difference."""
    schedule, x_t = make_schedule("cosine", 50), torch.ones(50, 1, 1, 1, 1).double()
    t = torch.arange(50)
    level = schedule.level(t)
    alpha, sigma = (scale.reshape(-1, 1, 1, 1, 1) for scale in level)
    answers = [
        PREDICTIONS[prediction].target(x0, (x_t - alpha * x0) / sigma, _Scales(alpha, sigma))
        for x0 in (torch.zeros_like(x_t), 0.1 * torch.ones_like(x_t))
    ]
    squared = ((answers[0] - answers[1]) ** 2).flatten()
    torch.testing.assert_close(squared / 0.1**2, ERROR_RATIOS[prediction](schedule.snr(t)))


class _Scales:
    def __init__(self, alpha, sigma):
        self.alpha, self.sigma = alpha, sigma


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_a_weighting_means_the_same_whatever_is_predicted(name, perfect):
    """Networks that see the same wrong clip have the same weighted loss; plainly they have not."""
    schedule, t = make_schedule("cosine", 50), torch.tensor([3, 25, 45])
    x0 = torch.full((3, 1, 2, 4, 4), 0.25).double()
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    totals = []
    for prediction in ERROR_RATIOS:
        diffusion = GaussianDiffusion(schedule=schedule, prediction=prediction, weighting=name)
        totals.append(diffusion.losses(perfect(diffusion, x0 + 0.1), x0, t, noise).total)
    same = all(torch.allclose(total, totals[0]) for total in totals[1:])
    assert same == (WEIGHTINGS[name] is not None)


def test_no_weighting_leaves_the_loss_alone():
    assert loss_weight("none", "previous", SNR) is None


@pytest.mark.parametrize("name", [name for name, weighting in WEIGHTINGS.items() if weighting is not None])
def test_a_prediction_that_cannot_be_weighed_is_refused_at_once(name):
    with pytest.raises(SettingsError, match=f"weighting {name} is for prediction x0, eps, v, not previous"):
        GaussianDiffusion(schedule=make_schedule("cosine", 50), prediction="previous", weighting=name)


def test_an_unknown_weighting_is_told_those_that_exist():
    with pytest.raises(SettingsError, match="unknown weighting 'none such'; there are none, min_snr, p2"):
        loss_weight("none such", "eps", SNR)
