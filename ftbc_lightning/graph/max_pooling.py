"""Max pooling: where it stands in a graph, and how it is moved before an activation."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from ftbc_lightning.ann.activations import is_activation

MAX_POOL_MODULES = (
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
)
MAX_POOL_FUNCTIONS: set[Callable[..., Any]] = {
    *(F.max_pool1d, F.max_pool2d, F.max_pool3d),
    *(torch.max_pool1d, torch.max_pool2d, torch.max_pool3d),
    *(F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d),
}


def is_max_pool(node: fx.Node, graph: fx.GraphModule) -> bool:
    """Say whether a node takes the maximum over a window."""
    if node.op == "call_module":
        return isinstance(graph.get_submodule(str(node.target)), MAX_POOL_MODULES)
    return node.op == "call_function" and node.target in MAX_POOL_FUNCTIONS


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
        if not is_max_pool(pool, graph):
            continue
        activation = pool.args[0]
        while (
            isinstance(activation, fx.Node)
            and is_activation(activation, graph)
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
