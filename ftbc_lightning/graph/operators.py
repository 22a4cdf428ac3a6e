"""What each node of an ANN's graph becomes in the spiking network.

An operation is carried over as it is only when it is linear, because only then the mean over the
steps of its outputs is its output for the mean over the steps. Every operation that is not named
here is refused: nothing is left unconverted in silence.
"""

from typing import Literal

import torch.nn.functional as F
from torch import fx, nn

from ftbc_lightning.ann.activations import QCFS, ClippedReLU, bounds, is_activation
from ftbc_lightning.graph.einops_calls import is_product
from ftbc_lightning.graph.encoding import is_encoder
from ftbc_lightning.graph.linear import (
    FACTORS,
    PRODUCTS,
    REDUCTIONS,
    WEIGHTED_FUNCTIONS,
    is_linear,
    never,
)
from ftbc_lightning.graph.max_pooling import OF_TWO, is_max_pool, operands
from ftbc_lightning.graph.shapes import is_number
from ftbc_lightning.graph.two_sided import WRITTEN

Role = Literal[
    "neuron",
    "linear",
    "pool",
    "shape",
    "input",
    "output",
    "front",
    "tail",
    "function",
    "refused",
]
"""neuron: becomes a layer of neurons. linear: stays. pool: a maximum, taken over sums in time.
shape: a number, not a tensor in time. front: prepares the input, computed once. tail: behind the
last layer, computed on the mean over the steps. function: taken over what has arrived so far."""

_RELU, _GATE = "train with ReLU instead", "leave the gate out, or train with ReLU6"
_ATTENTION = "none: attention multiplies two values that change in time"
_NORM = "train with batch norm instead"
WAYS_OUT = {
    **dict.fromkeys(("elu", "celu", "selu", "gelu", "silu", "mish", "softplus", "tanh"), _RELU),
    "hardswish": "train with ReLU6 instead",
    **dict.fromkeys(("sigmoid", "hardsigmoid", "mul"), _GATE),
    **dict.fromkeys(("softmax", "logsoftmax"), "leave it out: the largest logit stays largest"),
    **dict.fromkeys(("multiheadattention", "scaleddotproductattention", "matmul"), _ATTENTION),
    **dict.fromkeys(("einsum", "bmm"), _ATTENTION),
    **dict.fromkeys(("layernorm", "layernorm2d", "groupnorm", "instancenorm"), _NORM),
    **dict.fromkeys(("instancenorm1d", "instancenorm2d", "instancenorm3d"), _NORM),
}
"""Advice by type, small letters alone; every other type gets `DEFAULT_WAY_OUT`."""

DEFAULT_WAY_OUT = "replace it by linear operations and ReLU, and train again"


NEURONS = "neurons"
"""The submodule of the graph that holds the neurons, one under the name of each node."""


def is_neuron(node: fx.Node) -> bool:
    """Say whether a node of `SpikingNetwork.layers` is a neuron."""
    return node.op == "call_module" and str(node.target).startswith(f"{NEURONS}.")


def roles(graph: fx.GraphModule, *, functions: bool = False) -> dict[fx.Node, Role]:
    """Say what each node of the ANN's graph becomes.

    Args:
        graph: The ANN.
        functions: Take functions that are not linear over what has arrived so far, in place of
            refusing them.

    >>> net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.GELU(), nn.Linear(2, 2))
    >>> list(roles(fx.symbolic_trace(net)).values())
    ['input', 'linear', 'neuron', 'refused', 'linear', 'output']
    """
    constants = constants_of(graph)
    found = {node: _alone(node, graph, constants) for node in graph.graph.nodes}
    weighted = {node for node in found if _is_weighted(node, graph, constants)}
    for node in _front(found, weighted, graph):
        found[node] = "front"
    for node in _tail(found, weighted, graph):
        found[node] = "tail"
    if functions:
        for node, role in found.items():
            if role == "refused" and not never(node, graph):
                found[node] = "function"
    return found


def weighted_nodes(graph: fx.GraphModule) -> set[fx.Node]:
    """The layers: what combines its inputs by trained weights."""
    constants = constants_of(graph)
    return {node for node in graph.graph.nodes if _is_weighted(node, graph, constants)}


def layers_as_functions(graph: fx.GraphModule) -> list[str]:
    """The names of layers that are no modules: `F.linear(x, self.w)`, `x @ self.w`."""
    functions = (node for node in weighted_nodes(graph) if node.op != "call_module")
    return sorted(node.name for node in functions if node.target is not F.batch_norm)


def constants_of(graph: fx.GraphModule) -> set[fx.Node]:
    """The nodes that are the network's own: tensors, and what is computed from such alone."""
    found: set[fx.Node] = set()
    for node in graph.graph.nodes:
        sources = node.all_input_nodes
        own = node.op in ("call_function", "call_method", "call_module") and sources
        computed = own and all(s in found or is_number(s) for s in sources) and not is_number(node)
        if node.op == "get_attr" or (computed and not never(node, graph)):
            found.add(node)
    return found


def _alone(node: fx.Node, graph: fx.GraphModule, constants: set[fx.Node]) -> Role:
    """What a node becomes by its operation, wherever it stands."""
    if node.op in ("placeholder", "output"):
        return "input" if node.op == "placeholder" else "output"
    if is_number(node):
        return "shape"
    if node in constants:
        return "linear"
    if is_max_pool(node, graph):
        values = operands(node)
        own = any(value in constants for value in values)
        return "refused" if own or (node.target in OF_TWO and len(values) < 2) else "pool"
    if is_activation(node, graph) or is_encoder(node):
        return "neuron"
    return "linear" if is_linear(node, graph, constants) else "refused"


