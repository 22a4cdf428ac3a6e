"""einops: what it rearranges and repeats is linear, and so is what it sums or averages.

It is not imported here: a network that uses it has done so.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import fx, nn

FUNCTIONS = ("rearrange", "reduce", "repeat", "einsum")
REDUCTIONS = ("sum", "mean")


def is_einops(called: Any) -> bool:
    """Say whether a function or a class is einops's."""
    return str(getattr(called, "__module__", "")).partition(".")[0] == "einops"


def is_linear_layer(layer: nn.Module) -> bool:
    """Say whether a layer of einops is linear."""
    return getattr(layer, "reduction", "sum") in REDUCTIONS


def is_linear_call(node: fx.Node) -> bool:
    """Say whether a function of einops is linear in its first argument."""
    if getattr(node.target, "__name__", "") != "reduce":
        return True
    given = dict(zip(("tensor", "pattern", "reduction"), node.args, strict=False)) | node.kwargs
    return given.get("reduction") in REDUCTIONS


def is_product(node: fx.Node) -> bool:
    """Say whether a node is einops's `einsum`."""
    return is_einops(node.target) and getattr(node.target, "__name__", "") == "einsum"


@contextmanager
def einops_open(
    root: nn.Module, written: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> Iterator[None]:
    """Let calls of einops be written down whole, from whatever module they are made.

    Args:
        root: The network.
        written: Makes of a function one that is written down where a value stands for another.
    """
    einops = sys.modules.get("einops")
    replaced: list[tuple[dict[str, Any], str, Any]] = []
    if einops is not None:
        functions = {id(getattr(einops, name, None)) for name in FUNCTIONS}
        own = [getattr(type(m).forward, "__globals__", {}) for m in root.modules()]
        every = [getattr(module, "__dict__", {}) for module in list(sys.modules.values())]
        for scope in {id(each): each for each in [*own, *every]}.values():
            found = [(name, value) for name, value in scope.items() if id(value) in functions]
            replaced += [(scope, name, value) for name, value in found]
        for scope, name, value in replaced:
            scope[name] = written(value)
    try:
        yield
    finally:
        for scope, name, value in replaced:
            scope[name] = value
