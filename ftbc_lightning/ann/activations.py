"""Activations that an integrate-and-fire neuron can stand for, with a trained threshold."""

from collections.abc import Collection
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from ftbc_lightning.errors import UserError

ActivationName = Literal["relu", "clipped_relu", "qcfs"]


RECTIFIERS: Collection[Any] = {F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_"}
CLAMPS: Collection[Any] = {
    *(torch.clamp, torch.clip, torch.clamp_min, torch.clamp_max, F.hardtanh),
    *("clamp", "clip", "clamp_", "clip_", "clamp_min", "clamp_min_", "clamp_max", "clamp_max_"),
}
"""Functions and tensor methods that cut off at given values."""

UPPER: Collection[Any] = {torch.clamp_max, "clamp_max", "clamp_max_"}
"""Those that are given the upper end alone."""


def is_activation(node: fx.Node, graph: fx.GraphModule) -> bool:
    """Say whether a node of a graph is one of the activations that become neurons."""
    if node.op == "call_module":
        module = graph.get_submodule(str(node.target))
        return isinstance(module, ClippedReLU | QCFS) or _module_bounds(module) is not None
    return bounds(node, graph) is not None


def bounds(node: fx.Node, graph: fx.GraphModule) -> tuple[float, float | None] | None:
    """The values between which an activation lets pass, (0, ceiling or None); None if it is none.

    ReLU, ReLU6, clipped ReLU, QCFS, and hardtanh or clamp whose lower end is 0 and whose upper
    end, if there is one, is a number above 0.

    >>> graph = fx.symbolic_trace(nn.Sequential(nn.Hardtanh(0, 2), nn.Hardtanh()))
    >>> [bounds(node, graph) for node in graph.graph.nodes]
    [None, (0.0, 2.0), None, None]
    """
    if node.op == "call_module":
        module = graph.get_submodule(str(node.target))
        if isinstance(module, ClippedReLU | QCFS):
            return 0.0, float(module.threshold.detach())
        return _module_bounds(module)
    if node.op not in ("call_function", "call_method"):
        return None
    if node.target in RECTIFIERS:
        return 0.0, None
    if node.target is F.relu6:
        return 0.0, 6.0
    if node.target in CLAMPS:
        return _between(*clamp_ends(node))
    if node.target in (F.threshold, torch.threshold):
        given = [*node.args[1:], *node.kwargs.values()]
        return (0.0, None) if given[:2] == [0, 0] else None
    return None


def _module_bounds(module: nn.Module) -> tuple[float, float | None] | None:
    if isinstance(module, nn.Hardtanh):  # nn.ReLU6 is one
        return _between(module.min_val, module.max_val)
    if isinstance(module, nn.Threshold):
        return (0.0, None) if module.threshold == 0 and module.value == 0 else None
    return (0.0, None) if isinstance(module, nn.ReLU) else None


def clamp_ends(node: fx.Node) -> tuple[Any, Any]:
    """Lower and upper end of a node in `CLAMPS`; None for an end that is not given.

    >>> class Cut(nn.Module):
    ...     def forward(self, x):
    ...         return x.clamp_max(2)
    >>> [clamp_ends(n) for n in fx.symbolic_trace(Cut()).graph.nodes if n.target in CLAMPS]
    [(None, 2)]
    """
    if node.target is F.hardtanh:
        names, ends = ("min_val", "max_val"), {"min_val": -1.0, "max_val": 1.0}
    else:
        names, ends = ("min", "max"), {}
    places = ("max",) if node.target in UPPER else names
    given = ends | dict(zip(places, node.args[1:], strict=False)) | node.kwargs
    return given.get(names[0]), given.get(names[1])


def _between(low: Any, high: Any) -> tuple[float, float | None] | None:
    if not isinstance(low, int | float) or low != 0:
        return None
    if high is None:
        return 0.0, None
    return (0.0, float(high)) if isinstance(high, int | float) and high > 0 else None


class _Floor(torch.autograd.Function):
    """floor(x) forward, identity backward (straight-through)."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, values: Tensor) -> Tensor:
        return values.floor()

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> Tensor:
        return gradients[0]


def _trained_threshold(value: float) -> nn.Parameter:
    if not value > 0:
        raise UserError(f"The threshold of an activation is {value}; it must be above 0.")
    return nn.Parameter(torch.tensor(float(value)))


class ClippedReLU(nn.Module):
    """A ReLU that saturates at a trained threshold.

        a = clip(z, 0, theta)

    Args:
        threshold: theta at the start of training, above 0.

    Raises:
        UserError: The threshold is not above 0.

    >>> ClippedReLU(threshold=2.0)(torch.tensor([-1.0, 1.0, 3.0])).tolist()
    [0.0, 1.0, 2.0]
    """

    def __init__(self, *, threshold: float = 4.0) -> None:
        super().__init__()
        self.threshold = _trained_threshold(threshold)

    def forward(self, z: Tensor) -> Tensor:
        """Clip `z`, of any shape; the gradient reaches theta where z lies above it."""
        return self.threshold - F.relu(self.threshold - F.relu(z))


class QCFS(nn.Module):
    """Quantization clip floor shift activation (Bu et al., ICLR 2022).

        a = lambda * clip(floor(z * L / lambda + 1/2) / L, 0, 1)

    with a straight-through floor: the gradient in z is 1 between 0 and lambda, else 0. It is
    what an integrate-and-fire neuron with threshold lambda and v0 = lambda/2 emits in L steps on
    average when its current is constant.

    Args:
        levels: L, at least 1.
        threshold: lambda at the start of training, above 0.

    Raises:
        UserError: A value is out of range.

    >>> QCFS(levels=2, threshold=1.0)(torch.tensor([-1.0, 0.3, 0.6, 3.0])).tolist()
    [0.0, 0.5, 0.5, 1.0]
    """

    def __init__(self, *, levels: int = 8, threshold: float = 4.0) -> None:
        super().__init__()
        if levels < 1:
            raise UserError(f"QCFS needs at least 1 level, not {levels}.")
        self.levels = levels
        self.threshold = _trained_threshold(threshold)

    def forward(self, z: Tensor) -> Tensor:
        """Quantise `z`, of any shape."""
        clipped = (z / self.threshold).clamp(0, 1)
        steps: Tensor = _Floor.apply(clipped * self.levels + 0.5)
        return self.threshold * steps / self.levels

    def extra_repr(self) -> str:
        """L, for `print(network)`."""
        return f"levels={self.levels}"


def make_activation(name: ActivationName, *, levels: int = 8) -> nn.Module:
    """Build one activation; every call site of a network needs one of its own.

    Raises:
        UserError: The name is unknown.
    """
    if name == "relu":
        return nn.ReLU()
    if name == "clipped_relu":
        return ClippedReLU()
    if name == "qcfs":
        return QCFS(levels=levels)
    known = ", ".join(get_args(ActivationName))
    raise UserError(f"Activation {name!r} is unknown; choose one of {known}.")