FRONT_MODULES = (
    *(nn.Embedding, nn.EmbeddingBag, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.PReLU),
    *(nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm),
)
"""Modules with trained tensors that are no layers: before the first one they prepare the input."""


def _is_weighted(node: fx.Node, graph: fx.GraphModule, constants: set[fx.Node]) -> bool:
    """Say whether a node is a layer: it combines its inputs by trained weights."""
    if node.op == "call_module":
        module = graph.get_submodule(str(node.target))
        trained = next(module.parameters(), None) is not None
        return trained and not isinstance(module, FRONT_MODULES) and not is_activation(node, graph)
    product = node.target in WEIGHTED_FUNCTIONS | PRODUCTS | FACTORS.keys() or is_product(node)
    if product and node not in constants:
        sources = [s for s in node.all_input_nodes if s.op == "get_attr"]
        return any(isinstance(_attribute(graph, str(s.target)), nn.Parameter) for s in sources)
    return False


def _front(
    found: dict[fx.Node, Role], weighted: set[fx.Node], graph: fx.GraphModule
) -> set[fx.Node]:
    """What prepares the input, before the first layer: computed once, so it may be anything."""
    behind: set[fx.Node] = set()
    prepared: set[fx.Node] = set()
    for node, role in found.items():
        if node in weighted or any(source in behind for source in node.all_input_nodes):
            behind.add(node)
        elif role == "refused" and not never(node, graph):
            prepared.add(node)
    for node in reversed(found):
        if found[node] in ("linear", "pool", "neuron") and any(u in prepared for u in node.users):
            prepared.add(node)
    return prepared


def _tail(
    found: dict[fx.Node, Role], weighted: set[fx.Node], graph: fx.GraphModule
) -> set[fx.Node]:
    """What no layer and no neuron follows: a function of the mean over the steps, so exact."""
    followed: set[fx.Node] = set()
    for node in reversed(found):
        if any(u in weighted or found[u] == "neuron" or u in followed for u in node.users):
            followed.add(node)
    tail: set[fx.Node] = set()
    for node, role in found.items():
        free = node not in followed and node not in weighted and not never(node, graph)
        read = any(source in tail for source in node.all_input_nodes)
        if (role == "refused" and free) or (read and role in ("linear", "pool")):
            tail.add(node)
    return tail


def pools_in_time(graph: fx.GraphModule) -> list[fx.Node]:
    """The max poolings that spikes reach; one that reads the sample alone is the ANN's own."""
    found = roles(graph)
    reached: set[fx.Node] = set()
    for node, role in found.items():
        if role == "neuron" or any(source in reached for source in node.all_input_nodes):
            reached.add(node)
    return [node for node, role in found.items() if node in reached and role == "pool"]


TAIL, FUNCTION = "ftbc_tail", "ftbc_function"
"""Keys in a node's `meta` that say that it is computed on the running mean, or taken over it."""


def mark_roles(graph: fx.GraphModule, *, functions: bool = False) -> None:
    """Mark what is computed on the mean over the steps, and what is taken over it."""
    for node, role in roles(graph, functions=functions).items():
        node.meta[TAIL], node.meta[FUNCTION] = role == "tail", role == "function"


def in_tail(node: fx.Node) -> bool:
    """Say whether a node of a spiking network is computed on the mean over the steps."""
    return bool(node.meta.get(TAIL))


def in_function(node: fx.Node) -> bool:
    """Say whether a node of a spiking network is taken over what has arrived so far."""
    return bool(node.meta.get(FUNCTION))


def _attribute(graph: fx.GraphModule, path: str) -> object:
    value: object = graph
    for name in path.split("."):
        value = getattr(value, name)
    return value


def describe(node: fx.Node, graph: fx.GraphModule) -> str:
    """Name a node as its author knows it: path in the network and type, for a message.

    >>> graph = fx.symbolic_trace(nn.Sequential(nn.Linear(2, 2), nn.GELU()))
    >>> describe(list(graph.graph.nodes)[2], graph)
    '1 (GELU)'
    """
    path, kind = path_and_kind(node, graph)
    written = node.op != "call_module" and path == node.name
    return f"{path} ({kind}, in forward)" if written else f"{path} ({kind})"


def path_and_kind(node: fx.Node, graph: fx.GraphModule) -> tuple[str, str]:
    """Path and type of a module; of a function the name of its node, and its own."""
    if WRITTEN in node.meta:
        path, kind = node.meta[WRITTEN]
        return path, kind
    if node.op == "call_module":
        return str(node.target), type(graph.get_submodule(str(node.target))).__name__
    kind = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "?")
    return node.name, kind


def way_out(kind: str) -> str:
    """What to do about an operation that cannot be converted.

    >>> way_out("GELU")
    'train with ReLU instead'
    """
    return WAYS_OUT.get(kind.lower().replace("_", ""), DEFAULT_WAY_OUT)


def advice(node: fx.Node, graph: fx.GraphModule) -> str:
    """What to do about a node that cannot be converted: by its setting, else by its kind."""
    if reason := never(node, graph):
        return reason
    if node.op in ("call_function", "call_method") and node.target in REDUCTIONS:
        return "it runs over the samples of the batch; name the axes of a sample (dim=1, ...)"
    return way_out(path_and_kind(node, graph)[1])


def ceiling(node: fx.Node, graph: fx.GraphModule) -> float | None:
    """The largest value that an activation lets pass: 6 for ReLU6, lambda for QCFS, or None."""
    limits = bounds(node, graph)
    return None if limits is None else limits[1]


def learned_threshold(node: fx.Node, graph: fx.GraphModule) -> float | None:
    """The threshold that the ANN has trained at this activation, or None if it has none."""
    if node.op != "call_module":
        return None
    module = graph.get_submodule(str(node.target))
    return float(module.threshold.detach()) if isinstance(module, ClippedReLU | QCFS) else None
