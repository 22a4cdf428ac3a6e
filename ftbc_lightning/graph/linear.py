"""Which operations are linear in what changes in time, so that a mean over steps passes them."""

import inspect
import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from ftbc_lightning.graph.channels import first_channels, last_channels
from ftbc_lightning.graph.einops_calls import is_einops, is_linear_call, is_linear_layer
from ftbc_lightning.graph.max_pooling import keeps_batch
from ftbc_lightning.graph.rectifiers import cases
from ftbc_lightning.graph.shapes import drawn, is_number
from ftbc_lightning.graph.two_sided import scale_channels

LINEAR_MODULES: set[type[nn.Module]] = {
    *(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, _BatchNorm),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Fold, nn.Unfold),
    *(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d),
    *(nn.AlphaDropout, nn.FeatureAlphaDropout),
    *(nn.Identity, nn.Flatten, nn.Unflatten, nn.ChannelShuffle),
    *(nn.PixelShuffle, nn.PixelUnshuffle, nn.Upsample),
    *(nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d),
    *(nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d),
    *(nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReflectionPad3d),
    *(nn.ReplicationPad1d, nn.ReplicationPad2d, nn.ReplicationPad3d),
    *(nn.CircularPad1d, nn.CircularPad2d, nn.CircularPad3d),
}
"""One more operation is one line here or below; linear in the mean over the steps it must be."""

DROPOUTS = (torch.dropout, torch.feature_dropout, torch.alpha_dropout, torch.feature_alpha_dropout)
"""Those without a signature."""

LINEAR_FUNCTIONS: set[Callable[..., Any]] = {
    *(torch.flatten, torch.cat, torch.concat, torch.add, torch.sub, torch.subtract),
    *(torch.chunk, torch.split, torch.reshape, torch.permute, torch.transpose, torch.unflatten),
    *(torch.squeeze, torch.unsqueeze, torch.stack, torch.neg, torch.clone, torch.movedim),
    *(torch.swapaxes, torch.flip, torch.roll, torch.narrow, torch.unbind),
    *(operator.add, operator.sub, operator.neg, operator.pos, operator.getitem),
    *(F.avg_pool1d, F.avg_pool2d, F.avg_pool3d),
    *(F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d),
    *(F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout),
    *DROPOUTS,
    *(torch.negative, torch.rsub, torch.tile, torch.hstack, torch.index_select, torch.rot90),
    *(torch.repeat_interleave, torch.swapdims, torch.moveaxis, torch.tensor_split, torch.diff),
    *(F.pad, F.channel_shuffle, F.pixel_shuffle, F.pixel_unshuffle, F.interpolate),
    *(F.fold, F.unfold, torch.constant_pad_nd, torch.broadcast_to, torch.select, torch.fliplr),
    *(torch.concatenate, torch.column_stack, torch.dstack, torch.hsplit, torch.dsplit),
    *(torch.split_with_sizes, torch.unsafe_split, torch.unsafe_chunk, torch.positive),
    *(torch.detach, torch.adjoint, torch.tril, torch.triu, torch.cumsum),
    *(first_channels, last_channels),
}
LINEAR_METHODS = {
    *("view", "reshape", "flatten", "permute", "transpose", "contiguous", "add", "unflatten"),
    *("sub", "squeeze", "unsqueeze", "chunk", "split", "neg", "clone", "detach", "expand"),
    *("expand_as", "view_as", "reshape_as", "movedim", "swapaxes", "flip", "roll", "narrow"),
    *("unbind", "float", "double", "subtract", "negative", "repeat", "tile", "repeat_interleave"),
    *("index_select", "rot90", "swapdims", "moveaxis", "tensor_split", "diff"),
    *("unfold", "broadcast_to", "select", "fliplr", "hsplit", "dsplit", "split_with_sizes"),
    *("unsafe_split", "unsafe_chunk", "positive", "adjoint", "tril", "triu", "cumsum"),
}
CASTS = {"to", "type", "type_as"}
REDUCTIONS: set[Any] = {torch.sum, torch.mean, "sum", "mean"}
WEIGHTED_FUNCTIONS: set[Callable[..., Any]] = {
    *(F.conv1d, F.conv2d, F.conv3d, torch.conv1d, torch.conv2d, torch.conv3d),
    *(F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d, F.batch_norm),
}
"""Linear in the first argument while the others are the network's own tensors."""

READING: set[Any] = {
    *(torch.gather, torch.take_along_dim, F.grid_sample, "gather", "take_along_dim"),
}
"""Likewise: the places to read at are the network's own."""

INTERPOLATIONS: set[Any] = {torch.lerp, "lerp"}
"""Linear in the first two arguments while the third is the network's own."""

FACTORS: dict[Any, tuple[str, ...]] = {
    F.linear: ("input", "weight"),
    **dict.fromkeys((torch.addmm, "addmm"), ("input", "mat1", "mat2")),
    **dict.fromkeys((torch.baddbmm, "baddbmm"), ("input", "batch1", "batch2")),
    **dict.fromkeys((torch.addcmul, "addcmul"), ("input", "tensor1", "tensor2")),
}
"""A product, and what is added to it: the first arguments, of which the last two are the factors.
One factor alone may change in time."""

CHOICES: set[Any] = {torch.where, torch.masked_fill, "where", "masked_fill"}
"""Linear in the values while the condition is the network's own."""

