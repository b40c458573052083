"""Which levels a walk visits."""

from itertools import pairwise
from typing import get_args

import pytest
import torch

from t2v.config import SpacingName
from t2v.diffusion.schedule import CLEAN, make_schedule
from t2v.diffusion.spacing import SPACINGS, space, visiting
from t2v.errors import SettingsError

SCHEDULE = make_schedule("cosine", 1000)
SECTIONED = ["10,15,20", "ddim25"]
# Karras' need signal at every level.
WALKS = [(spacing, False) for spacing in [*SPACINGS, *SECTIONED]] + [
    (spacing, True) for spacing in [*SPACINGS, *SECTIONED] if not spacing.startswith("karras")
]
NUM_STEPS = {"10,15,20": 45, "ddim25": 25}


def told(spacing, num_steps, schedule=SCHEDULE):
    return space(schedule, spacing, num_steps).told.tolist()


def test_every_name_in_the_settings_has_a_spacing():
    assert set(SPACINGS) == set(get_args(SpacingName))


@pytest.mark.parametrize("spacing, zero_terminal_snr", WALKS)
@pytest.mark.parametrize("num_steps", [1, 20])
def test_a_walk_visits_falling_levels_of_the_process(spacing, zero_terminal_snr, num_steps):
    schedule = make_schedule("cosine", 1000, zero_terminal_snr=zero_terminal_snr)
    walk = space(schedule, spacing, num_steps)
    assert walk.num_timesteps == NUM_STEPS.get(spacing, num_steps) == len(walk.told) == len(walk.betas)
    assert (walk.alphas_cumprod.diff() < 0).all() and (walk.told.diff() >= 0).all()
    assert schedule.alphas_cumprod[-1] <= walk.alphas_cumprod[-1]
    # Karras' levels are powers, whose last bit may round.
    assert walk.alphas_cumprod[0] <= schedule.alphas_cumprod[0] + 1e-12
    assert walk.end > walk.alphas_cumprod[0]


@pytest.mark.parametrize("spacing", [*SPACINGS, *SECTIONED])
def test_the_betas_of_a_walk_are_those_between_its_levels(spacing):
    """Respacing as Nichol & Dhariwal do it: what is left after all steps is what the levels say."""
    walk = space(SCHEDULE, spacing, 20)
    torch.testing.assert_close(walk.end * (1 - walk.betas).cumprod(0), walk.alphas_cumprod)


@pytest.mark.parametrize("spacing", [*SPACINGS, *SECTIONED])
def test_told_timesteps_are_those_of_the_levels(spacing):
    """Also between timesteps: the level of what is told is that of the walk, or, where rounded, next to it."""
    walk = space(SCHEDULE, spacing, 20)
    around = 0.51 if spacing == "karras_rounded" else 1e-6
    low = SCHEDULE.level((walk.told - around).floor().long().clamp(min=0)).sigma
    high = SCHEDULE.level((walk.told + around).ceil().long().clamp(max=999)).sigma
    sigma = (1 - walk.alphas_cumprod).sqrt()
    assert ((low - 1e-9 <= sigma) & (sigma <= high + 1e-9)).all()


def test_a_sectioned_spacing_may_be_shorter_than_num_steps_says():
    assert space(SCHEDULE, "3,2", 999).num_timesteps == 5


