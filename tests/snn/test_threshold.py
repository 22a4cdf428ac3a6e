import pytest
import torch

from ftbc_lightning import UserError
from ftbc_lightning.snn.statistics import BINS, ActivationStatistics
from ftbc_lightning.snn.thresholds import choose
from ftbc_lightning.snn.thresholds.maximum import maximum
from ftbc_lightning.snn.thresholds.mean_squared_error import GRID, mean_squared_error
from ftbc_lightning.snn.thresholds.percentile import percentile

CPU = torch.device("cpu")


def activations(seed: int = 0) -> torch.Tensor:
    """`[B, C, H]`: three channels of very different size, half of each silent."""
    generator = torch.Generator().manual_seed(seed)
    scale = torch.tensor([0.01, 1.0, 30.0]).view(1, 3, 1)
    return (torch.randn(200, 3, 50, generator=generator) * scale).relu()


def statistics(values: torch.Tensor) -> ActivationStatistics:
    collected = ActivationStatistics(values.shape[1], CPU)
    collected.update(values)
    return collected


def test_maximum_is_the_largest_activation():
    values = activations()
    assert torch.equal(maximum(statistics(values)), values.amax((0, 2)))
    assert torch.equal(maximum(statistics(values), scope="layer"), values.amax().expand(3))


@pytest.mark.parametrize("percent", [50.0, 90.0, 99.9, 100.0])
def test_percentile_is_right_to_one_bin(percent):
    values = activations()
    expected = values.transpose(0, 1).flatten(1).quantile(percent / 100, dim=1)
    found = percentile(statistics(values), percent=percent)
    assert ((found - expected).abs() <= 2 * values.amax((0, 2)) / BINS * 2).all()


@pytest.mark.parametrize("timesteps", [1, 2, 4, 16])
@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("scope", ["channel", "layer"])
def test_mse_is_as_good_as_the_best_fraction_by_trial(timesteps, half, scope):
    values = activations()
    largest = maximum(statistics(values), scope=scope)

    def error(theta):
        theta = theta.view(1, 3, 1)
        steps = torch.floor(values * timesteps / theta + 0.5 * half).clamp(0, timesteps)
        squared = (theta / timesteps * steps - values).double() ** 2
        return squared.mean((0, 2)) if scope == "channel" else squared.mean().expand(3)

    best = torch.stack([error(f * largest) for f in GRID.tolist()]).amin(0)
    found = mean_squared_error(
        statistics(values), timesteps=timesteps, half_threshold=half, scope=scope
    )
    assert (error(found) <= best * 1.01).all()


def test_statistics_do_not_depend_on_order_or_batches():
    values = activations()
    whole, pieces = statistics(values), ActivationStatistics(3, CPU)
    for piece in reversed(values.split(7)):
        pieces.update(piece)
    assert pieces.count == whole.count
    assert torch.equal(pieces.maximum, whole.maximum)
    assert torch.equal(pieces.histogram, whole.histogram)
    torch.testing.assert_close(pieces.total, whole.total)


def test_a_silent_channel_gets_the_largest_threshold_of_its_layer():
    values = activations()
    values[:, 1] = 0
    theta = choose("max", statistics(values), name="layer", timesteps=4)
    assert theta[1] == theta[2]
    silent = choose("mse", statistics(0 * values), name="layer", timesteps=4)
    assert torch.equal(silent, torch.ones(3))


def test_a_threshold_is_capped_at_the_ceiling_of_the_activation():
    theta = choose("max", statistics(activations()), name="layer", timesteps=4, ceiling=6.0)
    assert theta[2] == 6.0
    assert theta[1] < 6.0


def test_learned_needs_a_trained_threshold():
    collected = statistics(activations())
    theta = choose("learned", collected, name="act", timesteps=4, learned=2.5)
    assert torch.equal(theta, torch.full((3,), 2.5))
    with pytest.raises(UserError, match="act has no trained threshold"):
        choose("learned", collected, name="act", timesteps=4)


@pytest.mark.parametrize("percent", [0.0, -1.0, 100.1])
def test_a_percentile_out_of_range_is_refused(percent):
    with pytest.raises(UserError, match="percentile is"):
        percentile(statistics(activations()), percent=percent)


def test_an_unknown_rule_is_refused():
    with pytest.raises(UserError, match="'best' is unknown; choose one of max"):
        choose("best", statistics(activations()), name="layer", timesteps=4)
