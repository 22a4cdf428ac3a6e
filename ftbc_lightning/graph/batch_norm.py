"""Fold batch norm into the linear layer that feeds it."""

from contextlib import suppress
from typing import Any, cast

from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

FOLDED = "ftbc_folded"
"""Key in a graph module's `meta`: the type of each batch norm that was folded, by its path."""

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
Transposed = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d


def fold_batch_norm(graph: fx.GraphModule, example_input: Tensor | None = None) -> fx.GraphModule:
    """Fold every batch norm that follows a convolution or linear layer into its weights.

        W' = W * gamma / sqrt(var + eps),   b' = (b - mean) * gamma / sqrt(var + eps) + beta

    A batch norm whose input comes from elsewhere, or from a layer that something else reads or
    that is used twice, stays in the graph: in evaluation mode it is an affine map for each
    channel, which a spiking network carries as it is. So does one behind a linear layer that reads
    several vectors for each sample, whose channels it takes from another axis.

    Args:
        graph: A graph module in evaluation mode; changed in place and returned.
        example_input: `[B, ...]`; without it, linear layers are taken to read one vector.

    Returns:
        The same graph module.

    >>> import torch
    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).eval()
    >>> folded = fold_batch_norm(fx.symbolic_trace(net))
    >>> [type(module).__name__ for module in folded.children()]
    ['Conv2d']
    """
    modules = dict(graph.named_modules())
    axes = _Axes.of(graph, example_input)
    folded_norms = graph.meta.setdefault(FOLDED, {})
    uses: dict[str, int] = {}
    for node in graph.graph.nodes:
        if node.op == "call_module":
            uses[str(node.target)] = uses.get(str(node.target), 0) + 1
    for node in list(graph.graph.nodes):
        if node.op != "call_module" or not isinstance(modules[str(node.target)], _BatchNorm):
            continue
        norm = cast(_BatchNorm, modules[str(node.target)])
        source = node.args[0]
        if (
            not isinstance(source, fx.Node)
            or source.op != "call_module"
            or len(source.users) > 1
            or uses[str(source.target)] > 1
            or norm.running_mean is None
        ):
            continue
        linear = modules[str(source.target)]
        if isinstance(linear, Convolution):
            folded: nn.Module = fuse_conv_bn_eval(linear, norm)
        elif isinstance(linear, Transposed) and linear.groups == 1:
            folded = fuse_conv_bn_eval(linear, norm, transpose=True)
        elif isinstance(linear, nn.Linear) and isinstance(norm, nn.BatchNorm1d):
            if axes.get(source, 2) != 2:
                continue
            folded = fuse_linear_bn_eval(linear, norm)
        else:
            continue
        parent, _, name = str(source.target).rpartition(".")
        setattr(graph.get_submodule(parent), name, folded)
        modules[str(source.target)] = folded
        folded_norms[str(node.target)] = type(norm).__name__
        node.replace_all_uses_with(source)
        graph.graph.erase_node(node)
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph


class _Axes(fx.Interpreter):
    """Notes how many axes the outputs of linear layers have."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.found: dict[fx.Node, int] = {}

    @classmethod
    def of(cls, graph: fx.GraphModule, example_input: Tensor | None) -> dict[fx.Node, int]:
        """For each node, where a batch norm follows a linear layer; else nothing, and no pass."""
        modules = dict(graph.named_modules())
        calls = [n for n in graph.graph.nodes if n.op == "call_module" and n.all_input_nodes]
        pairs = [
            (modules[str(n.target)], modules.get(str(n.all_input_nodes[0].target))) for n in calls
        ]
        norms = any(isinstance(a, nn.BatchNorm1d) and isinstance(b, nn.Linear) for a, b in pairs)
        weight = next(graph.parameters(), None)
        if example_input is None or weight is None or not norms:
            return {}
        interpreter = cls(graph)
        floating = example_input.is_floating_point()
        example = example_input.to(weight.device, weight.dtype if floating else None)
        with suppress(RuntimeError, IndexError, ValueError):  # said when its shapes are found
            interpreter.run(example)
        return interpreter.found

    def run_node(self, n: fx.Node) -> Any:
        """Evaluate, and note."""
        value = super().run_node(n)
        if isinstance(value, Tensor):
            self.found[n] = value.ndim
        return value