@pytest.mark.parametrize("num_timesteps, num_steps", [(1000, 1), (1000, 50), (1000, 999), (1000, 1000), (7, 3)])
def test_trailing_starts_at_the_noisiest_and_falls_evenly(num_timesteps, num_steps):
    times = told("trailing", num_steps, make_schedule("cosine", num_timesteps))
    assert len(times) == num_steps
    assert times[-1] == num_timesteps - 1 and times[0] >= 0
    gaps = [b - a for a, b in pairwise(times)]
    assert all(gap in (num_timesteps // num_steps, num_timesteps // num_steps + 1) for gap in gaps)


@pytest.mark.parametrize(
    "spacing, num_timesteps, num_steps, expected",
    [
        ("trailing", 1000, 5, [199, 399, 599, 799, 999]),
        ("leading", 1000, 5, [0, 200, 400, 600, 800]),
        ("leading", 1000, 3, [0, 333, 666]),
        ("even", 1000, 4, [0, 333, 666, 999]),
        ("uniform", 1000, 5, [1, 201, 401, 601, 801]),
        ("uniform", 1000, 6, [1, 167, 333, 499, 665, 831, 997]),
        ("quadratic", 1000, 3, [1, 201, 801]),
        ("linspace_rounded", 1000, 4, [250, 500, 749, 999]),
        ("2,3", 100, 1, [0, 49, 50, 74, 99]),
        ("1,1,2", 10, 1, [0, 4, 7, 9]),
        ("ddim5", 100, 1, [0, 20, 40, 60, 80]),
        ("ddim34", 100, 1, list(range(0, 100, 3))),
    ],
)
def test_spacings_by_hand(spacing, num_timesteps, num_steps, expected):
    assert told(spacing, num_steps, make_schedule("cosine", num_timesteps)) == expected


@pytest.mark.parametrize("spacing", ["trailing", "leading", "even", "linspace"])
def test_as_many_steps_as_timesteps_visit_them_all(spacing):
    walk = space(SCHEDULE, spacing, 1000)
    assert walk.alphas_cumprod.equal(SCHEDULE.alphas_cumprod)
    torch.testing.assert_close(walk.betas, SCHEDULE.betas)
    assert walk.told.tolist() == list(range(1000))


@pytest.mark.parametrize("spacing", ["uniform", "quadratic"])
def test_latent_diffusions_walks_end_at_the_level_of_timestep_0(spacing):
    walk = space(SCHEDULE, spacing, 10)
    assert walk.level(CLEAN) == SCHEDULE.level(0)
    assert walk.end == SCHEDULE.alphas_cumprod[0] < 1


@pytest.mark.parametrize("spacing, num_steps", [("quadratic", 50), ("linspace_rounded", 1000)])
def test_rounded_spacings_may_visit_a_level_twice(spacing, num_steps):
    walk = space(SCHEDULE, spacing, num_steps)
    assert walk.num_timesteps == num_steps
    assert (walk.betas >= 0).all() and (walk.betas == 0).any()
    posterior = walk.posterior(walk.betas.argmin())
    assert (posterior.x0_weight, posterior.x_t_weight, posterior.variance) == (0, 1, 0)


def test_linspace_goes_in_a_line_between_two_timesteps():
    walk = space(SCHEDULE, "linspace", 3)
    assert walk.told.tolist() == [0, 499.5, 999]
    torch.testing.assert_close(walk.noise_ratio[1], SCHEDULE.noise_ratio[499:501].mean())


@pytest.mark.parametrize("spacing", ["karras", "karras_rounded"])
def test_karras_levels_are_even_in_the_seventh_root_of_the_noise_ratio(spacing):
    walk = space(SCHEDULE, spacing, 12)
    roots = walk.noise_ratio ** (1 / 7)
    torch.testing.assert_close(roots.diff(), roots.diff()[:1].expand(11))
    torch.testing.assert_close(walk.noise_ratio[[0, -1]], SCHEDULE.noise_ratio[[0, -1]])
    assert (walk.told == walk.told.round()).all() == (spacing == "karras_rounded")


@pytest.mark.parametrize("spacing", ["trailing", "linspace", "karras"])
def test_what_is_told_is_spaced_with_the_levels(spacing):
    fractions = make_schedule("cosine", 1000, tell="fraction")
    torch.testing.assert_close(
        space(fractions, spacing, 9).told.double(), space(SCHEDULE, spacing, 9).told.double() / 1000
    )


def test_a_walk_may_visit_any_timesteps():
    walk = visiting(SCHEDULE, [0, 10, 999], end=0.9999)
    assert walk.told.tolist() == [0, 10, 999]
    assert walk.alphas_cumprod.equal(SCHEDULE.alphas_cumprod[[0, 10, 999]])
    assert walk.end == 0.9999


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("num_steps", [0, 1001])
def test_more_steps_than_timesteps_are_refused(spacing, num_steps):
    with pytest.raises(SettingsError, match=f"num_steps must be 1 to 1000, .*not {num_steps}"):
        space(SCHEDULE, spacing, num_steps)


@pytest.mark.parametrize(
    "spacing, num_steps, sentence",
    [
        ("ddim51", 1, "no whole stride through 100 timesteps makes 51 steps; take trailing"),
        ("ddim0", 1, "no whole stride"),
        ("ddim101", 1, "no whole stride"),
        ("10,60", 1, "a section of 50 timesteps takes 1 to 50 steps, not 60"),
        ("10,0", 1, "a section of 50 timesteps takes 1 to 50 steps, not 0"),
        ("uniform", 100, "visits timestep 100 with so many steps, and the last is 99; take fewer"),
        ("none such", 5, "unknown spacing 'none such'; there are trailing, "),
        ("10,", 5, "unknown spacing '10,'"),
    ],
)
def test_what_cannot_be_is_refused_with_a_way_out(spacing, num_steps, sentence):
    with pytest.raises(SettingsError, match=sentence):
        space(make_schedule("cosine", 100), spacing, num_steps)


@pytest.mark.parametrize("spacing", ["karras", "karras_rounded"])
def test_karras_needs_signal_at_every_level(spacing):
    with pytest.raises(SettingsError, match=r"karras needs some signal.*zero_terminal_snr leaves none; take trailing"):
        space(make_schedule("cosine", 100, zero_terminal_snr=True), spacing, 10)
