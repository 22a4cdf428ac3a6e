"""What a sample costs: operations of each layer and of its neurons, and their sums."""

from dataclasses import dataclass, field
from typing import Any, Literal

from ftbc_lightning.analysis.function_operations import FunctionOperations
from ftbc_lightning.analysis.neuron_operations import NeuronOperations

Inputs = Literal["analog", "spikes", "graded"]
"""analog: the same real numbers at every step. spikes: whole numbers s that a neuron can emit, so
a synapse adds |s| times (AC). graded: other values in time, as behind average pooling, so a synapse
multiplies (MAC); so do in an ANN the values behind an activation."""

FirstLayer = Literal["once", "every_step"]
"""Whether layers with analog inputs are computed once, or again at each of the T steps."""


@dataclass(frozen=True)
class LayerOperations:
    """Synaptic operations of one convolution or linear layer, for one sample.

    Attributes:
        layer: Its path in the network.
        inputs: What it reads.
        dense: All its products at one step, as if no input and no weight were 0; without those
            with padding.
        effective: Those whose input and weight are not 0, `[T]` (one value for analog inputs); a
            spike of level k, of either sign, counts k times.
        bias_adds: Additions of its own bias at one step.
        reached: As `effective`, but each spike counts once, whatever its level.
    """

    layer: str
    inputs: Inputs
    dense: float
    effective: tuple[float, ...]
    bias_adds: float
    reached: tuple[float, ...] = ()


@dataclass(frozen=True)
class OperationCount:
    """What one sample costs on average.

    Attributes:
        timesteps: T; 1 for an ANN.
        samples: How many were counted.
        layers: Convolutions and linear layers in order.
        firing_rates: Spikes of either sign, |s|, for each neuron of a layer at each step, `[T]`;
            of an ANN the share of activations that are not 0.
        neurons: How many neurons each layer has.
        shortcut_adds: Additions of theta where a spike enters a sum without a layer, at each
            step, `[T]`.
        temporal_bias_adds: Neurons with a temporal bias at each step, `[T]`.
        footprint: Bytes of weights, thresholds and biases.
        zero_weights: The share of weights of convolutions and linear layers that are 0.
        active: The share of a layer's neurons that emit anything at each step, `[T]`.
        negative_rates: Negative spikes for each neuron of a layer at each step, `[T]`.
        spike_bits: Bits of a spike; 0 for an ANN.
        updates: What neurons do beyond charge and reset.
        functions: What is taken over what has arrived so far, at one step.
    """

    timesteps: int
    samples: int
    layers: tuple[LayerOperations, ...]
    firing_rates: dict[str, tuple[float, ...]]
    neurons: dict[str, int]
    shortcut_adds: tuple[float, ...]
    temporal_bias_adds: tuple[float, ...]
    footprint: int
    zero_weights: float
    active: dict[str, tuple[float, ...]] = field(default_factory=dict)
    negative_rates: dict[str, tuple[float, ...]] = field(default_factory=dict)
    spike_bits: int = 0
    updates: NeuronOperations = field(default_factory=NeuronOperations)
    functions: tuple[FunctionOperations, ...] = ()

    def _repeats(self, layer: LayerOperations, first_layer: FirstLayer) -> int:
        return self.timesteps if layer.inputs != "analog" or first_layer == "every_step" else 1

    def macs(self, first_layer: FirstLayer = "once") -> float:
        """Effective multiply-accumulates: what reads analog or graded values."""
        return sum(
            sum(layer.effective) * self._repeats(layer, first_layer) / len(layer.effective)
            for layer in self.layers
            if layer.inputs != "spikes"
        )

    def acs(self) -> float:
        """Effective accumulates: what reads spikes, |s| for each spike and synapse."""
        return sum(sum(layer.effective) for layer in self.layers if layer.inputs == "spikes")

    def spike_products(self) -> float:
        """What ACs become where a synapse multiplies its weight by s instead: one for a spike."""
        return sum(sum(layer.reached) for layer in self.layers if layer.inputs == "spikes")

    def function_products(self) -> float:
        """Multiplications in functions over all steps; none of them is replaced by spikes."""
        return self.timesteps * sum(function.products for function in self.functions)

    def function_values(self) -> float:
        """Evaluations of functions over all steps."""
        return self.timesteps * sum(function.values for function in self.functions)

    def dense(self, first_layer: FirstLayer = "once") -> float:
        """Synaptic operations if nothing were 0."""
        return sum(layer.dense * self._repeats(layer, first_layer) for layer in self.layers)

    def bias_adds(self, first_layer: FirstLayer = "once") -> float:
        """Additions of layers' biases and of the temporal bias; not part of any other figure."""
        own = sum(layer.bias_adds * self._repeats(layer, first_layer) for layer in self.layers)
        return own + sum(self.temporal_bias_adds)

    @property
    def activation_sparsity(self) -> float:
        """The share of neurons and steps without a spike."""
        return 1 - self._mean(self.active)

    @property
    def firing_rate(self) -> float:
        """Spikes of either sign, |s|, for each neuron and step."""
        return self._mean(self.firing_rates)

    @property
    def negative_share(self) -> float:
        """The share of negative spikes among all; 0 where there is none."""
        return self._mean(self.negative_rates) / (self.firing_rate or 1.0)

    def _mean(self, rates: dict[str, tuple[float, ...]]) -> float:
        """Over all neurons and steps."""
        total = sum(self.neurons.values()) * self.timesteps
        return sum(sum(rates[name]) * size for name, size in self.neurons.items()) / total

    def neurobench(self, first_layer: FirstLayer = "once") -> dict[str, Any]:
        """The figures under the names NeuroBench gives them (Yik et al., 2025)."""
        return {
            "Footprint": self.footprint,
            "ConnectionSparsity": self.zero_weights,
            "ActivationSparsity": self.activation_sparsity,
            "SynapticOperations": {
                "Effective_MACs": self.macs(first_layer),
                "Effective_ACs": self.acs(),
                "Dense": self.dense(first_layer),
            },
        }
