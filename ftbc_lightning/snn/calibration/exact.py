"""FTBC in closed form: the bias of a step is an order statistic of its potentials."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ftbc_lightning.snn.calibration.layer import Layer, by_channel
from ftbc_lightning.snn.order_statistic import place_of

MARGIN = 0.01
"""How far, in thresholds, the last potential stays from theta where no other one bounds it."""

ROUNDING_ATTEMPTS = 4


def exact(
    layer: Layer, potentials: Sequence[Tensor], wanted: Tensor, mean: Tensor, bias: Tensor
) -> Tensor:
    """The bias with which the share p of the potentials fires, for each channel.

        b = theta - Q_{1-p}(u0),   p = E[a] / theta clipped to [0, 1]

    P(u0 + b >= theta) grows with b, so one quantile of the potentials u0, taken before the bias,
    solves E[theta * s[t]] = E[a] up to one spike: theta / N. The cut lies in the middle between
    two neighbouring potentials. Where many are equal, all or none of them fire, whichever is
    nearer. Where none (or all) shall fire and they do so without a bias, the bias is 0.

    Not in the paper, whose heuristic approaches the same solution; see `iterative`.

    Args:
        layer: The layer.
        potentials: u0 = v[t-1] + x[t] of each micro-batch, `[B, C, ...]`.
        wanted: The mean that theta * s[t] shall have, float64 `[C]`.
        mean: Its present mean; not read.
        bias: The present bias; not read.

    Returns:
        b, `[C]`.
    """
    threshold = layer.neuron.threshold
    values = [by_channel(potential) for potential in potentials]
    count = layer.count()
    share = wanted / threshold.double() * count
    spikes = share.round().long()
    cut, reachable = _cut(layer, values, share, spikes, count)
    found = threshold - cut
    found = torch.where(spikes == 0, found.clamp_max(0), found)
    found = torch.where(spikes == count, found.clamp_min(0), found)
    return _mend_rounding(layer, potentials, found, reachable)


def _cut(
    layer: Layer, values: list[Tensor], share: Tensor, spikes: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """A cut with as many potentials above it as ties allow, and that number."""
    margin = MARGIN * layer.neuron.threshold
    place = place_of(values, (count - spikes).clamp_min(1), reduce=layer.reduce)
    pivot, lower, higher = place.pivot, place.lower, place.higher
    above, at_least = place.above, place.at_least
    include = (at_least - share).abs() < (above - share).abs()
    over = torch.where(higher.isinf(), pivot + 2 * margin, higher)
    under = torch.where(lower.isinf(), pivot - 2 * margin, lower)
    cut = torch.where(include, (pivot + under) / 2, (pivot + over) / 2)
    return cut, torch.where(include, at_least, above)


def _mend_rounding(
    layer: Layer, potentials: Sequence[Tensor], bias: Tensor, reachable: Tensor
) -> Tensor:
    """Move a bias by the last digits of theta where u0 + b rounds over the threshold."""
    digit = torch.finfo(bias.dtype).eps * layer.neuron.threshold
    for _ in range(ROUNDING_ATTEMPTS):
        excess = layer.spike_counts(potentials, bias) - reachable
        if not excess.any():
            break
        bias = bias - excess.sign() * digit
    return bias
