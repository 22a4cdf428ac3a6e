"""Samples of one batch must stay apart: steps and samples share an axis in a spiking network."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, fx

from ftbc_lightning.errors import UserError
from ftbc_lightning.graph import operators
from ftbc_lightning.graph.shapes import Shapes, is_number, name_of

ALONG: dict[str, tuple[int, Any]] = {
    **dict.fromkeys(("softmax", "logsoftmax", "softmin", "cumsum", "cumprod"), (1, ())),
    **dict.fromkeys(("cummax", "cummin", "logcumsumexp", "logsumexp", "flip"), (1, ())),
    **dict.fromkeys(("gather", "unfold", "select", "indexselect"), (1, ())),
    **dict.fromkeys(("tril", "triu"), (2, (-2, -1))),
    "takealongdim": (2, None),
    "fliplr": (1, 1),
    **dict.fromkeys(("sort", "argsort"), (1, -1)),
    **dict.fromkeys(("flipud", "msort"), (1, 0)),
    "normalize": (2, 1),
    "diff": (2, -1),
    "roll": (2, None),
    "rot90": (2, (0, 1)),
}
"""Functions that mix what lies along the axes that they are given, and may keep the shape: the
place of the axes among the arguments, and what they are without; None is all of them."""

COUNTING = ("arange", "linspace", "eye")
"""What gives another number to each place."""

STEPPED = ("neuron", "function", "tail")
"""Roles that take the steps apart, which lie before the samples."""

MIXES = (
    "mixes the samples of a batch, or moves their axis, or puts something else beside them there; "
    "every sample needs an answer of its own"
)
WAY_OUT = (
    "Name the axes of a sample, from 1 on, and leave axis 0 to the samples (nn.Linear takes axes "
    "between the first and the last)"
)


def check_batch_axis(graph: fx.GraphModule, example_input: Tensor) -> None:
    """Raise `UserError` naming every operation that mixes the samples of a batch.

    Args:
        graph: A traced network that an input passes.
        example_input: `[B, ...]`, of which the shape and type matter.
    """
    functions = any(map(operators.in_function, graph.graph.nodes))
    if mixing := mixing_nodes(graph, example_input, functions=functions):
        listed = ", ".join(operators.describe(node, graph) for node in mixing)
        raise UserError(f"{listed} {MIXES}. {WAY_OUT}.")


def mixing_nodes(
    graph: fx.GraphModule, example_input: Tensor, *, functions: bool = False
) -> list[fx.Node]:
    """The operations that mix the samples of a batch; see `check_batch_axis`.

    Args:
        graph: A traced network that an input passes.
        example_input: `[B, ...]`, of which the shape and type matter.
        functions: Whether functions that are not linear are taken over what has arrived so far.
    """
    shapes = Shapes(graph, example_input)
    roles = operators.roles(graph, functions=functions)
    constants = operators.constants_of(graph)
    mixing: list[fx.Node] = []
    for node, role in roles.items():
        if role == "output" and not mixing:
            ends = [source for source in node.all_input_nodes if not _leads(source, shapes)]
            return [_origin(source, shapes, constants) for source in ends]
        if role in ("input", "output") or node in constants:
            continue
        axes = shapes.batch_axes(node)
        if is_number(node):
            if axes and (_counts(node, axes) or any(len(found) > 1 for found in axes)):
                mixing.append(node)  # a number for each sample, or for each pair of them
            continue
        lost = axes is not None and not all(axes)
        if lost or (role in STEPPED and not _read_in_order(node, shapes, constants)):
            # what follows has no batch axis either
            return [*mixing, node if lost else _origin(node, shapes, constants)]
        if _runs_over_batch(node, graph, shapes):
            mixing.append(node)
    return mixing


def _counts(node: fx.Node, axes: list[list[int]]) -> bool:
    return name_of(node) in COUNTING and any(axes)


def _read_in_order(node: fx.Node, shapes: Shapes, constants: set[fx.Node]) -> bool:
    """Say whether the samples lead in all that a node reads."""
    own = (s for s in node.all_input_nodes if not (s in constants or is_number(s)))
    return all(_leads(source, shapes) for source in own)


def _leads(node: fx.Node, shapes: Shapes) -> bool:
    """Say whether the samples, all of them and nothing else, lie along the first axis."""
    axes = shapes.batch_axes(node)
    first = axes is None or (bool(axes) and all(found == [0] for found in axes))
    return first and shapes.keeps_samples(node)


def _origin(node: fx.Node, shapes: Shapes, constants: set[fx.Node]) -> fx.Node:
    """The first operation on the way to `node` behind which the samples no longer lead."""
    for source in node.all_input_nodes:
        if not (source in constants or is_number(source) or _leads(source, shapes)):
            return _origin(source, shapes, constants)
    return node


def _runs_over_batch(node: fx.Node, graph: fx.GraphModule, shapes: Shapes) -> bool:
    """Say whether a function runs along the axis of the samples."""
    kind = operators.path_and_kind(node, graph)[1].lower().replace("_", "")
    if kind not in ALONG or not node.all_input_nodes or node.target is F.unfold:
        return False
    source = node.all_input_nodes[0]
    before = shapes.of(source)[0]
    samples = {axis for found in shapes.batch_axes(source) or [] for axis in found}
    if not isinstance(before, Tensor) or not samples:
        return False
    given = _axes_given(node, graph, *ALONG[kind])
    axes = range(before.ndim) if given is None else given
    return any(isinstance(axis, int) and axis % before.ndim in samples for axis in axes)


def _axes_given(node: fx.Node, graph: fx.GraphModule, place: int, default: Any) -> Any:
    """The axes that a function or module is given, one by one; None for all of them."""
    if node.op == "call_module":
        given = getattr(graph.get_submodule(str(node.target)), "dim", default)
    elif len(node.args) > place:
        given = node.args[place]
        given = node.args[place:] if node.target == "flip" and isinstance(given, int) else given
    else:
        named = (node.kwargs[name] for name in ("dim", "dims", "axis") if name in node.kwargs)
        given = next(named, default)
    if isinstance(given, int):
        return (given,)
    return default if isinstance(given, list | tuple) and not given else given
