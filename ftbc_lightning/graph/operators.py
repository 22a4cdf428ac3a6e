"""What each node of an ANN's graph becomes in the spiking network.

An operation is carried over as it is only when it is linear, because only then the mean over the
steps of its outputs is its output for the mean over the steps. Every operation that is not named
here is refused: nothing is left unconverted in silence.
"""

import operator
from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ftbc_lightning.ann.activations import QCFS, ClippedReLU, bounds, is_activation
from ftbc_lightning.graph.max_pooling import is_max_pool

Role = Literal["neuron", "linear", "pool", "shape", "input", "output", "refused"]
"""neuron: becomes an IFNeuron. linear: stays. pool: a maximum, taken over sums in time. shape: a
number, not a tensor in time."""

LINEAR_MODULES = (
    *(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, _BatchNorm),
    *(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d),
    *(nn.Identity, nn.Flatten, nn.Unflatten, nn.ChannelShuffle),
    *(nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d),
)
LINEAR_FUNCTIONS: set[Callable[..., Any]] = {
    *(torch.flatten, torch.cat, torch.concat, torch.mean, torch.add, torch.sub),
    *(torch.chunk, torch.split, torch.reshape, torch.permute, torch.transpose),
    *(torch.squeeze, torch.unsqueeze, torch.stack),
    *(operator.add, operator.iadd, operator.sub, operator.isub, operator.neg, operator.getitem),
    *(F.avg_pool1d, F.avg_pool2d, F.avg_pool3d),
    *(F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d),
    *(F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.pad, F.channel_shuffle),
}
LINEAR_METHODS = {
    *("view", "reshape", "flatten", "permute", "transpose", "contiguous", "mean", "add", "add_"),
    *("sub", "sub_", "squeeze", "unsqueeze", "chunk", "split"),
}
WEIGHTED_FUNCTIONS: set[Callable[..., Any]] = {
    *(F.linear, F.conv1d, F.conv2d, F.conv3d, torch.conv1d, torch.conv2d, torch.conv3d),
    F.batch_norm,
}
"""Linear in the first argument while the others are the network's own tensors."""

SCALING_FUNCTIONS: set[Callable[..., Any]] = {
    *(operator.mul, operator.imul, operator.truediv, torch.mul, torch.div),
}
SCALING_METHODS = {"mul", "mul_", "div", "div_"}
SHAPE_METHODS = {"size", "dim"}
NUMBER_FUNCTIONS: set[Callable[..., Any]] = {
    *(operator.floordiv, operator.truediv, operator.mul, operator.add, operator.sub),
    *(operator.getitem, getattr, operator.mod, operator.eq, operator.ne, torch._assert),
}


_RELU, _GATE = "train with ReLU instead", "leave the gate out, or train with ReLU6"
_ATTENTION = "none: attention multiplies two values that change in time"
_NORM = "train with batch norm instead"
WAYS_OUT = {
    **dict.fromkeys(("leakyrelu", "prelu", "elu", "selu", "gelu", "silu", "mish", "tanh"), _RELU),
    "hardswish": "train with ReLU6 instead",
    **dict.fromkeys(("sigmoid", "hardsigmoid", "mul"), _GATE),
    **dict.fromkeys(("softmax", "logsoftmax"), "leave it out: the largest logit stays largest"),
    **dict.fromkeys(("multiheadattention", "scaleddotproductattention", "matmul"), _ATTENTION),
    **dict.fromkeys(("layernorm", "layernorm2d", "groupnorm", "instancenorm2d"), _NORM),
}
"""Advice by type, small letters alone; every other type gets `DEFAULT_WAY_OUT`."""

DEFAULT_WAY_OUT = "replace it by linear operations and ReLU, and train again"


NEURONS = "neurons"
"""The submodule of the graph that holds the neurons, one under the name of each node."""


def is_neuron(node: fx.Node) -> bool:
    """Say whether a node of `SpikingNetwork.layers` is a neuron."""
    return node.op == "call_module" and str(node.target).startswith(f"{NEURONS}.")


def is_number(node: fx.Node) -> bool:
    """Say whether a node is a number or a shape computed from shapes, not a tensor."""
    if node.op == "call_method" and node.target in SHAPE_METHODS:
        return True
    if node.op != "call_function" or node.target not in NUMBER_FUNCTIONS:
        return False
    if node.target is getattr:
        return bool(node.args[1] == "shape")
    return bool(node.all_input_nodes) and all(is_number(source) for source in node.all_input_nodes)


def role(node: fx.Node, graph: fx.GraphModule) -> Role:
    """Say what a node of the ANN's graph becomes.

    >>> graph = fx.symbolic_trace(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.GELU()))
    >>> [role(node, graph) for node in graph.graph.nodes]
    ['input', 'linear', 'neuron', 'refused', 'output']
    """
    if node.op in ("placeholder", "output"):
        return "input" if node.op == "placeholder" else "output"
    if is_number(node):
        return "shape"
    if node.op == "get_attr":
        return "linear"
    if is_max_pool(node, graph):
        return "pool"
    if is_activation(node, graph):
        return "neuron"
    return "linear" if _is_linear(node, graph) else "refused"


def pools_in_time(graph: fx.GraphModule) -> list[fx.Node]:
    """The max poolings that spikes reach; one that reads the sample alone is the ANN's own."""
    reached: set[fx.Node] = set()
    for node in graph.graph.nodes:
        if role(node, graph) == "neuron" or any(s in reached for s in node.all_input_nodes):
            reached.add(node)
    return [node for node in graph.graph.nodes if node in reached and is_max_pool(node, graph)]


def _is_linear(node: fx.Node, graph: fx.GraphModule) -> bool:
    if node.op == "call_module":
        return isinstance(graph.get_submodule(str(node.target)), LINEAR_MODULES)
    if node.op == "call_method":
        known, scaling = LINEAR_METHODS, SCALING_METHODS
        return node.target in known or (node.target in scaling and _scales_one_tensor(node))
    if node.target in SCALING_FUNCTIONS:
        return _scales_one_tensor(node)
    if node.target in WEIGHTED_FUNCTIONS:
        return all(source.op == "get_attr" for source in node.all_input_nodes[1:])
    return node.target in LINEAR_FUNCTIONS


def _scales_one_tensor(node: fx.Node) -> bool:
    """Say whether a product has one factor that changes in time, or a quotient such a dividend."""
    changing = [
        position
        for position, factor in enumerate(node.args)
        if isinstance(factor, fx.Node) and not is_number(factor) and factor.op != "get_attr"
    ]
    divides = "div" in str(node.target)
    return changing == [0] or (changing == [1] and not divides)


def describe(node: fx.Node, graph: fx.GraphModule) -> str:
    """Name a node as its author knows it: path in the network and type, for a message.

    >>> graph = fx.symbolic_trace(nn.Sequential(nn.Linear(2, 2), nn.GELU()))
    >>> describe(list(graph.graph.nodes)[2], graph)
    '1 (GELU)'
    """
    path, kind = path_and_kind(node, graph)
    return f"{path} ({kind})" if node.op == "call_module" else f"{path} ({kind}, in forward)"


def path_and_kind(node: fx.Node, graph: fx.GraphModule) -> tuple[str, str]:
    """Path and type of a module; of a function the name of its node, and its own."""
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
