"""What a threshold rule is, and what it may read of a layer."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ftbc_lightning.snn.statistics import ActivationStatistics
from ftbc_lightning.snn.thresholds.settings import ThresholdSettings


@dataclass(frozen=True)
class Activations:
    """The activations of one layer that becomes neurons, and how they are to be read.

    Attributes:
        name: The layer's path, for messages.
        statistics: What was seen of them.
        timesteps: How many spikes a neuron emits in all at most: T, or T * K.
        settings: Scope, half threshold, and what single rules read.
        learned: The threshold that the ANN has trained here, or None.
    """

    name: str
    statistics: ActivationStatistics
    timesteps: int
    settings: ThresholdSettings
    learned: float | None = None


@dataclass(frozen=True)
class Rule:
    """A way to choose theta.

    Attributes:
        theta: From the activations of a layer, theta `[C]`, or a scalar for the whole layer; 0
            for a channel that was never active.
        depends_on_timesteps: Whether another T has another theta; one network cannot then serve
            every T.
        unconverged: Which of all layers have not come to rest, and by how much (see `balanced`);
            None for a rule that does not iterate.
    """

    theta: Callable[[Activations], Tensor]
    depends_on_timesteps: bool = False
    unconverged: Callable[..., dict[str, float]] | None = None
