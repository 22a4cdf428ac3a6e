"""Maxima: where they stand in a graph, and how pooling is moved before an activation."""

import operator
import re
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from ftbc_lightning.ann.activations import is_activation
from ftbc_lightning.graph.shapes import is_created, is_number
from ftbc_lightning.graph.two_sided import never_falls

MAX_POOL_MODULES = (
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
)
MAX_POOL_FUNCTIONS: set[Callable[..., Any]] = {
    *(F.max_pool1d, F.max_pool2d, F.max_pool3d),
    *(torch.max_pool1d, torch.max_pool2d, torch.max_pool3d),
    *(F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d),
}
OVER_AXES = (torch.amax, "amax")
TAKING = (operator.getitem, getattr)
OF_TWO = (torch.maximum, "maximum", torch.fmax, "fmax")


def is_max_pool(node: fx.Node, graph: fx.GraphModule) -> bool:
    """Say whether a node takes the maximum over a window, over axes, or of two values."""
    return is_window(node, graph) or is_maximum(node)


def is_window(node: fx.Node, graph: fx.GraphModule) -> bool:
    """Say whether a node takes the maximum over a window of each channel."""
    if node.op == "call_module":
        module = graph.get_submodule(str(node.target))
        places = bool(getattr(module, "return_indices", False))
        return isinstance(module, MAX_POOL_MODULES) and not places
    return node.op == "call_function" and node.target in MAX_POOL_FUNCTIONS


def pooled_axes(called: object) -> int:
    """How many axes a pooling, a module or a function, takes for those of space; 0 for others.

    >>> pooled_axes(nn.AvgPool2d(2)), pooled_axes(F.adaptive_max_pool1d), pooled_axes(nn.ReLU())
    (2, 1, 0)
    """
    kinds = type(called).__mro__ if isinstance(called, nn.Module) else (called,)
    names = " ".join(getattr(kind, "__name__", "") for kind in kinds)
    found = re.search(r"pool(\d)d", names.lower())
    return int(found[1]) if found else 0


def is_maximum(node: fx.Node) -> bool:
    """Say whether a node takes the maximum over given axes of a sample, or of two values."""
    if node.op not in ("call_function", "call_method"):
        return False
    return (node.target in OVER_AXES and keeps_batch(node)) or node.target in OF_TWO


def keeps_batch(node: fx.Node) -> bool:
    """Say whether a reduction names the axes that it runs over, and the first is not among them.

    A stack along the first axis is taken back by a reduction over it.
    """
    axes = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", node.kwargs.get("axis"))
    axes = [axes] if isinstance(axes, int | fx.Node) else axes
    if not isinstance(axes, list | tuple) or not axes:
        return False
    stacked = node.all_input_nodes[0]
    along = stacked.args[1] if len(stacked.args) > 1 else stacked.kwargs.get("dim", 0)
    return bool(0 not in axes or (stacked.target is torch.stack and along == 0))


def operands(node: fx.Node) -> list[fx.Node]:
    """The values that a maximum is taken of."""
    return [source for source in node.all_input_nodes if not is_number(source)]


def write_maxima(graph: fx.GraphModule) -> None:
    """Write the values of `x.max(dim)` as `x.amax(dim)`, and `torch.max(a, b)` as `maximum`.

    >>> class Largest(nn.Module):
    ...     def forward(self, x):
    ...         return x.max(2)[0]
    >>> net = fx.symbolic_trace(Largest())
    >>> write_maxima(net)
    >>> [str(node.target) for node in net.graph.nodes if node.op.startswith("call")]
    ['amax']
    """
    for node in list(graph.graph.nodes):
        if node.target not in (torch.max, "max") or node.op == "call_module":
            continue
        second = node.args[1] if len(node.args) > 1 else node.kwargs.get("other")
        if isinstance(second, fx.Node) and (not is_number(second) or is_created(second)):
            node.op, node.target, node.args = "call_function", torch.maximum, (node.args[0], second)
            node.kwargs = {}
        elif second is not None or "dim" in node.kwargs:
            for user in list(node.users):
                if not user.users:  # the places of `values, places = x.max(dim)`
                    graph.graph.erase_node(user)
            taken = list(node.users)
            if all(user.target in TAKING and user.args[1] in (0, "values") for user in taken):
                node.target = torch.amax if node.target is torch.max else "amax"
                for user in taken:
                    user.replace_all_uses_with(node)
                    graph.graph.erase_node(user)
    for node in list(graph.graph.nodes):
        if node.target in OVER_AXES:
            _write_maximum_of_stack(node, graph)


def _write_maximum_of_stack(node: fx.Node, graph: fx.GraphModule) -> None:
    """Write `stack([a, b, ...]).amax(0)` as `maximum(maximum(a, b), ...)`, without a new axis."""
    stacked, axes = node.args[0], node.args[1:] or tuple(node.kwargs.values())
    if not isinstance(stacked, fx.Node) or stacked.target is not torch.stack or len(axes) != 1:
        return
    parts = stacked.args[0] if stacked.args else None
    along = (*stacked.args[1:], *stacked.kwargs.values(), 0)[0]
    if not isinstance(parts, list | tuple) or axes[0] not in (along, [along], (along,)):
        return
    largest: Any = parts[0]
    with graph.graph.inserting_before(node):
        for part in parts[1:]:
            largest = graph.graph.call_function(torch.maximum, (largest, part))
    node.replace_all_uses_with(largest)
    graph.graph.erase_node(node)
    if not stacked.users:
        graph.graph.erase_node(stacked)


def pool_before_activation(graph: fx.GraphModule) -> None:
    """Move max pooling before the activation that feeds it, where nothing else reads that one.

        max(act(z)) = act(max(z))   for every activation that never falls

    The ANN's function is unchanged. The spiking network needs fewer neurons, and behind the first
    layer, whose current is the same at every step, the maximum is that of the ANN.

    Args:
        graph: A traced network; changed in place.

    >>> net = fx.symbolic_trace(nn.Sequential(nn.ReLU(), nn.MaxPool2d(2)))
    >>> pool_before_activation(net)
    >>> [str(node.target) for node in net.graph.nodes if node.op == "call_module"]
    ['1', '0']
    """
    moved = False
    for pool in list(graph.graph.nodes):
        if not is_max_pool(pool, graph) or len(operands(pool)) > 1:
            continue
        activation = pool.args[0]
        while (
            isinstance(activation, fx.Node)
            and (is_activation(activation, graph) or never_falls(activation, graph))
            and len(activation.users) == 1
        ):
            source = activation.all_input_nodes[0]
            pool.replace_all_uses_with(activation)
            pool.replace_input_with(activation, source)
            activation.replace_input_with(source, pool)
            pool.append(activation)
            activation = pool.args[0]
            moved = True
    if moved:
        graph.recompile()
