"""The linear layer before a neuron, and what a correction of its weights reads."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from ftbc_lightning.graph.batch_norm import Convolution, Transposed
from ftbc_lightning.graph.max_pooling import is_max_pool
from ftbc_lightning.graph.operators import is_neuron
from ftbc_lightning.snn.network import SpikingNetwork
from ftbc_lightning.snn.neurons.integrate_and_fire import IFNeuron
from ftbc_lightning.snn.statistics import Reduce

Linear = nn.Linear | nn.Conv1d | nn.Conv2d
ADDITIONS = ("add", "add_", "iadd")
SAME = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d)
"""Modules that pass their input on in evaluation mode."""


@dataclass(frozen=True)
class Place:
    """A linear layer whose weights can be corrected at a neuron.

    Attributes:
        node: The layer's node.
        module: The layer.
        target: Where its sum with other terms is compared with the ANN: what the neuron reads,
            or what a max pooling before the neuron reads.
    """

    node: fx.Node
    module: Linear
    target: fx.Node

    @property
    def source(self) -> fx.Node:
        """What the layer reads."""
        return self.node.all_input_nodes[0]


@dataclass(frozen=True)
class Regression:
    """What the weights of a layer are found from.

    Attributes:
        module: The layer, whose weights are changed in place.
        neuron: The neuron behind it.
        means: For each micro-batch a function that gives the means over the steps of the layer's
            spiking input r, `[B, inputs, ...]`, and of the sum x that it is part of,
            `[B, outputs, ...]`.
        wanted: For each micro-batch z, what the ANN has in the place of x.
        first_half: For each micro-batch how many samples belong to the first half of all; they
            are in front (`ftbc_lightning.calibration.held_out`).
        reduce: Merges sums over processes.
    """

    module: Linear
    neuron: IFNeuron
    means: Sequence[Callable[[], tuple[Tensor, Tensor]]]
    wanted: Sequence[Tensor]
    first_half: Sequence[int]
    reduce: Reduce

    def samples(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """(r, x, z) of each micro-batch, one at a time."""
        for means, z in zip(self.means, self.wanted, strict=True):
            r, x = means()
            yield r, x, z

    def clip(self, values: Tensor) -> Tensor:
        """Clip to K * [-theta/2, theta]: beyond it the neuron is silent or saturated anyway."""
        top = self.neuron.top.view(-1, *(1,) * (values.ndim - 2))
        return torch.minimum(torch.maximum(values, -top / 2), top)


def correctable(snn: SpikingNetwork) -> dict[fx.Node, Place]:
    """For each neuron the linear layer before it, seen through additions and max pooling.

    Of several that are added, the last one to be computed is taken: it mends the gap on the
    shortcut too. A layer that is used twice, whose output something else reads, or whose input
    no spike has reached is left alone.
    """
    spiking: set[fx.Node] = set()
    uses: dict[str, int] = {}
    order = {node: index for index, node in enumerate(snn.layers.graph.nodes)}
    found = {}
    for node in order:
        if is_neuron(node) or any(source in spiking for source in node.all_input_nodes):
            spiking.add(node)
        if node.op == "call_module":
            uses[str(node.target)] = uses.get(str(node.target), 0) + 1
    for name, shape in snn.shapes.items():
        neuron = next(node for node in order if node.name == name)
        target = neuron.all_input_nodes[0]
        while is_max_pool(target, snn.layers) and len(target.users) == 1:
            target = target.all_input_nodes[0]
        layers = [
            term
            for term in _added(target, snn.layers)
            if _is_layer_for(shape, term, snn.layers)
            and uses[str(term.target)] == 1
            and term.all_input_nodes[0] in spiking
        ]
        if layers:
            last = max(layers, key=order.__getitem__)
            module = snn.layers.get_submodule(str(last.target))
            assert isinstance(module, Linear)
            found[neuron] = Place(last, module, target)
    return found


def left_alone(snn: SpikingNetwork) -> list[str]:
    """The paths of the linear layers whose weights no correction changes."""
    changed = {id(place.module) for place in correctable(snn).values()}
    kinds = nn.Linear | Convolution | Transposed
    modules = snn.layers.named_modules()
    return [path for path, m in modules if isinstance(m, kinds) and id(m) not in changed]


def _is_layer_for(shape: tuple[int, ...], node: fx.Node, graph: fx.GraphModule) -> bool:
    """Whether a node is a linear layer whose output channels are those of a neuron's `shape`."""
    module = graph.get_submodule(str(node.target)) if node.op == "call_module" else None
    if isinstance(module, nn.Linear):
        return shape == (module.out_features,)
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        return shape[0] == module.out_channels and len(shape) == len(module.kernel_size) + 1
    return False


def _added(node: fx.Node, graph: fx.GraphModule) -> list[fx.Node]:
    """The terms of a sum, or the node itself, where nothing else reads them."""
    if len(node.users) > 1:
        return []
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    if node.op in ("call_function", "call_method") and name in ADDITIONS and not node.kwargs:
        return [term for source in node.all_input_nodes for term in _added(source, graph)]
    if node.op == "call_module" and isinstance(graph.get_submodule(str(node.target)), SAME):
        return _added(node.all_input_nodes[0], graph)
    return [node]
