"""Constants and functions of a file as nodes of a graph."""

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from ftbc_lightning.interchange.description import Operation
from ftbc_lightning.interchange.operation_set import FUNCTIONS

CALLS: dict[str, Any] = {
    "gelu": F.gelu,
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "mish": F.mish,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "elu": F.elu,
    "softplus": F.softplus,
    "softmax": torch.softmax,
    "log_softmax": torch.log_softmax,
    "layer_norm": F.layer_norm,
    "rms_norm": F.rms_norm,
    "group_norm": F.group_norm,
    "product": operator.mul,
    "quotient": operator.truediv,
    "matmul": torch.matmul,
    "einsum": torch.einsum,
}
"""What computes each function of the closed set."""


def constant(graph: fx.Graph, members: dict[str, Any], name: str, value: Tensor) -> fx.Node:
    """A tensor of the network."""
    target = f"own_tensors.{name}"  # no operation's name has a dot
    members[target] = value.clone()
    return graph.create_node("get_attr", target, name=name)


def expanded(graph: fx.Graph, values: list[fx.Node], axes: int) -> list[fx.Node]:
    """Tensors of the network among values, repeated for as many samples as the others have."""
    if all(value.op != "get_attr" for value in values):
        return values
    like = next(value for value in values if value.op != "get_attr")
    sizes: list[Any] = [graph.call_method("size", (like, 0)), *[-1] * axes]
    return [
        graph.call_method("expand", (value, *sizes)) if value.op == "get_attr" else value
        for value in values
    ]


def function_call(
    graph: fx.Graph, members: dict[str, Any], operation: Operation, inputs: list[fx.Node]
) -> fx.Node:
    """The node of a function that is not linear."""
    name, set_to = operation.name, operation.attributes
    own = {
        key: constant(graph, members, f"{name}_{key}", value)
        for key, value in operation.tensors.items()
    }
    arguments: tuple[Any, ...] = tuple(inputs)
    keywords: dict[str, Any] = {}
    if operation.kind in ("gelu", "elu"):
        keywords = {key: set_to[key] for key in FUNCTIONS[operation.kind]}
    elif operation.kind == "einsum":
        arguments = (set_to["equation"], *inputs)
    elif operation.kind in ("softmax", "log_softmax"):
        arguments = (*inputs, set_to["axis"])
    elif operation.kind in ("layer_norm", "rms_norm"):
        shape = operation.shape[-set_to["axes"] :]
        arguments = (*inputs, shape)
        keywords = {**own, "eps": set_to["eps"]}
    elif operation.kind == "group_norm":
        arguments = (*inputs, set_to["groups"])
        keywords = {**own, "eps": set_to["eps"]}
    return graph.create_node("call_function", CALLS[operation.kind], arguments, keywords, name)