SCALING: set[Any] = {
    *(operator.mul, operator.truediv, torch.mul, torch.div, torch.multiply, torch.divide),
    *(torch.true_divide, "mul", "div", "multiply", "divide", "true_divide"),
}
PRODUCTS: set[Any] = {
    *(operator.matmul, torch.matmul, torch.mm, torch.einsum, torch.tensordot, "matmul", "mm"),
    *(torch.bmm, torch.inner, torch.linalg.matmul, torch.linalg.vecdot, "bmm", "inner"),
}


def is_linear(node: fx.Node, graph: fx.GraphModule, constants: set[fx.Node]) -> bool:
    """Say whether a node is linear in what changes in time.

    Args:
        node: A node that the input reaches.
        graph: The graph it stands in.
        constants: The nodes that the input does not reach.
    """
    if never(node, graph) or node.kwargs.get("rounding_mode") is not None:
        return False
    if node.op == "call_module":
        module = graph.get_submodule(str(node.target))
        if is_einops(type(module)):
            return is_linear_layer(module)
        tracked = isinstance(module, _InstanceNorm) and module.running_mean is not None
        return tracked or isinstance(module, tuple(LINEAR_MODULES))
    if is_einops(node.target):
        return is_linear_call(node) and len(_changing(node, constants)) == 1
    if node.target in SCALING or node.target is scale_channels:
        changing = _changing(node, constants)
        return changing == [0] or (changing == [1] and "div" not in str(node.target))
    if node.target in PRODUCTS:
        return len(_changing(node, constants)) == 1
    if node.op in ("call_function", "call_method") and node.target in BY_PLACES:
        return _only_values_change(node, constants)
    if node.target in REDUCTIONS:
        return keeps_batch(node)
    if node.target is getattr:
        return node.args[1] in ("data", "T", "mT")
    if node.op == "call_method":
        return node.target in LINEAR_METHODS or (node.target in CASTS and not _rounds(node))
    return node.target in LINEAR_FUNCTIONS


BY_PLACES = {*WEIGHTED_FUNCTIONS, *READING, *INTERPOLATIONS, *FACTORS, *CHOICES}
"""Functions whose arguments may change in time in some places alone."""


def _only_values_change(node: fx.Node, constants: set[fx.Node]) -> bool:
    """Say whether what a function is given besides its values does not change in time."""

    def own(given: Any) -> bool:
        return not isinstance(given, fx.Node) or given in constants or is_number(given)

    if node.target in CHOICES:
        parts = cases(node)
        return parts is not None and own(parts[0])
    if node.target in FACTORS:
        names = FACTORS[node.target]
        given = dict(zip(names, node.args, strict=False)) | node.kwargs
        return any(own(given[factor]) for factor in names[-2:])
    if node.target in INTERPOLATIONS:
        given = dict(zip(("input", "end", "weight"), node.args, strict=False)) | node.kwargs
        return own(given["weight"])
    changing = [name for name, given in node.kwargs.items() if not own(given)]
    return all(map(own, node.args[1:])) and (not changing or changing == ["input"])


def _changing(node: fx.Node, constants: set[fx.Node]) -> list[int]:
    """The places of the factors that change in time."""
    named = [node.kwargs[name] for name in ("input", "other", "mat2") if name in node.kwargs]
    given = [part for part in (*node.args, *named) if not isinstance(part, str)]  # of einsum
    return [
        place
        for place, factor in enumerate(given)
        for source in (factor if isinstance(factor, list | tuple) else (factor,))
        if isinstance(source, fx.Node) and not is_number(source) and source not in constants
    ]


def _rounds(node: fx.Node) -> bool:
    """Say whether a cast goes to whole numbers or half precision."""
    given = [*node.args[1:], *node.kwargs.values()]
    kept = (torch.float32, torch.float64)
    return any(isinstance(part, torch.dtype | str) and not _keeps(part, kept) for part in given)


def _keeps(part: Any, kept: tuple[torch.dtype, ...]) -> bool:
    if isinstance(part, torch.dtype):
        return part in kept
    return not part.startswith("torch.") or part in ("torch.FloatTensor", "torch.DoubleTensor")


def never(node: fx.Node, graph: fx.GraphModule) -> str:
    """Why the value of a node depends on chance or on the other samples of a batch; or nothing."""
    if drawn(node):
        return "its values are drawn anew each time; leave it out in evaluation mode"
    if node.op == "call_module":
        module = graph.get_submodule(str(node.target))
        if isinstance(module, _BatchNorm) and module.running_mean is None:
            return "without running statistics it depends on the batch: track_running_stats=True"
        return ""
    if node.op != "call_function":
        return ""
    if node.target is F.scaled_dot_product_attention:
        drops = node.kwargs.get("dropout_p", node.args[4] if len(node.args) > 4 else 0)
        return "" if drops == 0 else "it draws in evaluation mode too: dropout_p=0 there"
    given = _bound(node)
    if given.get("training") is True and given.get("p", 1) != 0:
        if node.target is F.batch_norm:
            return "it reads the statistics of the batch: pass training=self.training"
        return "it draws in evaluation mode too: pass training=self.training"
    if node.target is F.batch_norm and given.get("running_mean") is None:
        return "without running statistics it depends on the batch: give running_mean"
    return ""


def _bound(node: fx.Node) -> dict[str, Any]:
    """The arguments of a function by name, defaults included, where its signature can be read."""
    if node.target in DROPOUTS:
        given = dict(zip(("input", "p", "train"), node.args, strict=False)) | node.kwargs
        return {"p": given["p"], "training": given["train"]}
    try:
        bound = inspect.signature(node.target).bind(*node.args, **node.kwargs)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return dict(node.kwargs)
    bound.apply_defaults()
    return bound.arguments
