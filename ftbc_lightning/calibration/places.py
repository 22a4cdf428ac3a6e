"""Which linear layers can be corrected, at which neuron, and against what."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import fx, nn

from ftbc_lightning.calibration.between_neurons import operations_before
from ftbc_lightning.calibration.regression import Linear
from ftbc_lightning.graph.batch_norm import Convolution, Transposed
from ftbc_lightning.graph.max_pooling import is_max_pool
from ftbc_lightning.graph.operators import is_neuron
from ftbc_lightning.graph.propagation import Plan
from ftbc_lightning.snn.network import SpikingNetwork
from ftbc_lightning.snn.neurons.integrate_and_fire import IFNeuron

ADDITIONS = ("add", "add_", "iadd")
SAME = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d)
"""Modules that pass their input on in evaluation mode."""


@dataclass(frozen=True)
class Place:
    """A linear layer whose weights can be corrected.

    Attributes:
        node: The layer's node.
        module: The layer.
        target: Where its sum with other terms is compared with the ANN.
        neuron: The neuron in the place of an activation that reads the target, or what a max
            pooling makes of it; None where a function or an encoder does.
    """

    node: fx.Node
    module: Linear
    target: fx.Node
    neuron: IFNeuron | None

    @property
    def source(self) -> fx.Node:
        """What the layer reads."""
        return self.node.all_input_nodes[0]


def correctable(snn: SpikingNetwork) -> dict[fx.Node, list[Place]]:
    """For each neuron the linear layers between it and the neurons before, in order.

    The layer before a neuron is seen through additions and max pooling. Of several that are added,
    the last one to be computed is taken: it mends the gap on the shortcut too. In networks with
    functions in time or encoders the layers that these read are found too. A layer that is used
    twice, or whose input no spike has reached, is left alone.
    """
    plan = Plan(snn.layers)
    order = {node: index for index, node in enumerate(plan.nodes)}
    spiking = _reached_by_spikes(plan)
    uses: dict[str, int] = {}
    for node in plan.nodes:
        uses[str(node.target)] = uses.get(str(node.target), 0) + 1
    usable = {n for n in order if uses[str(n.target)] == 1 and _reads(n, spiking, snn.layers)}
    found: dict[fx.Node, list[Place]] = {}
    taken: set[fx.Node] = set()
    for neuron in (node for node in plan.nodes if is_neuron(node)):
        last = _before(neuron, snn, usable, order)
        places = [] if last is None else [last]
        if snn.functions != "refuse":
            taken |= {place.node for place in places}
            inside = [n for n in operations_before(neuron, plan) if n in usable - taken]
            others = _before_functions(inside, snn.layers)
            summed = [place.target for place in places]
            places = [*(place for place in others if place.target not in summed), *places]
            taken |= set(inside)
        if places:
            found[neuron] = places
    return found


def left_alone(snn: SpikingNetwork) -> list[str]:
    """The paths of the linear layers whose weights no correction changes."""
    changed = {id(place.module) for places in correctable(snn).values() for place in places}
    kinds = nn.Linear | Convolution | Transposed
    modules = snn.layers.named_modules()
    return [path for path, m in modules if isinstance(m, kinds) and id(m) not in changed]


def _reached_by_spikes(plan: Plan) -> set[fx.Node]:
    found: set[fx.Node] = set()
    for node in plan.nodes:
        if is_neuron(node) or any(source in found for source in node.all_input_nodes):
            found.add(node)
    return found


def _reads(node: fx.Node, spiking: set[fx.Node], graph: fx.GraphModule) -> bool:
    """Whether a node is a layer that reads what spikes have reached."""
    linear = isinstance(_module(node, graph), Linear)
    return linear and node.all_input_nodes[0] in spiking


def _before(
    neuron: fx.Node, snn: SpikingNetwork, usable: set[fx.Node], order: dict[fx.Node, int]
) -> Place | None:
    """The layer whose sum a neuron reads that stands for an activation."""
    model = snn.neurons()[neuron.name]
    if model.lowest < 0:
        return None
    target, graph = neuron.all_input_nodes[0], snn.layers
    while is_max_pool(target, graph) and len(target.users) == 1:
        target = target.all_input_nodes[0]
    shape = snn.shapes[neuron.name]
    layers = [
        term for term in _added(target, graph) if term in usable and _gives(shape, term, graph)
    ]
    if not layers:
        return None
    last = max(layers, key=order.__getitem__)
    return Place(last, _layer(last, graph), target, model)


def _before_functions(layers: list[fx.Node], graph: fx.GraphModule) -> Iterator[Place]:
    """The others; of several in one sum the last."""
    targets = {node: _sum_of(node, graph) for node in layers}
    last = {target: node for node, target in targets.items()}
    for target, node in last.items():
        yield Place(node, _layer(node, graph), target, None)


def _sum_of(node: fx.Node, graph: fx.GraphModule) -> fx.Node:
    """The sum that a value enters, if nothing else reads it; or the value."""
    while len(node.users) == 1:
        (user,) = node.users
        if not (_adds(user) or isinstance(_module(user, graph), SAME)):
            return node
        node = user
    return node


def _gives(shape: tuple[int, ...], node: fx.Node, graph: fx.GraphModule) -> bool:
    """Whether the output channels of a layer are those of a neuron's `shape`."""
    layer = _layer(node, graph)
    if isinstance(layer, nn.Linear):
        return shape == (layer.out_features,)
    return shape[0] == layer.out_channels and len(shape) == len(layer.kernel_size) + 1


def _added(node: fx.Node, graph: fx.GraphModule) -> list[fx.Node]:
    """The terms of a sum, or the node itself, where nothing else reads them."""
    if len(node.users) > 1:
        return []
    if _adds(node):
        return [term for source in node.all_input_nodes for term in _added(source, graph)]
    if isinstance(_module(node, graph), SAME):
        return _added(node.all_input_nodes[0], graph)
    return [node]


def _adds(node: fx.Node) -> bool:
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return node.op in ("call_function", "call_method") and name in ADDITIONS and not node.kwargs


def _module(node: fx.Node, graph: fx.GraphModule) -> nn.Module | None:
    return graph.get_submodule(str(node.target)) if node.op == "call_module" else None


def _layer(node: fx.Node, graph: fx.GraphModule) -> Linear:
    layer = _module(node, graph)
    assert isinstance(layer, Linear)
    return layer
