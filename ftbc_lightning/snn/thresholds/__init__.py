"""Threshold rules: one file a rule, one line here."""

from torch import Tensor

from ftbc_lightning.errors import UserError
from ftbc_lightning.snn.statistics import ActivationStatistics
from ftbc_lightning.snn.thresholds import (
    balanced,
    learned,
    maximum,
    mean_squared_error,
    percentile,
)
from ftbc_lightning.snn.thresholds.rule import Activations, Rule
from ftbc_lightning.snn.thresholds.settings import Scope, ThresholdSettings

__all__ = [
    "RULES",
    "Activations",
    "Rule",
    "Scope",
    "ThresholdSettings",
    "choose",
    "rule_named",
]

RULES: dict[str, Rule] = {
    "max": maximum.RULE,
    "percentile": percentile.RULE,
    "mse": mean_squared_error.RULE,
    "balanced": balanced.RULE,
    "learned": learned.RULE,
}
"""Every rule by its name."""


def rule_named(name: str) -> Rule:
    """The rule of a name.

    Raises:
        UserError: There is none; all are listed.
    """
    if name not in RULES:
        raise UserError(f"Threshold rule {name!r} is unknown; choose one of {', '.join(RULES)}.")
    return RULES[name]


def choose(
    rule: str,
    statistics: ActivationStatistics,
    *,
    name: str,
    timesteps: int,
    levels: int = 1,
    settings: ThresholdSettings | None = None,
    ceiling: float | None = None,
    learned: float | None = None,
) -> Tensor:
    """Apply a rule to one layer, cap it at the activation's ceiling, and fill silent channels.

    Args:
        rule: Its name.
        statistics: Of this layer.
        name: The layer's path, for messages.
        timesteps: T.
        levels: K: a neuron spans 0 to K * theta in T * K levels.
        settings: Scope, half threshold, and what single rules read; the defaults if None.
        ceiling: The largest value the activation lets pass, or None.
        learned: The threshold the ANN has trained here, or None.

    Returns:
        theta, `[C]`, above 0: what the rule finds, divided by K. A channel that was never active
        gets the largest threshold of its layer (1 if the whole layer is silent).

    Raises:
        UserError: The rule is unknown, or `learned` where nothing was learned.
    """
    chosen = ThresholdSettings() if settings is None else settings
    layer = Activations(name, statistics, timesteps * levels, chosen, learned)
    theta = rule_named(rule).theta(layer).expand_as(statistics.maximum).clone()
    if ceiling is not None:
        theta.clamp_(max=ceiling)
    largest = theta.amax()
    top = theta.where(theta > 0, largest.where(largest > 0, 1.0))
    return top / levels
