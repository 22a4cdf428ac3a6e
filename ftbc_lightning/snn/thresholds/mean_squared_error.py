"""The threshold with the least squared error of T steps."""

from functools import partial

import torch
from torch import Tensor

from ftbc_lightning.snn.statistics import ActivationStatistics
from ftbc_lightning.snn.thresholds.maximum import maximum
from ftbc_lightning.snn.thresholds.rule import Activations, Rule
from ftbc_lightning.snn.thresholds.settings import Scope

GRID = torch.arange(100, 5, -1).float() / 100
"""Fractions of the maximum that the `mse` rule tries: 1.00, 0.99 .. 0.06."""

TRIED_CHANNELS = 128
"""Channels that a CPU looks at together: what it works on then stays in its cache."""

TRIED_ELEMENTS = 2**24
"""Fractions times channels times bins that a GPU looks at together."""


def mean_squared_error(
    statistics: ActivationStatistics,
    *,
    timesteps: int,
    half_threshold: bool = True,
    scope: Scope = "channel",
) -> Tensor:
    """Theta = argmin over fractions of the maximum of the error that T steps leave.

        E[(q(a) - a)^2],   q(a) = theta/T * clip(floor(a*T/theta + h), 0, T)

    h = 1/2 with the half threshold, 0 without. The expectation is taken over the histogram's bins.

    Args:
        statistics: Of one layer.
        timesteps: T.
        half_threshold: Whether the neuron starts half charged, in either form.
        scope: One threshold for each channel, or one for the layer.

    Returns:
        theta, `[C]`.
    """
    largest = maximum(statistics, scope=scope)
    centers, counts = statistics.centers, statistics.histogram.to(statistics.maximum.dtype)
    few = len(largest) if centers.device.type != "cpu" else TRIED_CHANNELS
    tried, errors_of = GRID.to(largest), partial(_errors, timesteps=timesteps, half=half_threshold)
    parts = (torch.split(of, few) for of in (largest, centers, counts))
    found = [errors_of(tried, *channels) for channels in zip(*parts, strict=True)]
    errors = torch.cat(found, dim=1)
    if scope == "layer":
        errors = errors.sum(1, True).expand_as(errors)
    return tried[errors.argmin(0)] * largest


def _errors(
    tried: Tensor,
    largest: Tensor,
    centers: Tensor,
    counts: Tensor,
    *,
    timesteps: int,
    half: bool,
) -> Tensor:
    """The error of each fraction and channel, `[fractions, C]`."""
    errors = []
    for fractions in torch.split(tried, _tried_at_once(centers)):
        theta = (fractions[:, None] * largest).clamp_min(torch.finfo(largest.dtype).tiny)
        theta = theta[:, :, None]
        steps = torch.floor(centers * (timesteps / theta) + 0.5 * half)
        error = (theta / timesteps * steps.clamp_(0, timesteps) - centers) ** 2 * counts
        errors.append(error.sum(2))
    return torch.cat(errors)


def _tried_at_once(centers: Tensor) -> int:
    """How many fractions: one after another on a CPU, whose cache then holds what it reads."""
    return 1 if centers.device.type == "cpu" else max(1, TRIED_ELEMENTS // centers.numel())


def _theta(layer: Activations) -> Tensor:
    settings = layer.settings
    return mean_squared_error(
        layer.statistics,
        timesteps=layer.timesteps,
        half_threshold=settings.half_threshold != "none",
        scope=settings.scope,
    )


RULE = Rule(_theta, depends_on_timesteps=True)
