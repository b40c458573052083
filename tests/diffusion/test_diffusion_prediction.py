"""What networks predict, and how one prediction is read as another."""

from typing import get_args

import pytest
import torch

from t2v.config import PredictionName
from t2v.diffusion.gaussian import GaussianDiffusion
from t2v.diffusion.prediction import PREDICTIONS, Scales, convert, noise_in
from t2v.diffusion.schedule import CLEAN, make_schedule
from t2v.errors import SettingsError

NUM_TIMESTEPS = 50
SCHEDULES = {
    "cosine": make_schedule("cosine", NUM_TIMESTEPS),
    "zero terminal": make_schedule("cosine", NUM_TIMESTEPS, zero_terminal_snr=True),
}
# Pure noise says nothing of the clip, so eps cannot be read where a schedule ends without signal; the others can.
READABLE = [
    (schedule, name) for schedule in SCHEDULES for name in PREDICTIONS if (schedule, name) != ("zero terminal", "eps")
]


def at_every_timestep(schedule):
    """A clip and a noise for each timestep, and the coefficients there."""
    generator = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, NUM_TIMESTEPS, 3, 2, 4, 4, generator=generator, dtype=torch.float64)
    scales = Scales.of(schedule, torch.arange(NUM_TIMESTEPS), x0)
    return x0, noise, scales.alpha * x0 + scales.sigma * noise, scales


def test_every_name_in_the_settings_has_an_entry():
    assert set(PREDICTIONS) == set(get_args(PredictionName))


@pytest.mark.parametrize("schedule, name", READABLE)
def test_the_clean_clip_can_be_read_back_at_every_timestep(schedule, name):
    x0, noise, x_t, scales = at_every_timestep(SCHEDULES[schedule])
    target = PREDICTIONS[name].target(x0, noise, scales)
    torch.testing.assert_close(PREDICTIONS[name].x0(target, x_t, scales), x0, rtol=0, atol=1e-9)


@pytest.mark.parametrize("schedule, source", READABLE)
@pytest.mark.parametrize("to", PREDICTIONS)
def test_a_right_answer_is_converted_to_a_right_answer(schedule, source, to):
    x0, noise, x_t, scales = at_every_timestep(SCHEDULES[schedule])
    said, wanted = (PREDICTIONS[name].target(x0, noise, scales) for name in (source, to))
    torch.testing.assert_close(convert(said, x_t, scales, source=source, to=to), wanted, rtol=0, atol=1e-9)


@pytest.mark.parametrize("source", PREDICTIONS)
@pytest.mark.parametrize("to", PREDICTIONS)
def test_a_wrong_answer_survives_conversion_and_back(source, to):
    _, output, x_t, scales = at_every_timestep(SCHEDULES["cosine"])
    there = convert(output, x_t, scales, source=source, to=to)
    torch.testing.assert_close(convert(there, x_t, scales, source=to, to=source), output, rtol=0, atol=1e-7)


def test_targets_by_hand():
    """alpha 0.6, sigma 0.8: x0 = 1 and noise = 2 make x_t = 2.2."""
    one = torch.ones(1, 1, 1, 1, 1).double()
    scales = Scales(0.6 * one, 0.8 * one, 0.25 * one, 0.5 * one)
    targets = {name: PREDICTIONS[name].target(one, 2 * one, scales).item() for name in PREDICTIONS}
    assert targets == pytest.approx({"eps": 2, "v": 0.6 * 2 - 0.8, "x0": 1, "previous": 0.25 + 0.5 * 2.2})
    assert noise_in(2.2 * one, one, scales).item() == pytest.approx(2)


def test_previous_at_the_last_step_back_is_the_clip_itself():
    x0, noise, _, scales = at_every_timestep(SCHEDULES["cosine"])
    torch.testing.assert_close(PREDICTIONS["previous"].target(x0, noise, scales)[0], x0[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_coefficients_are_in_the_dtype_of_the_clips(dtype):
    like = torch.zeros(3, 1, 2, 2, 2, dtype=dtype)
    scales = Scales.of(SCHEDULES["cosine"], torch.tensor([4, 0, 49]), like)
    assert {scale.dtype for scale in scales} == {dtype}
    assert {tuple(scale.shape) for scale in scales} == {(3, 1, 1, 1, 1)}
    alpha = SCHEDULES["cosine"].level(torch.tensor([4, 0, 49])).alpha
    assert scales.alpha.flatten().equal(alpha.to(dtype))
    assert SCHEDULES["cosine"].level(CLEAN).alpha == 1


def test_eps_cannot_go_with_a_schedule_that_ends_without_signal():
    schedule = make_schedule("cosine", 50, zero_terminal_snr=True)
    with pytest.raises(
        SettingsError, match=r"prediction eps cannot go with .*zero_terminal_snr.*take prediction v or x0"
    ):
        GaussianDiffusion(schedule=schedule, prediction="eps")
    for name in set(PREDICTIONS) - {"eps"}:
        GaussianDiffusion(schedule=schedule, prediction=name)


@pytest.mark.parametrize("names", [{"source": "none such", "to": "v"}, {"source": "v", "to": "none such"}])
def test_an_unknown_prediction_is_told_those_that_exist(names):
    _, output, x_t, scales = at_every_timestep(SCHEDULES["cosine"])
    with pytest.raises(SettingsError, match="unknown prediction 'none such'; there are eps, v, x0, previous"):
        convert(output, x_t, scales, **names)
