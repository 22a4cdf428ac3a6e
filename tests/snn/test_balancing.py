import warnings

import pytest
import torch

from ftbc_lightning import UserError, convert
from ftbc_lightning.snn.statistics import BINS, ActivationStatistics
from ftbc_lightning.snn.thresholds.balanced import balance, clipped_share
from tests.networks import residual_net, samples


def exponential(batches: int = 4) -> list[torch.Tensor]:
    """`[B, 3, 40]`: channels of different size that are seldom, often and never active."""
    generator = torch.Generator().manual_seed(0)
    size = torch.tensor([0.1, 5.0, 0.0]).view(1, 3, 1)
    share = torch.tensor([0.02, 0.6, 0.0]).view(1, 3, 1)
    values = []
    for _ in range(batches):
        noise = torch.rand(100, 3, 40, generator=generator)
        drawn = -torch.rand(100, 3, 40, generator=generator).clamp_min(1e-6).log()
        values.append(drawn * size * (noise < share))
    return values


def statistics(batches: list[torch.Tensor]) -> ActivationStatistics:
    collected = ActivationStatistics(3, torch.device("cpu"))
    for batch in batches:
        collected.update(batch)
    return collected


@pytest.mark.parametrize("updates", [1, 3, 200])
def test_balanced_thresholds_equal_the_rule_on_the_activations_themselves(updates):
    batches = exponential()
    values = torch.cat(batches).transpose(0, 1).flatten(1).double()
    found = balance(statistics(batches), updates=updates)
    for channel, row in enumerate(values):
        active, theta = row[row > 0], torch.zeros((), dtype=torch.float64)
        for _ in range(updates * (len(active) > 0)):
            clipped = (active - theta).clamp_min(0).mean()
            if clipped <= 0.01 * active.mean():
                break
            theta += 0.5 * 2 * clipped
        bins = 2 * float(row.max()) / BINS
        assert abs(found[channel] - theta) <= 4 * bins


def test_converged_thresholds_clip_at_most_one_percent():
    collected = statistics(exponential())
    assert (clipped_share(collected, balance(collected)) <= 0.0101).all()
    assert (clipped_share(collected, balance(collected, updates=8))[:2] > 0.05).all()


def test_balancing_streams_over_batches():
    batches = exponential()
    once = balance(statistics([torch.cat(batches)]))
    assert torch.equal(balance(statistics(batches)), once)
    assert torch.equal(balance(statistics(batches[::-1])), once)


def test_one_threshold_for_a_layer():
    theta = balance(statistics(exponential()), scope="layer")
    assert theta.shape == (3,)
    assert (theta == theta[0]).all()


def test_too_few_updates_are_named_with_their_layers():
    net, images = residual_net(), samples(32)
    settings = {"timesteps": 2, "threshold_rule": "balanced"}
    with pytest.warns(UserWarning, match=r"3 of 3 layers .* after 4 updates: act1 .*act3 .*clip"):
        convert(net, images[:1], [images], balancing_updates=4, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        convert(net, images[:1], [images], **settings)


def test_no_update_is_refused():
    from ftbc_lightning.training.callbacks import ForwardTemporalBiasCorrection

    with pytest.raises(UserError, match="balancing_updates is 0"):
        ForwardTemporalBiasCorrection(balancing_updates=0)


def test_thresholds_of_several_levels_are_judged_by_what_they_span():
    net, images = residual_net(), samples(64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        convert(
            *(net, images[:1], [images]),
            timesteps=2,
            threshold_rule="balanced",
            neuron="signed",
            levels=3,
        )
