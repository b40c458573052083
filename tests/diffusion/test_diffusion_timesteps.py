"""Timesteps drawn where the loss still varies."""

import pytest
import torch

from t2v.diffusion.timesteps import LossSecondMoment, timestep_at

NUM_TIMESTEPS = 5


def losses_of(num_rounds, seed=0):
    """Losses of every timestep in rounds, those of timestep t about of size t + 1."""
    sizes = torch.arange(1.0, NUM_TIMESTEPS + 1, dtype=torch.float64)
    drawn = torch.rand(num_rounds, NUM_TIMESTEPS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return sizes * (0.5 + drawn)


def fed(losses, **options):
    moments = LossSecondMoment(NUM_TIMESTEPS, **options)
    for row in losses.tolist():
        moments.update(range(NUM_TIMESTEPS), row)
    return moments


def test_all_are_drawn_alike_until_every_timestep_has_a_full_history():
    moments = fed(losses_of(3), history=4)
    even = torch.full((NUM_TIMESTEPS,), 0.2, dtype=torch.float64)
    moments.update([0, 0, 0, 1, 2, 3], [9.0] * 6)
    assert not moments.is_warm and moments.probabilities().equal(even)
    assert moments.weights(torch.arange(NUM_TIMESTEPS)).equal(torch.ones(NUM_TIMESTEPS).double())
    moments.update([4], [9.0])
    assert moments.is_warm and not moments.probabilities().equal(even)


def test_probabilities_go_with_the_root_mean_square_of_the_last_losses():
    losses = losses_of(7)
    moments = fed(losses, history=3, even_share=0.01)
    size = (losses[-3:] ** 2).mean(0).sqrt()
    torch.testing.assert_close(moments.probabilities(), 0.99 * size / size.sum() + 0.01 / NUM_TIMESTEPS)
    assert moments.probabilities().sum().item() == pytest.approx(1)


def test_importance_weights_keep_the_mean():
    """The mean over draws of weight times value is the even mean: exactly, as a sum over the timesteps."""
    moments, values = (
        fed(losses_of(10)),
        torch.randn(NUM_TIMESTEPS, generator=torch.Generator().manual_seed(1)).double(),
    )
    t = torch.arange(NUM_TIMESTEPS)
    assert (moments.probabilities() * moments.weights(t) * values).sum().item() == pytest.approx(values.mean().item())
    assert moments.weights(t).max() > 2


def test_a_timestep_without_losses_is_still_drawn():
    moments = fed(torch.tensor([[0.0, 1, 1, 1, 1]] * 10).double())
    assert moments.probabilities()[0].item() == pytest.approx(0.001 / NUM_TIMESTEPS)
    assert moments.weights(torch.tensor([0])).isfinite().all()


def test_the_state_goes_round():
    moments = fed(losses_of(7), history=3)
    other = LossSecondMoment(NUM_TIMESTEPS, history=3)
    other.load_state(moments.state())
    assert other.is_warm and other.probabilities().equal(moments.probabilities())
    # And what one learns later the other does not.
    other.update([2], [50.0])
    assert not other.probabilities().equal(moments.probabilities())
    moments.update([2], [50.0])
    assert other.probabilities().equal(moments.probabilities())


def test_a_half_full_history_goes_on_where_it_stood():
    half, whole = fed(losses_of(2), history=4), fed(losses_of(4), history=4)
    other = LossSecondMoment(NUM_TIMESTEPS, history=4)
    other.load_state(half.state())
    for row in losses_of(4)[2:].tolist():
        other.update(range(NUM_TIMESTEPS), row)
    assert other.is_warm and other.losses.equal(whole.losses)


@pytest.mark.parametrize("split", [1, 3, 16])
def test_the_history_does_not_depend_on_how_the_batch_was_split(split):
    t = torch.randint(NUM_TIMESTEPS, (48,), generator=torch.Generator().manual_seed(2)).tolist()
    losses = torch.rand(48, generator=torch.Generator().manual_seed(3)).tolist()
    whole, parts = LossSecondMoment(NUM_TIMESTEPS, history=4), LossSecondMoment(NUM_TIMESTEPS, history=4)
    whole.update(t, losses)
    for start in range(0, 48, split):
        parts.update(t[start : start + split], losses[start : start + split])
    assert parts.losses.equal(whole.losses) and parts.counts.equal(whole.counts)
    for time in range(NUM_TIMESTEPS):
        last = [loss for at, loss in zip(t, losses, strict=True) if at == time][-4:]
        assert whole.losses[time].tolist() == pytest.approx(last)


def test_every_loss_needs_its_timestep():
    with pytest.raises(ValueError, match="zip"):
        LossSecondMoment(NUM_TIMESTEPS).update([1, 2], [0.5])


def test_a_place_falls_where_its_share_of_probability_lies_below():
    probabilities = torch.tensor([0.1, 0.0, 0.6, 0.3]).double()
    places = [0.0, 0.05, 0.0999, 0.1001, 0.5, 0.6999, 0.7001, 0.9999]
    assert [timestep_at(place, probabilities, 4) for place in places] == [0, 0, 0, 2, 2, 2, 3, 3]
    # At a border the next one that can be drawn at all.
    halves = torch.tensor([0.0, 0.5, 0.0, 0.5]).double()
    assert [timestep_at(place, halves, 4) for place in (0.0, 0.5)] == [1, 3]
    assert [timestep_at(place, None, 4) for place in (0.0, 0.24, 0.25, 0.5, 0.9999)] == [0, 0, 1, 2, 3]


def test_even_places_visit_timesteps_in_proportion():
    moments = fed(losses_of(10))
    drawn = torch.tensor([timestep_at((place + 0.5) / 2000, moments.probabilities(), 5) for place in range(2000)])
    torch.testing.assert_close(drawn.bincount() / 2000, moments.probabilities().float(), rtol=0, atol=1e-3)


def test_rounding_never_leads_past_the_last_timestep():
    short = torch.full((10,), 0.1 - 1e-12).double()
    assert timestep_at(1 - 1e-15, short, 10) == 9
