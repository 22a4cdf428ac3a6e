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
from ftbc_lightning.analysis.in_one_read import in_one_read
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
    biased = [
        (neuron.temporal_bias + neuron.step_charge != 0).sum(1)
        * (_size(snn.shapes[name]) // neuron.channels)
        for name, neuron in neurons.items()
    ]
    emitted = {name: SpikeValues.of(neuron) for name, neuron in neurons.items()}
    functions = names_of_functions(folded)
    counter = _Counter(folded.layers, snn.timesteps, set(neurons), functions, advance, emitted)
    images = snn.prepared(images)
    size, _ = chunk_sizes(snn, images, snn.timesteps)
    for part in torch.split(images, size):
        counter.add(part)
    count = counter.result(snn.shapes, torch.stack(biased).sum(0))
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
    images = snn.prepared(images)
    counter.add(images)
    return counter.result(snn.shapes, images.new_zeros(1))


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
        self.dense: dict[fx.Node, Tensor] = {}
        self.outputs: dict[fx.Node, int] = {}
        self.whole: dict[fx.Node, Tensor] = {}
        self.active: dict[str, Tensor] = {}
        self.fired: dict[str, Tensor] = {}
        self.negative: dict[str, Tensor] = {}
        self.shortcuts = torch.zeros(steps, dtype=torch.float64)
        zeros = {node: (layer.weight == 0).sum() for node, layer in self.connections()}
        self.zeros = {node: number for node, (number,) in in_one_read(zeros).items()}

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
        self.shortcuts = self.shortcuts.to(images.device)
        for node in self.plan.nodes:
            if node in connections:
                value = propagation.values[node.all_input_nodes[0]]
                self._connection(node, connections[node], value, len(images))
            module = self.plan.modules.get(str(node.target)) if node.op == "call_module" else None
            if isinstance(module, EdgeScale):
                spikes = propagation.values[node.all_input_nodes[0]]
                self.shortcuts += _by_step(spikes.abs(), self.steps)
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
            full, outputs = _products(layer, value[:1], dense=True)
            self.dense[node], self.outputs[node] = full.double().sum(), outputs
            self.products[node] = _products(layer, value[:1])[0] if self.zeros[node] else full
        products = self.products[node].double().flatten()

        def reached(used: Tensor) -> Tensor:
            return used.reshape(steps, samples, -1).sum(1).double() @ products

        once = number = reached((value != 0).to(value.dtype))
        whole = torch.zeros((), dtype=torch.bool, device=value.device)
        spikes = None if node not in self.plan.temporal else self.widest
        if spikes is not None:
            whole = (value.round().clamp_(spikes.lowest, spikes.highest) == value).all()
            if spikes != SpikeValues(0, 1):
                number = torch.where(whole, reached(value.abs()), once)
        self.whole[node] = whole & self.whole.get(node, True)
        for sums, part in ((self.effective, number), (self.reached, once)):
            sums[node] = torch.as_tensor(sums.get(node, 0) + part)

    def result(self, shapes: dict[str, tuple[int, ...]], biased: Tensor) -> OperationCount:
        """Averages for one sample; `biased` is how many neurons have a temporal bias, `[T]`."""
        if missing := layers_as_functions(self.graph):
            warnings.warn(
                f"Operations of {len(missing)} layers are not counted, because they are written as "
                f"functions: {', '.join(missing)}. Write them as modules, such as nn.Linear.",
                stacklevel=3,
            )
        sizes = {name: _size(shape) for name, shape in shapes.items()}
        found = in_one_read(self._averages(sizes) | {("biased", ""): biased})
        active, rates, negative = (
            {name: found[kind, name] for name in sums} for kind, sums in self._of_neurons().items()
        )
        tensors = [*self.graph.parameters(), *self.graph.buffers()]
        weights = sum(layer.weight.numel() for _, layer in self.connections())
        return OperationCount(
            timesteps=self.steps,
            samples=self.samples,
            layers=tuple(self._layer(found, *connection) for connection in self.connections()),
            firing_rates=rates,
            neurons=sizes,
            shortcut_adds=found["shortcuts", ""],
            temporal_bias_adds=found["biased", ""],
            footprint=sum(tensor.numel() * tensor.element_size() for tensor in tensors),
            zero_weights=sum(self.zeros.values()) / max(weights, 1),
            active=active,
            negative_rates=negative,
            functions=tuple(self.costs.values()),
        )

    def _of_neurons(self) -> dict[str, dict[str, Tensor]]:
        return {"active": self.active, "fired": self.fired, "negative": self.negative}

    def _averages(self, sizes: dict[str, int]) -> dict[tuple[str, str], Tensor]:
        """All results on the device, by their kind and the node or neuron."""
        averages = {("shortcuts", ""): self.shortcuts / self.samples}
        for kind, sums in (("effective", self.effective), ("reached", self.reached)):
            averages |= {(kind, node.name): sums[node] / self.samples for node in sums}
        for kind, values in (("dense", self.dense), ("whole", self.whole)):
            averages |= {(kind, node.name): value for node, value in values.items()}
        for kind, counts in self._of_neurons().items():
            for name, count in counts.items():
                averages[kind, name] = count / (self.samples * sizes[name])
        return averages

    def _layer(
        self, found: dict[tuple[str, str], tuple[float, ...]], node: fx.Node, layer: Connection
    ) -> LayerOperations:
        inputs: Inputs = "analog"
        if node in self.behind:
            inputs = "spikes" if all(found["whole", node.name]) else "graded"
        return LayerOperations(
            layer=str(node.target),
            inputs=inputs,
            dense=found["dense", node.name][0],
            effective=found["effective", node.name],
            bias_adds=self.outputs[node] if layer.bias is not None else 0.0,
            reached=found["reached", node.name],
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
