"""What a neuron does beyond charge, one comparison and reset, and what its spikes carry."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ftbc_lightning.snn.neurons.integrate_and_fire import IFNeuron


@dataclass(frozen=True)
class SpikeValues:
    """The whole numbers that a neuron can emit in one step.

    >>> SpikeValues(-1, 1).bits, SpikeValues(0, 1).bits, SpikeValues(0, 3).bits
    (2, 1, 2)
    """

    lowest: int
    highest: int

    @classmethod
    def of(cls, neuron: IFNeuron) -> "SpikeValues":
        """From -K or 0 to K."""
        return cls(-neuron.below * neuron.levels, neuron.levels)

    @classmethod
    def widest(cls, several: Iterable["SpikeValues"]) -> "SpikeValues":
        """From the lowest of several kinds to the highest."""
        found = list(several)
        return cls(min(v.lowest for v in found), max(v.highest for v in found))

    @property
    def bits(self) -> int:
        """How many bits hold one of them: ceil(log2(number of values)), 1 for 0 and 1."""
        return math.ceil(math.log2(self.highest - self.lowest + 1))


@dataclass(frozen=True)
class NeuronOperations:
    """What the neurons of one sample do over all steps, beyond charge and reset.

    Attributes:
        products: Multiplications with the leak, one a neuron and step.
        comparisons: With a threshold, K a neuron and step, twice that with a sign.
        counter_adds: Of spikes to the counter of a signed neuron, one where it emits any.
    """

    products: float = 0.0
    comparisons: float = 0.0
    counter_adds: float = 0.0


def neuron_operations(
    neurons: Mapping[str, IFNeuron], sizes: Mapping[str, int], active: Mapping[str, Iterable[float]]
) -> NeuronOperations:
    """Count them.

    Args:
        neurons: By name.
        sizes: How many neurons each layer has.
        active: The share of them that emit at each step, `[T]`.
    """
    products = comparisons = counter_adds = 0.0
    for name, neuron in neurons.items():
        updates = sizes[name] * neuron.timesteps
        products += updates * (neuron.leak != 1)
        comparisons += updates * neuron.levels * (1 + neuron.below)
        counter_adds += sizes[name] * sum(active[name]) * neuron.remembers
    return NeuronOperations(products, comparisons, counter_adds)
