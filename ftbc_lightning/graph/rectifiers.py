"""A ReLU that is spelled out: by a condition, a product or a maximum."""

import operator
from typing import Any

import torch
from torch import Tensor, fx

from ftbc_lightning.graph.shapes import name_of

ABOVE = (operator.gt, operator.ge, torch.gt, torch.ge, torch.greater, "gt", "ge", "greater")
BELOW = (operator.lt, operator.le, torch.lt, torch.le, torch.less, "lt", "le", "less")
PRODUCTS = (operator.mul, torch.mul, "mul")
MAXIMA = (torch.maximum, torch.fmax, "maximum", "fmax")
ZEROS = ("zeros_like", "new_zeros", "zeros")
CASTS = ("float", "double", "to", "type", "type_as")


def write_rectifiers(graph: fx.GraphModule) -> None:
    """Write as `torch.relu` what keeps a value where it is above 0 and puts 0 elsewhere.

    >>> class Spelled(torch.nn.Module):
    ...     def forward(self, x):
    ...         return torch.where(x > 0, x, 0)
    >>> net = fx.symbolic_trace(Spelled())
    >>> write_rectifiers(net)
    >>> [node.name for node in net.graph.nodes if node.target is torch.relu]
    ['where']
    """
    for node in list(graph.graph.nodes):
        value = _rectified(node, graph)
        if value is None:
            continue
        others = node.all_input_nodes
        node.op, node.target, node.args, node.kwargs = "call_function", torch.relu, (value,), {}
        while others := [other for other in others if other is not value and not other.users]:
            read = [source for other in others for source in other.all_input_nodes]
            for other in others:
                graph.graph.erase_node(other)
            others = list(dict.fromkeys(source for source in read if source.op != "placeholder"))


def _rectified(node: fx.Node, graph: fx.GraphModule) -> fx.Node | None:
    """The value that a node rectifies."""
    if node.op not in ("call_function", "call_method"):
        return None
    if (parts := cases(node)) is not None:
        condition, kept, rest = parts
        if _is_zero(rest, graph) and _above(condition, kept, graph):
            return kept if isinstance(kept, fx.Node) else None
        if _is_zero(kept, graph) and _above(condition, rest, graph, signs=BELOW):
            return rest if isinstance(rest, fx.Node) else None
    if node.kwargs:
        return None
    if node.target in MAXIMA and len(node.args) == 2:
        return _other_than_zero(node.args[0], node.args[1], graph)
    if node.target in PRODUCTS and len(node.args) == 2:
        first, second = node.args
        for value, condition in ((first, second), (second, first)):
            if isinstance(value, fx.Node) and _above(condition, value, graph):
                return value
    return None


def cases(node: fx.Node) -> tuple[Any, Any, Any] | None:
    """Condition, value where it holds, value elsewhere; of a function that chooses by position."""
    if node.target is torch.where:
        given = dict(zip(("condition", "input", "other"), node.args, strict=False)) | node.kwargs
        return (given["condition"], given["input"], given["other"]) if len(given) == 3 else None
    if node.target == "where" and len(node.args) == 3:
        return node.args[1], node.args[0], node.args[2]
    if node.target in ("masked_fill", torch.masked_fill) and len(node.args) == 3:
        return node.args[1], node.args[2], node.args[0]
    return None


def _above(condition: Any, value: Any, graph: fx.GraphModule, signs: Any = ABOVE) -> bool:
    """Say whether a condition asks whether `value` lies above (or below) 0."""
    if not isinstance(condition, fx.Node) or not isinstance(value, fx.Node):
        return False
    while condition.op == "call_method" and condition.target in CASTS:
        condition = condition.all_input_nodes[0]
    return (
        condition.op in ("call_function", "call_method")
        and condition.target in signs
        and condition.args[0] is value
        and _is_zero(condition.args[1], graph)
    )


def _other_than_zero(first: Any, second: Any, graph: fx.GraphModule) -> fx.Node | None:
    for value, zero in ((first, second), (second, first)):
        if isinstance(value, fx.Node) and _is_zero(zero, graph):
            return value
    return None


def _is_zero(value: Any, graph: fx.GraphModule) -> bool:
    if not isinstance(value, fx.Node):
        return isinstance(value, int | float) and value == 0
    if value.op == "get_attr":
        found: Any = graph
        for name in str(value.target).split("."):
            found = getattr(found, name)
        trained = isinstance(found, torch.nn.Parameter)
        return isinstance(found, Tensor) and not trained and not bool(found.any())
    if value.op not in ("call_function", "call_method"):
        return False
    if value.target is torch.tensor:
        return isinstance(value.args[0], int | float) and value.args[0] == 0
    return name_of(value) in ZEROS
