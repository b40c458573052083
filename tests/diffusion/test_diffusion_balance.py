"""Noise levels that count alike whatever their losses are."""

import pytest
import torch

from t2v.diffusion.balance import NUM_STRATA, LossBalance

NUM_TIMESTEPS = 1000
EVERY = torch.arange(NUM_TIMESTEPS)


def sizes():
    """A loss that spans three orders of magnitude, of each timestep, float64."""
    return torch.logspace(-3, 0, NUM_TIMESTEPS, dtype=torch.float64)


def fed(losses, *, rounds=1, **options):
    balance = LossBalance(NUM_TIMESTEPS, **options)
    for _ in range(rounds):
        balance.update(EVERY.tolist(), losses.tolist())
    return balance


def test_every_level_counts_alike():
    weighed = (fed(sizes()).weights(EVERY) * sizes()).view(NUM_STRATA, -1).mean(1)
    torch.testing.assert_close(weighed, torch.full_like(weighed, sizes().mean().item()))


def test_the_mean_loss_stays_what_it_is():
    assert (fed(sizes()).weights(EVERY) * sizes()).mean().item() == pytest.approx(sizes().mean().item())


def test_all_count_as_they_are_before_a_loss_is_known():
    assert LossBalance(NUM_TIMESTEPS).weights(EVERY).equal(torch.ones(NUM_TIMESTEPS).double())


def test_a_level_without_losses_counts_as_it_is():
    balance = LossBalance(NUM_TIMESTEPS)
    balance.update([0, 999], [0.1, 0.3])
    assert balance.weights(torch.tensor([0, 500, 999])).tolist() == pytest.approx([2, 1, 2 / 3])
    balance.update([500], [0.0])
    assert balance.weights(torch.tensor([500])).item() == 1


def test_the_mean_follows_what_is_learned():
    """The first losses as a plain mean, later ones with a weight of 1 / horizon."""
    balance = LossBalance(NUM_TIMESTEPS, horizon=4)
    balance.update([0] * 4, [4.0, 2.0, 3.0, 3.0])
    assert balance.means[0].item() == pytest.approx(3)
    balance.update([0], [1.0])
    assert balance.means[0].item() == pytest.approx(3 + (1 - 3) / 4)
    balance.update([0] * 100, [1.0] * 100)
    assert balance.means[0].item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("num_timesteps", [2, 7, 40, 41, 1000])
def test_every_timestep_has_a_stratum(num_timesteps):
    balance = LossBalance(num_timesteps)
    balance.update(range(num_timesteps), [1.0] * num_timesteps)
    assert balance.counts.sum() == num_timesteps and balance.counts.min() > 0
    assert balance.weights(torch.arange(num_timesteps)).isfinite().all()


def test_the_state_goes_round():
    balance, other = fed(sizes()), LossBalance(NUM_TIMESTEPS)
    other.load_state(balance.state())
    assert other.weights(EVERY).equal(balance.weights(EVERY))
    # And what one learns later the other does not.
    other.update([2], [50.0])
    assert not other.weights(EVERY).equal(balance.weights(EVERY))
    balance.update([2], [50.0])
    assert other.weights(EVERY).equal(balance.weights(EVERY))


@pytest.mark.parametrize("split", [1, 3, 16])
def test_the_means_do_not_depend_on_how_the_batch_was_split(split):
    t = torch.randint(NUM_TIMESTEPS, (48,), generator=torch.Generator().manual_seed(2)).tolist()
    losses = torch.rand(48, generator=torch.Generator().manual_seed(3)).tolist()
    whole, parts = LossBalance(NUM_TIMESTEPS), LossBalance(NUM_TIMESTEPS)
    whole.update(t, losses)
    for start in range(0, 48, split):
        parts.update(t[start : start + split], losses[start : start + split])
    assert parts.means.equal(whole.means) and parts.counts.equal(whole.counts)


def test_every_loss_needs_its_timestep():
    with pytest.raises(ValueError, match="zip"):
        LossBalance(NUM_TIMESTEPS).update([1, 2], [0.5])
