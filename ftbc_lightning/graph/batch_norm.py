"""Fold batch norm into the linear layer that feeds it."""

from typing import cast

from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

FOLDED = "ftbc_folded"
"""Key in a graph module's `meta`: the type of each batch norm that was folded, by its path."""

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
Transposed = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d


def fold_batch_norm(graph: fx.GraphModule) -> fx.GraphModule:
    """Fold every batch norm that follows a convolution or linear layer into its weights.

        W' = W * gamma / sqrt(var + eps),   b' = (b - mean) * gamma / sqrt(var + eps) + beta

    A batch norm whose input comes from elsewhere, or from a layer that something else reads or
    that is used twice, stays in the graph: in evaluation mode it is an affine map for each
    channel, which a spiking network carries as it is.

    Args:
        graph: A graph module in evaluation mode; changed in place and returned.

    Returns:
        The same graph module.

    >>> import torch
    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).eval()
    >>> folded = fold_batch_norm(fx.symbolic_trace(net))
    >>> [type(module).__name__ for module in folded.children()]
    ['Conv2d']
    """
    modules = dict(graph.named_modules())
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
