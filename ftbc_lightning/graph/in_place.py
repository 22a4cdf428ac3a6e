"""Operations that change their input in place, written as operations that make a value."""

import operator
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from ftbc_lightning.errors import UserError
from ftbc_lightning.graph import operators
from ftbc_lightning.graph.shapes import CREATING_LIKE, is_number, name_of

VIEWS = frozenset(
    (
        *("getitem", "narrow", "select", "chunk", "split", "unbind", "diagonal", "unfold"),
        *("view", "view_as", "reshape", "flatten", "unflatten", "ravel", "squeeze", "unsqueeze"),
        *("transpose", "swapaxes", "swapdims", "permute", "movedim", "moveaxis", "t"),
        *("expand", "expand_as", "detach", "contiguous"),
    )
)
"""What may give another name, or a part, of the memory of its input."""

OF_SHAPE = {"getattr", "size", "dim", "ndimension", "numel", "nelement", "stride", *CREATING_LIKE}
"""What reads no values."""

HARMLESS = ("requires_grad_", "share_memory_")
"""What ends in an underscore and leaves the values alone."""

OUT_OF_PLACE: dict[Any, Any] = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
    operator.imatmul: operator.matmul,
    operator.ipow: operator.pow,
}
"""Operators that change their first operand, and those that make a value of its own."""


def _out_of_place(node: fx.Node) -> Any:
    """What gives the same value as an in-place operation without changing its input, or None."""
    if node.target in OUT_OF_PLACE:
        return OUT_OF_PLACE[node.target]
    if node.op == "call_method":
        name = str(node.target)
        plain = name.removesuffix("_")
        return plain if name.endswith("_") and callable(getattr(Tensor, plain, None)) else None
    name = getattr(node.target, "__name__", "")
    if not name.endswith("_") or name.endswith("__"):
        return None
    found = [getattr(place, name[:-1], None) for place in (torch, F)]
    return next((function for function in found if callable(function)), None)


def write_out_of_place(module: fx.GraphModule, *, name: str) -> None:
    """Replace in-place operations: whoever read the changed tensor reads the result instead.

    Args:
        module: The graph, changed in place.
        name: Of the network, for messages.

    Raises:
        UserError: The change would be seen through another name, a view of the same memory, or
            there is no operation that makes the changed value.
    """
    for node in module.graph.nodes:
        if node.op == "call_module":
            called = module.get_submodule(node.target)
            if bool(getattr(called, "inplace", False)):
                setattr(called, "inplace", False)  # noqa: B010 - unknown to the type checker
                _read_result(node, module, name)
            continue
        if node.op not in ("call_function", "call_method") or not node.all_input_nodes:
            continue
        if is_number(node) and not _changes(node):  # `n += 1` makes another number
            continue
        plain = _out_of_place(node)
        if plain is not None:
            node.target = plain
        if plain is not None or node.kwargs.get("inplace"):
            node.kwargs = {key: value for key, value in node.kwargs.items() if key != "inplace"}
            _read_result(node, module, name)
        elif _changes(node):
            changed = node.all_input_nodes[0]
            names = changed, *_other_names(changed, node, module)
            if any(_read_later(value, node) for value in names):
                raise UserError(_refused(node, module, name))


def _changes(node: fx.Node) -> bool:
    """Say whether a method without a counterpart, such as `copy_`, changes its input."""
    method = str(node.target)
    ends = method.endswith("_") and not method.endswith("__")
    return node.op == "call_method" and ends and method not in HARMLESS


def _read_result(node: fx.Node, module: fx.GraphModule, name: str) -> None:
    """Make every later reader of the tensor that `node` changed read `node` itself."""
    changed = node.all_input_nodes[0]
    if any(_read_later(other, node) for other in _other_names(changed, node, module)):
        raise UserError(_refused(node, module, name))
    for reader in list(changed.users):
        if reader is not node and node < reader:
            reader.replace_input_with(changed, node)


def _read_later(value: fx.Node, node: fx.Node) -> bool:
    """Say whether something behind `node` reads the values of `value`, not its shape alone."""
    users = (user for user in value.users if user is not node and name_of(user) not in OF_SHAPE)
    return any(node < user for user in users)


def _other_names(changed: fx.Node, node: fx.Node, module: fx.GraphModule) -> Iterator[fx.Node]:
    """What shares the memory of `changed` and was made before `node`: its sources and its views."""
    source = changed
    while _is_view(source, module):
        source = source.all_input_nodes[0]
        yield source
    views = [user for user in changed.users if user < node and _is_view(user, module)]
    while views:
        view = views.pop()
        yield view
        views += [user for user in view.users if user < node and _is_view(user, module)]


def _is_view(node: fx.Node, module: fx.GraphModule) -> bool:
    if not node.all_input_nodes:
        return False
    if node.op == "call_module":
        kinds = nn.Flatten | nn.Unflatten | nn.Identity
        return isinstance(module.get_submodule(str(node.target)), kinds)
    return name_of(node) in VIEWS


def _refused(node: fx.Node, module: fx.GraphModule, name: str) -> str:
    return (
        f"{name} cannot be traced: {operators.describe(node, module)} changes in place what is "
        "read later, under another name or as a whole; write it as a new value."
    )
