"""Activations that let negative values pass: two neurons, one for each sign.

    y = min(relu(x), top) - slope * min(relu(-x), bottom)

holds exactly for all of them, so the ANN's function stays what it is, and a graph has nothing but
rectifiers and linear operations.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from ftbc_lightning.ann.activations import CLAMPS, clamp_ends

MODULES = (nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.Hardtanh)
LEAKY: Collection[Any] = {F.leaky_relu}
TRAINED: Collection[Any] = {F.prelu, torch.prelu, "prelu"}
RANDOM: Collection[Any] = {F.rrelu, torch.rrelu}
ABSOLUTE: Collection[Any] = {torch.abs, torch.absolute, "abs", "absolute"}
WRITTEN = "ftbc_written"
"""Key in the `meta` of the node that gives an activation's value: its path and type in the ANN."""

FUNCTIONS = {*LEAKY, *TRAINED, *RANDOM, *ABSOLUTE, *CLAMPS}


@dataclass(frozen=True)
class Sides:
    """What an activation makes of values above 0 and of those below.

    Attributes:
        slope: The factor below 0, or what gives one for each channel: a node, or the path of a
            tensor.
        top: The largest value above 0, or None if there is none.
        bottom: How far below 0 values pass, or None.
    """

    slope: float | fx.Node | str
    top: float | None = None
    bottom: float | None = None


def sides(node: fx.Node, graph: fx.GraphModule) -> Sides | None:
    """How an activation treats either sign; None for every other node.

    >>> graph = fx.symbolic_trace(nn.Sequential(nn.LeakyReLU(0.2), nn.Hardtanh(-1, 2)))
    >>> [sides(node, graph) for node in graph.graph.nodes][1:3]
    [Sides(slope=0.2, top=None, bottom=None), Sides(slope=1.0, top=2.0, bottom=1.0)]
    """
    if node.op == "call_module":
        return _of_module(str(node.target), graph.get_submodule(str(node.target)))
    if node.op not in ("call_function", "call_method"):
        return None
    if node.target in ABSOLUTE:
        return Sides(-1.0)
    if node.target in CLAMPS:
        return _between(*clamp_ends(node))
    if node.target in LEAKY:
        slope = _given(node, "negative_slope").get("negative_slope", 0.01)
        return Sides(float(slope)) if isinstance(slope, int | float) else None
    if node.target in TRAINED:
        weight = _given(node, "weight")["weight"]
        return Sides(weight) if isinstance(weight, fx.Node) else None
    if node.target in RANDOM:
        given = _given(node, "lower", "upper", "training")
        drawn = given.get("training", False)
        return None if drawn else _mean_slope(given.get("lower", 1 / 8), given.get("upper", 1 / 3))
    return None


def never_falls(node: fx.Node, graph: fx.GraphModule) -> bool:
    """Say whether a two-sided activation never falls, whatever the trained values are."""
    found = sides(node, graph)
    return found is not None and isinstance(found.slope, float) and found.slope >= 0


def write_two_sided(
    graph: fx.GraphModule,
    nodes: Mapping[fx.Node, tuple[str, str]],
    *,
    own: Collection[fx.Node] = (),
) -> None:
    """Write two-sided activations as rectifiers of the value and of its negative.

        leaky(x) = relu(x) - slope * relu(-x),   |x| = relu(x) + relu(-x)
        clamp(x, low, high) = clamp(x, 0, high) - clamp(-x, 0, -low),   low < 0 < high

    Args:
        graph: A traced network; changed in place.
        nodes: Those that are to be written so, with path and type in the ANN; others than
            two-sided activations are left alone.
        own: The nodes whose values are the network's own, so that they can be slopes.

    >>> net = fx.symbolic_trace(nn.Sequential(nn.LeakyReLU()))
    >>> write_two_sided(net, {node: ("0", "LeakyReLU") for node in net.graph.nodes})
    >>> [node.name for node in net.graph.nodes if node.target is torch.relu]
    ['_0_positive', '_0_negative']
    """
    written = False
    for node, name in nodes.items():
        found = sides(node, graph)
        if found is not None and (not isinstance(found.slope, fx.Node) or found.slope in own):
            _write(node, found, graph.graph)
            node.meta[WRITTEN] = name
            written = True
    if written:
        graph.delete_all_unused_submodules()
        graph.recompile()


def scale_channels(values: Tensor, scale: Tensor) -> Tensor:
    """Multiply each channel by a factor of its own.

    Args:
        values: `[B, C, ...]`.
        scale: `[C]`, or `[1]` for all channels.

    >>> scale_channels(torch.ones(1, 2, 2), torch.tensor([1.0, 3.0])).tolist()
    [[[1.0, 1.0], [3.0, 3.0]]]
    """
    return values * scale.view(-1, *(1,) * (values.ndim - 2))


def _of_module(path: str, module: nn.Module) -> Sides | None:
    if isinstance(module, nn.LeakyReLU):
        return Sides(float(module.negative_slope))
    if isinstance(module, nn.PReLU):
        return Sides(f"{path}.weight")
    if isinstance(module, nn.RReLU):
        return _mean_slope(module.lower, module.upper)
    if isinstance(module, nn.Hardtanh):
        return _between(module.min_val, module.max_val)
    return None


def _given(node: fx.Node, *names: str) -> dict[str, Any]:
    """The arguments of a call by name, without the first."""
    return dict(zip(names, node.args[1:], strict=False)) | node.kwargs


def _mean_slope(lower: float, upper: float) -> Sides:
    """What a slope that is drawn in training is in evaluation."""
    return Sides((lower + upper) / 2)


def _between(low: Any, high: Any) -> Sides | None:
    """A clamp that lets values on either side of 0 pass; a missing end is None."""
    if not all(end is None or isinstance(end, int | float) for end in (low, high)):
        return None
    if low == 0 or (low is None and high is None):
        return None
    if (low is not None and low > 0) or (high is not None and high < 0):
        return None
    top = None if high is None else float(high)
    return Sides(1.0, top, None if low is None else -float(low))


def _write(node: fx.Node, found: Sides, graph: fx.Graph) -> None:
    value, name = node.args[0] if node.args else node.kwargs["input"], node.name

    def made(what: Any, args: tuple[Any, ...], as_what: str) -> fx.Node:
        return graph.create_node("call_function", what, args, name=f"{name}_{as_what}")

    def rectified(source: Any, limit: float | None, as_what: str) -> fx.Node:
        if limit is None:
            return made(torch.relu, (source,), as_what)
        return made(torch.clamp, (source, 0, limit), as_what)

    if found.slope == 0:
        node.op, node.target, node.args, node.kwargs = "call_function", torch.relu, (value,), {}
        return
    with graph.inserting_before(node):
        above = None if found.top == 0 else rectified(value, found.top, "positive")
        below = rectified(made(torch.neg, (value,), "minus"), found.bottom, "negative")
        slope = graph.get_attr(found.slope) if isinstance(found.slope, str) else found.slope
        if isinstance(slope, fx.Node):
            below = made(scale_channels, (below, slope), "scaled")
        elif abs(slope) != 1:
            below = made(torch.mul, (below, abs(slope)), "scaled")
    node.op, node.target, node.args, node.kwargs = "call_function", torch.sub, (above, below), {}
    if above is None:
        node.target, node.args = torch.neg, (below,)
    elif isinstance(slope, float) and slope < 0:
        node.target = torch.add
