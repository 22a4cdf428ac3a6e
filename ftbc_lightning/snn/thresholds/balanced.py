"""Local threshold balancing: thresholds that grow until hardly anything is clipped."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ftbc_lightning.snn.statistics import ActivationStatistics
from ftbc_lightning.snn.thresholds.rule import Activations, Rule
from ftbc_lightning.snn.thresholds.settings import UPDATES, Scope

RATE = 0.5
CLIPPED = 0.01
"""A threshold has converged when this share of the activation, or less, lies above it."""


def balance(
    statistics: ActivationStatistics,
    *,
    updates: int = UPDATES,
    scope: Scope = "channel",
) -> Tensor:
    """Theta that has grown from 0 by what it clips.

        theta <- theta + eta * E[2 (a - theta) [a > theta]]

    until E[(a - theta) [a > theta]] <= 1 % of E[a]: beyond that theta would creep on towards the
    maximum. The expectation is taken over all calibration samples at once, from the histogram of
    the activations, which streams over batches and adds over processes; so an update costs no
    pass of the network, and no result depends on the order of the samples. It runs over the
    activations above 0, so that channels that are seldom active converge as fast as busy ones.

    Source: local threshold balancing (Bu, Li, Yu, CVPR 2025, arXiv 2409.03368), which updates
    with one batch after another. There 8 batches leave the thresholds far too small.

    Args:
        statistics: Of one layer.
        updates: How many at most, at least 1; `unconverged` tells whether they were enough.
        scope: One threshold for each channel, or one for the layer.

    Returns:
        theta, `[C]`; 0 for a channel that never was active.
    """
    values = statistics.centers.double()
    counts = statistics.histogram.double()
    if scope == "layer":
        values, counts = values.flatten()[None], counts.flatten()[None]
    active = (counts * (values > 0)).sum(1).clamp_min(1)
    total = (counts * values).sum(1) / active
    theta = torch.zeros_like(total)
    for _ in range(updates):
        clipped = ((values - theta[:, None]).clamp_min(0) * counts).sum(1) / active
        growing = clipped > CLIPPED * total
        if theta.device.type == "cpu" and not growing.any():
            break  # a GPU would be waited for, longer than what is left takes
        theta += RATE * 2 * clipped * growing
    return theta.to(statistics.maximum).expand_as(statistics.maximum)


def clipped_share(statistics: ActivationStatistics, theta: Tensor) -> Tensor:
    """The share of the summed activation that lies above theta, `[C]`; 0 where there is none."""
    values, counts = statistics.centers.double(), statistics.histogram.double()
    above = ((values - theta.double()[:, None]).clamp_min(0) * counts).sum(1)
    return above / (values * counts).sum(1).clamp_min(torch.finfo(torch.float64).tiny)


def unconverged(
    statistics: Mapping[str, ActivationStatistics],
    thresholds: Mapping[str, Tensor],
    *,
    scope: Scope = "channel",
) -> dict[str, float]:
    """The layers whose thresholds still clip more than 1 %, with the largest such share.

    Args:
        statistics: By layer.
        thresholds: By layer, `[C]`, times K where a neuron has K levels.
        scope: As in `balance`; one threshold for a layer is judged on the whole layer.
    """
    found: dict[str, Tensor] = {}
    for name, theta in thresholds.items():
        share = clipped_share(statistics[name], theta)
        if scope == "layer":
            weights = (statistics[name].centers * statistics[name].histogram).sum(1)
            share = (share * weights).sum() / weights.sum().clamp_min(1e-30)
        found[name] = share.max()
    largest = torch.stack(list(found.values())).tolist() if found else []
    shares = zip(found, largest, strict=True)
    return {name: share for name, share in shares if share > CLIPPED * (1 + 1e-6)}


def _theta(layer: Activations) -> Tensor:
    settings = layer.settings
    return balance(layer.statistics, updates=settings.balancing_updates, scope=settings.scope)


RULE = Rule(_theta, unconverged=unconverged)
