"""What a node of a graph was called with, and the shapes that flow through it."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from ftbc_lightning.graph.methods import call_method
from ftbc_lightning.graph.operators import NEURONS, constants_of
from ftbc_lightning.graph.shapes import is_number

AVG_POOL = (
    *("input", "kernel_size", "stride", "padding", "ceil_mode"),
    *("count_include_pad", "divisor_override"),
)
MAX_POOL = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode")
"""The arguments of torch's pooling functions, in order."""

ALIASES = {"axis": "dim", "other": "second"}
"""Names of arguments that torch has, and what methods here call them."""

BATCH = 2
"""Samples that shapes are found with: with one, an axis of size 1 could be mistaken for it."""


class Refused(Exception):
    """Why a node is none of the operations."""


@dataclass(frozen=True)
class ShapeOf:
    """Stands for a tensor of which only the shape, batch axis included, is kept."""

    shape: tuple[int, ...]


class _Shapes(fx.Interpreter):
    """Runs a graph and keeps the shape of every tensor and the value of every number.

    Of what no sample reaches the tensor itself is kept.
    """

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.seen: dict[fx.Node, Any] = {}
        self.own = constants_of(graph)
        self.constants: dict[fx.Node, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        self.seen[n] = _shaped(value)
        if isinstance(value, Tensor) and (n in self.own or is_number(n)):
            self.constants[n] = value
        return value

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        if str(target).startswith(f"{NEURONS}."):
            return args[0]
        return super().call_module(target, args, kwargs)

    def call_method(self, target: Any, args: Any, kwargs: Any) -> Any:
        return call_method(str(target), args, kwargs)


def _shaped(value: Any) -> Any:
    if isinstance(value, Tensor):
        return ShapeOf(tuple(value.shape))
    if isinstance(value, tuple | list) and any(isinstance(part, Tensor) for part in value):
        return tuple(_shaped(part) for part in value)
    return value


@torch.no_grad()
def shapes(
    graph: fx.GraphModule, input_shape: Sequence[int], input_dtype: torch.dtype
) -> tuple[dict[fx.Node, Any], dict[fx.Node, Tensor]]:
    """For each node a `ShapeOf`, a tuple of them, or the number that it is.

    Beside them the network's own tensors, and what is computed from such alone.
    """
    like = next(graph.parameters())
    interpreter = _Shapes(graph)
    dtype = like.dtype if input_dtype.is_floating_point else input_dtype
    interpreter.run(torch.zeros(BATCH, *input_shape, device=like.device, dtype=dtype))
    return interpreter.seen, interpreter.constants


def function_name(node: fx.Node) -> str:
    """The name of the function or method that a node calls."""
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "?")


def named(
    names: Sequence[str], arguments: Sequence[Any], keywords: Mapping[str, Any]
) -> dict[str, Any]:
    """The arguments of a call by name.

    >>> named(("input", "kernel_size", "stride"), ("x", 2), {"stride": 1})
    {'input': 'x', 'kernel_size': 2, 'stride': 1}
    """
    return {**dict(zip(names, arguments, strict=False)), **keywords}


def known(method: Callable[..., Any], keywords: dict[str, Any], *values: Any) -> dict[str, Any]:
    """The keywords of a call, if the method that writes it down takes them.

    Raises:
        Refused: It is called with something that is not known here.
    """
    keywords = {ALIASES.get(key, key): value for key, value in keywords.items()}
    try:
        inspect.signature(method).bind(None, *values, **keywords)
    except TypeError as error:
        raise Refused(f"it is called with what a file has no place for ({error})") from error
    return keywords


def spread(value: Any, axes: int) -> list[int]:
    """A setting for each axis, where one number stands for all.

    >>> spread(3, 2), spread((1, 2), 2)
    ([3, 3], [1, 2])
    """
    values = list(value) if isinstance(value, list | tuple) else [value]
    return [int(size) for size in (values * axes if len(values) == 1 else values)]


def axis_of(axis: int, count: int) -> int:
    """An axis counted from the front, which is not the batch axis.

    >>> axis_of(-1, 4)
    3
    """
    found = axis % count
    if found == 0:
        raise Refused("it works along the batch axis")
    return found
