"""A percentile of the activations as threshold."""

import torch
from torch import Tensor

from ftbc_lightning.errors import UserError
from ftbc_lightning.snn.statistics import BINS, ActivationStatistics
from ftbc_lightning.snn.thresholds.maximum import maximum
from ftbc_lightning.snn.thresholds.rule import Activations, Rule
from ftbc_lightning.snn.thresholds.settings import Scope


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
    # percent / 100 would be rounded up, and ask for one value more
    reached = 100 * counts.cumsum(1).double() >= percent * counts.sum(1, keepdim=True).double()
    first = reached.int().argmax(1, keepdim=True)
    theta = edges.gather(1, first).squeeze(1).expand_as(statistics.maximum)
    return torch.minimum(theta, maximum(statistics, scope=scope))


def _theta(layer: Activations) -> Tensor:
    settings = layer.settings
    return percentile(layer.statistics, percent=settings.percent, scope=settings.scope)


RULE = Rule(_theta)
