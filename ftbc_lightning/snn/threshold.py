"""Rules that choose a threshold for each channel or layer from the ANN's activations."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from ftbc_lightning.errors import UserError
from ftbc_lightning.snn.balancing import UPDATES, balance
from ftbc_lightning.snn.statistics import BINS, ActivationStatistics

ThresholdRule = Literal["mse", "max", "percentile", "learned", "balanced"]
Scope = Literal["channel", "layer"]

GRID = torch.arange(100, 5, -1) / 100
"""Fractions of the maximum that the `mse` rule tries: 1.00, 0.99 .. 0.06."""


def maximum(statistics: ActivationStatistics, *, scope: Scope = "channel") -> Tensor:
    """Theta = the largest activation seen.

    Returns:
        theta, `[C]`; 0 for a channel that never was active.
    """
    largest = statistics.maximum
    return largest if scope == "channel" else largest.amax().expand_as(largest)


def percentile(
    statistics: ActivationStatistics, *, percent: float = 99.9, scope: Scope = "channel"
) -> Tensor:
    """Theta = the value that `percent` % of the activations, zeros included, do not exceed.

    Read from the histogram: right to one bin, 1/1024 to 1/512 of the maximum.

    Args:
        statistics: Of one layer.
        percent: Above 0, up to 100.
        scope: One threshold for each channel, or one for the layer.

    Returns:
        theta, `[C]`.

    Raises:
        UserError: `percent` is out of range.
    """
    if not 0 < percent <= 100:
        raise UserError(f"percentile is {percent}; it must be above 0 and at most 100.")
    edges = statistics.centers + statistics.span[:, None] / (2 * BINS)
    counts = statistics.histogram
    if scope == "layer":
        order = edges.flatten().argsort()
        edges = edges.flatten()[order][None]
        counts = counts.flatten()[order][None]
    reached = counts.cumsum(1) >= counts.sum(1, keepdim=True) * (percent / 100)
    first = reached.int().argmax(1, keepdim=True)
    theta = edges.gather(1, first).squeeze(1).expand_as(statistics.maximum)
    return torch.minimum(theta, maximum(statistics, scope=scope))


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
    errors = []
    for fraction in GRID.tolist():
        theta = (fraction * largest).clamp_min(torch.finfo(largest.dtype).tiny)[:, None]
        steps = torch.floor(centers * (timesteps / theta) + 0.5 * half_threshold)
        error = ((theta / timesteps * steps.clamp_(0, timesteps) - centers) ** 2 * counts).sum(1)
        errors.append(error if scope == "channel" else error.sum().expand_as(error))
    return GRID.to(largest)[torch.stack(errors).argmin(0)] * largest


def choose(
    rule: ThresholdRule,
    statistics: ActivationStatistics,
    *,
    name: str,
    timesteps: int,
    half_threshold: bool = True,
    scope: Scope = "channel",
    percent: float = 99.9,
    balancing_updates: int = UPDATES,
    ceiling: float | None = None,
    learned: float | None = None,
) -> Tensor:
    """Apply a rule to one layer, cap it at the activation's ceiling, and fill silent channels.

    Args:
        rule: Which rule.
        statistics: Of this layer.
        name: The layer's path, for messages.
        timesteps: T, read by `mse`.
        half_threshold: Read by `mse`.
        scope: One threshold for each channel, or one for the layer.
        percent: Read by `percentile`.
        balancing_updates: Read by `balanced`.
        ceiling: The largest value the activation lets pass, or None.
        learned: The threshold the ANN has trained here, or None.

    Returns:
        theta, `[C]`, above 0. A channel that was never active gets the largest threshold of its
        layer (1 if the whole layer is silent).

    Raises:
        UserError: The rule is unknown, or `learned` where nothing was learned.
    """
    rules: dict[str, Callable[[], Tensor]] = {
        "max": lambda: maximum(statistics, scope=scope),
        "percentile": lambda: percentile(statistics, percent=percent, scope=scope),
        "mse": lambda: mean_squared_error(
            statistics, timesteps=timesteps, half_threshold=half_threshold, scope=scope
        ),
        "balanced": lambda: balance(statistics, updates=balancing_updates, scope=scope),
        "learned": lambda: _learned(learned, name).to(statistics.maximum),
    }
    if rule not in rules:
        raise UserError(f"Threshold rule {rule!r} is unknown; choose one of {', '.join(rules)}.")
    theta = rules[rule]().expand_as(statistics.maximum).clone()
    if ceiling is not None:
        theta.clamp_(max=ceiling)
    largest = theta.amax()
    return torch.where(theta > 0, theta, torch.where(largest > 0, largest, 1.0))


def _learned(value: float | None, name: str) -> Tensor:
    if value is None:
        raise UserError(
            f"Threshold rule 'learned' needs a QCFS or clipped ReLU activation, but {name} has "
            "no trained threshold; choose mse, percentile or max."
        )
    return torch.tensor(value)
