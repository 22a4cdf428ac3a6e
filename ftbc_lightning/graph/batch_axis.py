"""Samples of one batch must stay apart: steps and samples share an axis in a spiking network."""

from torch import Tensor, fx

from ftbc_lightning.errors import UserError
from ftbc_lightning.graph import operators
from ftbc_lightning.graph.shapes import Shapes, is_number, name_of

ALONG = ("softmax", "logsoftmax", "softmin", "normalize", "cumsum", "cumprod", "logsumexp", "sort")
"""Functions that keep the shape, and mix what lies along the axis that they are given."""

COUNTING = ("arange", "linspace", "eye")
"""What gives another number to each place."""

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
    if mixing := mixing_nodes(graph, example_input):
        listed = ", ".join(operators.describe(node, graph) for node in mixing)
        raise UserError(f"{listed} {MIXES}. {WAY_OUT}.")


def mixing_nodes(graph: fx.GraphModule, example_input: Tensor) -> list[fx.Node]:
    """The operations that mix the samples of a batch; see `check_batch_axis`."""
    shapes, roles = Shapes(graph, example_input), operators.roles(graph)
    constants = operators.constants_of(graph)
    mixing = []
    for node, role in roles.items():
        if role in ("input", "output") or node in constants:
            continue
        axes = shapes.batch_axes(node)
        if is_number(node):
            if name_of(node) in COUNTING and axes and any(axes):
                mixing.append(node)
            continue
        lost = axes is not None and not all(axes)
        moved = role == "neuron" and axes is not None and axes != [[0]]
        if lost or moved or (role == "neuron" and not shapes.keeps_samples(node)):
            return [*mixing, node]  # what follows has no batch axis either
        if role in ("front", "tail") and _runs_over_batch(node, graph, shapes):
            mixing.append(node)
    return mixing


def _runs_over_batch(node: fx.Node, graph: fx.GraphModule, shapes: Shapes) -> bool:
    """Say whether a function runs along the axis of the samples."""
    kind = operators.path_and_kind(node, graph)[1].lower().replace("_", "")
    if kind not in ALONG or not node.all_input_nodes:
        return False
    given = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    if node.op == "call_module":
        given = getattr(graph.get_submodule(str(node.target)), "dim", None)
    before = shapes.of(node.all_input_nodes[0])[0]
    if not isinstance(given, int) or not isinstance(before, Tensor):
        return False
    return [given % before.ndim] in (shapes.batch_axes(node.all_input_nodes[0]) or [])
