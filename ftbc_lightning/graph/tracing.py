"""Read an ANN as a graph: an untouched copy, batch norm folded, max pooling moved."""

import copy
import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from ftbc_lightning.ann.activations import QCFS, ClippedReLU
from ftbc_lightning.errors import UserError
from ftbc_lightning.graph.batch_norm import fold_batch_norm
from ftbc_lightning.graph.max_pooling import pool_before_activation

TRACED = "ftbc_traced"
"""Key in a graph module's `meta` that says it is a result of `trace`."""


class ActivationTracer(fx.Tracer):
    """A tracer that keeps this package's activations whole, as it does torch's own modules.

    So are subclasses of torch's modules that compute what those compute.
    """

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Say whether `m` is one node of the graph; torch calls this while it traces."""
        inherited = type(m).forward.__module__.startswith("torch.nn.")
        own = isinstance(m, ClippedReLU | QCFS) or (inherited and not isinstance(m, nn.Sequential))
        return own or super().is_leaf_module(m, module_qualified_name)


def trace(ann: nn.Module) -> fx.GraphModule:
    """Copy the ANN into a graph of single operations, batch norm folded, max pooling moved.

    The ANN itself stays as it is, training flags included. The names of the graph's nodes depend
    on the ANN's code alone, so two traces of one network can be walked side by side.

    Args:
        ann: Any `nn.Module` whose `forward` takes one tensor and whose path does not depend on
            the values in it.

    Returns:
        A graph module in evaluation mode that computes what `ann.eval()` computes; the same one
        if it has been traced already.

    Raises:
        UserError: The forward pass cannot be written down as a graph.

    >>> graph = trace(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.ReLU()))
    >>> [node.name for node in graph.graph.nodes]
    ['input_1', '_0', '_2', 'output']
    """
    if isinstance(ann, fx.GraphModule) and ann.meta.get(TRACED):
        return ann
    ann = copy.deepcopy(ann).eval()
    tracer = ActivationTracer()
    try:
        graph = tracer.trace(ann)
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"{type(ann).__name__} cannot be traced by torch.fx ({reason[0]}). Its forward must "
            "take one tensor and must not branch on the values in it; move such code out of "
            "the network."
        ) from error
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    required = [node for node in inputs if not node.args]
    if len(required) > 1:
        raise UserError(
            f"{type(ann).__name__}.forward takes {len(required)} inputs "
            f"({', '.join(node.name for node in required)}); a network with one input is needed."
        )
    module = fx.GraphModule(tracer.root, graph)
    _write_out_of_place(module)
    module.meta[TRACED] = True
    with torch.no_grad():
        fold_batch_norm(module)
    pool_before_activation(module)
    return module


OUT_OF_PLACE: dict[Any, Any] = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    torch.relu_: torch.relu,
    F.relu_: F.relu,
    **{f"{name}_": name for name in ("add", "sub", "mul", "div", "relu")},
    **{f"{name}_": name for name in ("clamp", "clip", "clamp_min")},
}
"""In-place operations and the ones that give the same value in a tensor of its own."""


def _write_out_of_place(module: fx.GraphModule) -> None:
    """Replace in-place operations: whoever read the changed tensor reads the result instead."""
    for node in module.graph.nodes:
        in_place = node.target in OUT_OF_PLACE or bool(node.kwargs.get("inplace"))
        if node.op == "call_module":
            called = module.get_submodule(node.target)
            in_place = bool(getattr(called, "inplace", False))
            if in_place:
                setattr(called, "inplace", False)  # noqa: B010 - unknown to the type checker
        elif in_place:
            node.target = OUT_OF_PLACE.get(node.target, node.target)
            node.kwargs = {key: value for key, value in node.kwargs.items() if key != "inplace"}
        if in_place:
            _read_result(node)


def _read_result(node: fx.Node) -> None:
    """Make every later reader of the tensor that `node` changed read `node` itself."""
    changed = node.all_input_nodes[0]
    for reader in list(changed.users):
        if reader is not node and node < reader:
            reader.replace_input_with(changed, node)
