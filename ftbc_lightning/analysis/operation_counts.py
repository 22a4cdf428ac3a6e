"""How many operations a sample costs, from real spikes with thresholds folded."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call

from ftbc_lightning.analysis.neuron_operations import (
    NeuronOperations,
    SpikeValues,
    neuron_operations,
)
from ftbc_lightning.analysis.quantized_ann import advance_quantized
from ftbc_lightning.graph.operators import is_neuron
from ftbc_lightning.graph.propagation import Plan, Propagation
from ftbc_lightning.graph.tracing import trace
from ftbc_lightning.snn.network import SpikingNetwork
from ftbc_lightning.snn.simulation import chunk_sizes
from ftbc_lightning.snn.threshold_folding import EdgeScale, fold_thresholds

Inputs = Literal["analog", "spikes", "graded"]
"""analog: the same real numbers at every step. spikes: whole numbers s that a neuron can emit, so
a synapse adds |s| times (AC). graded: other values in time, as behind average pooling, so a synapse
multiplies (MAC)."""

FirstLayer = Literal["once", "every_step"]
"""Whether layers with analog inputs are computed once, or again at each of the T steps."""

Connection = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear
Advance = Callable[[Propagation, fx.Node], Any]


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


@torch.no_grad()
def count_operations(snn: SpikingNetwork, images: Tensor) -> OperationCount:
    """Count the operations of a spiking network over all its steps.

    Thresholds are folded first: a spike is then a whole number s on the wire, and a synapse that it
    reaches adds its weight |s| times; beside it stands how often a spike of any level reaches one.
    Not counted: pooling, and charge and reset of the neurons, which are `neurons` times T each.

    Args:
        snn: A converted network with thresholds set; left as it is.
        images: `[B, ...]`, B at least 1.

    Returns:
        Averages for one sample.
    """
    folded, _ = fold_thresholds(snn)

    def advance(propagation: Propagation, node: fx.Node) -> None:
        if is_neuron(node):
            spikes, _ = neurons[node.name](propagation.current(node))
            propagation.settle(node, spikes)
        else:
            propagation.advance(node)

    neurons = folded.neurons()
    biased = torch.zeros(snn.timesteps)
    for name, neuron in neurons.items():
        used = (neuron.temporal_bias + neuron.step_charge != 0).sum(1).cpu()
        biased += used * (_size(snn.shapes[name]) // neuron.channels)
    emitted = SpikeValues.of(next(iter(neurons.values())))
    counter = _Counter(folded.layers, snn.timesteps, set(neurons), advance, emitted)
    images = snn.prepared(images)
    size, _ = chunk_sizes(snn, images, snn.timesteps)
    for part in torch.split(images, size):
        counter.add(part)
    count = counter.result(snn.shapes, tuple(biased.tolist()))
    updates = neuron_operations(neurons, count.neurons, count.active)
    return replace(count, spike_bits=emitted.bits, updates=updates)


@torch.no_grad()
def count_ann_operations(
    ann: nn.Module, snn: SpikingNetwork, images: Tensor, *, quantized: bool = False
) -> OperationCount:
    """Count the operations of the ANN, all of them multiply-accumulates.

    Args:
        ann: The network that was converted.
        snn: Its conversion, for the names and shapes of the activations.
        images: `[B, ...]`.
        quantized: Round every activation to the T * K + 1 levels of the neuron in its place.
    """
    neurons = snn.neurons()

    def advance(propagation: Propagation, node: fx.Node) -> None:
        if quantized:
            advance_quantized(propagation, node, neurons, snn.timesteps)
        else:
            propagation.advance(node)

    counter = _Counter(trace(ann, snn.example_input), 1, set(neurons), advance)
    counter.add(snn.prepared(images))
    return counter.result(snn.shapes, (0.0,))


class _Counter:
    """Sums over batches that go through a graph; `emitted` is None for an ANN."""

    def __init__(
        self,
        graph: fx.GraphModule,
        steps: int,
        neurons: set[str],
        advance: Advance,
        emitted: SpikeValues | None = None,
    ) -> None:
        self.emitted = emitted
        self.plan, self.steps, self.neurons, self.advance = Plan(graph), steps, neurons, advance
        self.graph, self.samples = graph, 0
        self.products: dict[fx.Node, Tensor] = {}
        self.effective: dict[fx.Node, Tensor] = {}
        self.reached: dict[fx.Node, Tensor] = {}
        self.dense: dict[fx.Node, tuple[float, float]] = {}
        self.whole: dict[fx.Node, bool] = {}
        self.active: dict[str, Tensor] = {}
        self.fired: dict[str, Tensor] = {}
        self.negative: dict[str, Tensor] = {}
        self.shortcuts = torch.zeros(steps, dtype=torch.float64)

    def connections(self) -> Iterator[tuple[fx.Node, Connection]]:
        """The convolutions and linear layers."""
        for node in self.plan.nodes:
            module = self.plan.modules.get(str(node.target)) if node.op == "call_module" else None
            if isinstance(module, Connection):
                yield node, module

    def add(self, images: Tensor) -> None:
        propagation = Propagation(self.plan, images, steps=self.steps)
        connections = dict(self.connections())
        self.samples += len(images)
        for node in self.plan.nodes:
            if node in connections:
                value = propagation.values[node.all_input_nodes[0]]
                self._connection(node, connections[node], value, len(images))
            module = self.plan.modules.get(str(node.target)) if node.op == "call_module" else None
            if isinstance(module, EdgeScale):
                spikes = propagation.values[node.all_input_nodes[0]]
                self.shortcuts += _by_step(spikes.abs(), self.steps).cpu()
            self.advance(propagation, node)
            if node.name in self.neurons:
                self._spikes(node.name, propagation.values[node])

    def _spikes(self, name: str, value: Tensor) -> None:
        """Of an ANN activations that are not 0 count, each once."""
        marks = value.sign().abs_()  # several times as fast as a comparison
        active = fired = _by_step(marks, self.steps)
        negative = torch.zeros_like(active)
        if self.emitted is not None and self.emitted != SpikeValues(0, 1):
            fired = _by_step(value.abs(), self.steps)
            negative = _by_step(value.clamp_max(0).neg_(), self.steps)
        for sums, part in (
            (self.active, active),
            (self.fired, fired),
            (self.negative, negative),
        ):
            sums[name] = sums.get(name, 0) + part

    def _connection(self, node: fx.Node, layer: Connection, value: Tensor, samples: int) -> None:
        steps = self.steps if node in self.plan.temporal else 1
        if node not in self.products:
            self.products[node], outputs = _products(layer, value[:1])
            full = self.products[node]
            if not layer.weight.all():
                full, _ = _products(layer, value[:1], dense=True)
            self.dense[node] = float(full.double().sum()), outputs
        spikes = None if node not in self.plan.temporal else self.emitted
        whole = spikes is not None and torch.equal(
            value.round().clamp_(spikes.lowest, spikes.highest), value
        )
        self.whole[node] = self.whole.get(node, True) and whole
        products = self.products[node].double().flatten()

        def reached(used: Tensor) -> Tensor:
            return used.reshape(steps, samples, -1).sum(1).double() @ products

        once = number = reached((value != 0).to(value.dtype))
        if whole and spikes != SpikeValues(0, 1):
            number = reached(value.abs())
        for sums, part in ((self.effective, number), (self.reached, once)):
            sums[node] = torch.as_tensor(sums.get(node, 0) + part)

    def result(
        self, shapes: dict[str, tuple[int, ...]], temporal_bias_adds: tuple[float, ...]
    ) -> OperationCount:
        layers, zeros, weights = [], 0, 0
        for node, module in self.connections():
            in_time = node in self.plan.temporal
            inputs: Inputs = "analog"
            if in_time:
                inputs = "spikes" if self.whole[node] else "graded"
            dense, outputs = self.dense[node]
            effective, reached = (
                tuple((sums[node] / self.samples).tolist())
                for sums in (self.effective, self.reached)
            )
            bias = outputs if module.bias is not None else 0.0
            path = str(node.target)
            layers.append(LayerOperations(path, inputs, dense, effective, bias, reached))
            zeros += int((module.weight == 0).sum())
            weights += module.weight.numel()
        sizes = {name: _size(shape) for name, shape in shapes.items()}
        active, rates, negative = (
            {
                name: tuple((sums / (self.samples * sizes[name])).tolist())
                for name, sums in of.items()
            }
            for of in (self.active, self.fired, self.negative)
        )
        tensors = [*self.graph.parameters(), *self.graph.buffers()]
        return OperationCount(
            timesteps=self.steps,
            samples=self.samples,
            layers=tuple(layers),
            firing_rates=rates,
            neurons=sizes,
            shortcut_adds=tuple((self.shortcuts / self.samples).tolist()),
            temporal_bias_adds=temporal_bias_adds,
            footprint=sum(tensor.numel() * tensor.element_size() for tensor in tensors),
            zero_weights=zeros / weights,
            active=active,
            negative_rates=negative,
        )


@torch.inference_mode(False)
@torch.enable_grad()
def _products(layer: Connection, value: Tensor, *, dense: bool = False) -> tuple[Tensor, int]:
    """In how many products each input takes part whose weight is not 0, and how many outputs.

    Layers are linear, so it is the gradient of the sum of the outputs where all weights are 1.

    Args:
        layer: The layer; left as it is.
        value: One input, for its shape.
        dense: Weights that are 0 count too.
    """
    kept = torch.ones_like(layer.weight) if dense else (layer.weight != 0).to(layer.weight.dtype)
    ones = {"weight": kept} | ({} if layer.bias is None else {"bias": kept.new_zeros(len(kept))})
    inputs = torch.zeros(value.shape, dtype=value.dtype, device=value.device, requires_grad=True)
    outputs: Tensor = functional_call(layer, ones, inputs)
    (products,) = torch.autograd.grad(outputs.sum(), inputs)
    return products.round_(), outputs.numel()


def _by_step(values: Tensor, steps: int) -> Tensor:
    """The sum of `[steps * B, ...]` at each step, float64 `[steps]`."""
    return values.reshape(steps, -1).sum(1, dtype=torch.float64)


def _size(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())
