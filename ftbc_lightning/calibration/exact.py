"""FTBC in closed form: the bias of a step is an order statistic of its potentials."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ftbc_lightning.calibration.layer import Layer, joined_by_channel
from ftbc_lightning.calibration.order_statistic import Place, place_of

MARGIN = 0.01
"""How far, in thresholds, the last potential stays from theta where no other one bounds it."""

TIE = 32
"""How many of the last digits of theta two potentials may differ by and count as equal.

Neurons that see the same spikes, or none, have equal potentials, but sums that differ in the order
of their terms round differently. A cut between such copies would leave it to rounding whether a
large part of a layer fires.
"""

ROUNDING_ATTEMPTS = 4


def exact(
    layer: Layer, potentials: Sequence[Tensor], wanted: Tensor, mean: Tensor, bias: Tensor
) -> Tensor:
    """The bias with which the share p of the potentials fires, for each channel.

        b = theta - Q_{1-p}(u0),   p = E[a] / theta clipped to [0, 1]

    P(u0 + b >= theta) grows with b, so one quantile of the potentials u0, taken before the bias,
    solves E[theta * s[t]] = E[a] up to one spike: theta / N. The cut lies in the middle between
    two neighbouring potentials. Where many are equal up to rounding, all or none of them fire,
    whichever is nearer. Where none (or all) shall fire and they do so without a bias, the bias
    is 0.

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
    count = layer.count()
    share = wanted / threshold.double() * count
    spikes = share.round().long()
    equal = TIE * torch.finfo(threshold.dtype).eps * threshold
    rank = (count - spikes).clamp_min(1)
    place = place_of([joined_by_channel(potentials)], rank, reduce=layer.reduce, tolerance=equal)
    silent, firing = _sides(place, share)
    margin = 2 * MARGIN * threshold
    above = torch.where(firing.isinf(), silent + margin, firing)
    below = torch.where(silent.isinf(), firing - margin, silent)
    found = threshold - (below + above) / 2
    found = torch.where(spikes == 0, found.clamp_max(0), found)
    found = torch.where(spikes == count, found.clamp_min(0), found)
    return _mend_rounding(found, silent, firing, threshold)


def _sides(place: Place, share: Tensor) -> tuple[Tensor, Tensor]:
    """The largest potential that stays silent and the smallest that fires, `[C]`."""
    include = (place.at_least - share).abs() < (place.above - share).abs()
    silent = torch.where(include, place.lower, place.most)
    return silent, torch.where(include, place.least, place.higher)


def _mend_rounding(bias: Tensor, silent: Tensor, firing: Tensor, threshold: Tensor) -> Tensor:
    """Move a bias by the last digits of theta where u0 + b rounds over the threshold.

    Rounding keeps the order of potentials, so what holds for the two beside the cut holds for all.
    """
    digit = torch.finfo(bias.dtype).eps * threshold
    for _ in range(ROUNDING_ATTEMPTS):
        fires, rests = silent + bias >= threshold, firing + bias < threshold
        if not (fires | rests).any():
            break
        bias = bias + digit * (rests.to(bias.dtype) - fires.to(bias.dtype))
    return bias
