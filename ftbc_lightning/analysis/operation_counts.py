"""How many operations a sample costs, from real spikes with thresholds folded."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call

from ftbc_lightning.analysis.function_operations import FunctionOperations, function_operations
from ftbc_lightning.analysis.neuron_operations import SpikeValues, neuron_operations
from ftbc_lightning.analysis.quantized_ann import advance_quantized
from ftbc_lightning.analysis.sample_cost import Inputs, LayerOperations, OperationCount
from ftbc_lightning.graph.batch_norm import Convolution, Transposed
from ftbc_lightning.graph.operators import is_neuron, layers_as_functions
from ftbc_lightning.graph.propagation import Plan, Propagation
from ftbc_lightning.snn.network import SpikingNetwork
from ftbc_lightning.snn.simulation import chunk_sizes
from ftbc_lightning.snn.threshold_folding import EdgeScale, fold_thresholds

Connection = Convolution | Transposed | nn.Linear
Advance = Callable[[Propagation, fx.Node], Any]


@torch.no_grad()
def count_operations(snn: SpikingNetwork, images: Tensor) -> OperationCount:
    """Count the operations of a spiking network over all its steps.

    Thresholds are folded first: a spike is then a whole number s on the wire, and a synapse that it
    reaches adds its weight |s| times; beside it stands how often a spike of any level reaches one.
    Functions that do not spike have lines of their own. Not counted: pooling, and charge and reset
    of the neurons, which are `neurons` times T each.

    Args:
        snn: A converted network with thresholds set; left as it is.
        images: `[B, ...]`, B at least 1.

    Returns:
        Averages for one sample.
    """
    folded, _ = fold_thresholds(snn)

    def advance(propagation: Propagation, node: fx.Node) -> Any:
        if not is_neuron(node):
            return propagation.advance(node)
        spikes, _ = neurons[node.name](propagation.current(node))
        propagation.settle(node, spikes)
        return spikes

    neurons = folded.neurons()
    biased = torch.zeros(snn.timesteps)
    for name, neuron in neurons.items():
        used = (neuron.temporal_bias + neuron.step_charge != 0).sum(1).cpu()
        biased += used * (_size(snn.shapes[name]) // neuron.channels)
    emitted = {name: SpikeValues.of(neuron) for name, neuron in neurons.items()}
    functions = names_of_functions(folded)
    counter = _Counter(folded.layers, snn.timesteps, set(neurons), functions, advance, emitted)
    images = snn.prepared(images)
    size, _ = chunk_sizes(snn, images, snn.timesteps)
    for part in torch.split(images, size):
        counter.add(part)
    count = counter.result(snn.shapes, tuple(biased.tolist()))
    updates = neuron_operations(neurons, count.neurons, count.active)
    bits = SpikeValues.widest(emitted.values()).bits
    return replace(count, spike_bits=bits, updates=updates)


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

    def advance(propagation: Propagation, node: fx.Node) -> Any:
        if quantized:
            return advance_quantized(propagation, node, neurons, snn.timesteps)
        return propagation.advance(node)

    counter = _Counter(snn.traced(ann), 1, set(neurons), names_of_functions(snn), advance)
    counter.add(snn.prepared(images))
    return counter.result(snn.shapes, (0.0,))


def names_of_functions(snn: SpikingNetwork) -> set[str]:
    """The nodes that are taken over what has arrived so far."""
    return {node.name for node in Plan(snn.layers).functions}


class _Counter:
    """Sums over batches that go through a graph.

    Args:
        graph: The graph.
        steps: T.
        neurons: The names of its neurons.
        functions: The names of what is taken over what has arrived so far.
        advance: Evaluates a node.
        emitted: For each neuron what it can emit; None for an ANN.
    """

    def __init__(
        self,
        graph: fx.GraphModule,
        steps: int,
        neurons: set[str],
        functions: set[str],
        advance: Advance,
        emitted: Mapping[str, SpikeValues] | None = None,
    ) -> None:
        self.emitted = emitted
        self.widest = None if emitted is None else SpikeValues.widest(emitted.values())
        self.plan, self.steps, self.neurons, self.advance = Plan(graph), steps, neurons, advance
        self.graph, self.samples, self.functions = graph, 0, functions
        self.behind: set[fx.Node] = set()
        for node in self.plan.nodes:
            if node.name in neurons or self.behind.intersection(node.all_input_nodes):
                self.behind.add(node)
        self.costs: dict[str, FunctionOperations] = {}
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
            evaluate = partial(self.advance, propagation, node)
            if node.name in self.functions and node.name not in self.costs:
                counted = self.steps * len(images)
                self.costs[node.name] = function_operations(node, evaluate, counted)
            else:
                evaluate()
            if node.name in self.neurons:
                self._spikes(node.name, propagation.values[node])

    def _spikes(self, name: str, value: Tensor) -> None:
        """Of an ANN activations that are not 0 count, each once."""
        marks = value.sign().abs_()  # several times as fast as a comparison
        active = fired = _by_step(marks, self.steps)
        negative = torch.zeros_like(active)
        if self.emitted is not None and self.emitted[name] != SpikeValues(0, 1):
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
        spikes = None if node not in self.plan.temporal else self.widest
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
        if missing := layers_as_functions(self.graph):
            warnings.warn(
                f"Operations of {len(missing)} layers are not counted, because they are written as "
                f"functions: {', '.join(missing)}. Write them as modules, such as nn.Linear.",
                stacklevel=3,
            )
        for node, module in self.connections():
            inputs: Inputs = "analog"
            if node in self.behind:
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
            zero_weights=zeros / max(weights, 1),
            active=active,
            negative_rates=negative,
            functions=tuple(self.costs.values()),
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
    ones = {"weight": kept} | ({} if layer.bias is None else {"bias": torch.zeros_like(layer.bias)})
    inputs = torch.zeros(value.shape, dtype=value.dtype, device=value.device, requires_grad=True)
    outputs: Tensor = functional_call(layer, ones, inputs)
    (products,) = torch.autograd.grad(outputs.sum(), inputs)
    return products.round_(), outputs.numel()


def _by_step(values: Tensor, steps: int) -> Tensor:
    """The sum of `[steps * B, ...]` at each step, float64 `[steps]`."""
    return values.reshape(steps, -1).sum(1, dtype=torch.float64)


def _size(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())
