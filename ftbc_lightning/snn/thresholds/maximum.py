"""The largest activation as threshold."""

from torch import Tensor

from ftbc_lightning.snn.statistics import ActivationStatistics
from ftbc_lightning.snn.thresholds.rule import Activations, Rule
from ftbc_lightning.snn.thresholds.settings import Scope


def maximum(statistics: ActivationStatistics, *, scope: Scope = "channel") -> Tensor:
    """Theta = the largest activation seen.

    Returns:
        theta, `[C]`; 0 for a channel that never was active.
    """
    largest = statistics.maximum
    return largest if scope == "channel" else largest.amax().expand_as(largest)


def _theta(layer: Activations) -> Tensor:
    return maximum(layer.statistics, scope=layer.settings.scope)


RULE = Rule(_theta)
