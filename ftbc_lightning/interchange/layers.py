"""Convolutions, pooling, factors for channels, and what moves values: how each is written down."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _NormBase

from ftbc_lightning.graph.max_pooling import pooled_axes
from ftbc_lightning.interchange.arguments import Refused, spread
from ftbc_lightning.interchange.moves import MoveWriter

ADAPTIVE: tuple[Any, ...] = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)


class LayerWriter(MoveWriter):
    """Writes the operation, or the few, of one layer; each method returns the last one's name."""

    def _convolution(
        self, node: fx.Node, source: str, module: nn.Conv1d | nn.Conv2d | nn.Conv3d
    ) -> str:
        if module.padding_mode != "zeros":
            raise Refused(f"its padding is {module.padding_mode!r}; only zeros are known")
        padding: list[int] = [0] * len(module.kernel_size)
        if module.padding == "same":
            pairs = zip(module.kernel_size, module.dilation, strict=True)
            total = [dilation * (size - 1) for size, dilation in pairs]
            if any(size % 2 for size in total):
                sides = [[0, 0], *([size // 2, size - size // 2] for size in total)]
                source = self._padded(f"{node.name}_pad", source, sides)
            else:
                padding = [size // 2 for size in total]
        elif module.padding != "valid":
            padding = [int(size) for size in module.padding]
        attributes = {
            "stride": list(module.stride),
            "padding": padding,
            "dilation": list(module.dilation),
            "groups": module.groups,
        }
        weights = {"weight": module.weight, "bias": bias_of(module, module.weight)}
        return self._emit(node.name, "conv", (source,), self._shape(node), attributes, weights)

    def _linear(self, node: fx.Node, tensor: Any, weight: Any, bias: Any = None) -> str:
        own = self._own_tensor(weight)
        if own is None:
            raise Refused("its weights change in time")
        shift = self._own_tensor(bias)
        weights = {"weight": own, "bias": own.new_zeros(len(own)) if shift is None else shift}
        return self._emit(
            node.name, "linear", (self._tensor(tensor),), self._shape(node), {}, weights
        )

    def _batch_norm(
        self,
        node: fx.Node,
        tensor: Any,
        running_mean: Any,
        running_var: Any,
        weight: Any = None,
        bias: Any = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> str:
        mean, variance, weight, bias = map(
            self._own_tensor, (running_mean, running_var, weight, bias)
        )
        if mean is None or variance is None:
            raise Refused("it has no running statistics")
        return self._affine(
            node, self._tensor(tensor), *normalizing(mean, variance, weight, bias, eps)
        )

    def _affine(self, node: fx.Node, source: str, scale: Tensor, shift: Tensor) -> str:
        before = self.operations[source]
        spread_out = before.shape != self._shape(node)
        if bool((scale == 1).all()) and not bool(shift.any()) and not spread_out:
            return source
        inputs = [n for n in node.all_input_nodes if n.name == source and len(n.users) == 1]
        if before.kind == "affine" and inputs:
            shift = before.tensors["shift"] * scale + shift
            scale = before.tensors["scale"] * scale
            source = before.inputs[0]
            del self.operations[before.name]
        tensors = {"scale": scale, "shift": shift}
        return self._emit(node.name, "affine", (source,), self._shape(node), {}, tensors)

    def _avg_pool(self, node: fx.Node, source: str, settings: Mapping[str, Any]) -> str:
        self._check_pooling(node, source)
        before = self.operations[source].shape[1:]
        kernel = spread(settings["kernel_size"], len(before))
        stride = spread(settings.get("stride") or kernel, len(before))
        padding = spread(settings.get("padding") or 0, len(before))
        if settings.get("divisor_override") is not None:
            raise Refused("divisor_override is set")
        if any(padding) and settings.get("count_include_pad") is False:
            raise Refused("count_include_pad is false")
        after = self._shape(node)[1:]
        if any(
            (out - 1) * s + k > size + 2 * p
            for out, s, k, size, p in zip(after, stride, kernel, before, padding, strict=True)
        ):
            raise Refused("ceil_mode leaves a window partly outside; choose a size that it divides")
        attributes = {"kernel": kernel, "stride": stride, "padding": padding}
        return self._emit(node.name, "avg_pool", (source,), self._shape(node), attributes)

    def _adaptive(self, node: fx.Node, source: str) -> str:
        self._check_pooling(node, source)
        before, after = self.operations[source].shape[1:], self._shape(node)[1:]
        if before == after:
            return source
        if any(size % out for size, out in zip(before, after, strict=True)):
            return self._uneven(node, source)
        kernel = [size // out for size, out in zip(before, after, strict=True)]
        attributes = {"kernel": kernel, "stride": kernel, "padding": [0] * len(kernel)}
        return self._emit(node.name, "avg_pool", (source,), self._shape(node), attributes)

    def _check_pooling(self, node: fx.Node, source: str) -> None:
        """Refuse a pooling that takes the channels for an axis of space: torch's unbatched form."""
        module = node.op == "call_module"
        pooled = pooled_axes(self.graph.get_submodule(str(node.target)) if module else node.target)
        if pooled not in (len(self.operations[source].shape) - 1, 0):
            raise Refused("it pools over the channels")

    def _uneven(self, node: fx.Node, source: str) -> str:
        """Windows of different sizes: a linear map of the positions, the same in each channel."""
        channels, *before = self.operations[source].shape
        after = self._shape(node)[1:]
        weight = window_weights(before, after).to(self._dtype())
        weights = {"weight": weight, "bias": weight.new_zeros(len(weight))}
        line = self._emit(f"{node.name}_line", "reshape", (source,), (channels, math.prod(before)))
        means = self._emit(
            f"{node.name}_means", "linear", (line,), (channels, math.prod(after)), {}, weights
        )
        return self._emit(node.name, "reshape", (means,), (channels, *after))

    def _max_pool(self, node: fx.Node, source: str, settings: Mapping[str, Any]) -> str:
        self._check_pooling(node, source)
        spatial = len(self.operations[source].shape) - 1
        kernel = spread(settings["kernel_size"], spatial)
        in_time = source in self.in_time
        attributes = {
            "kernel": kernel,
            "stride": spread(settings.get("stride") or kernel, spatial),
            "padding": spread(settings.get("padding") or 0, spatial),
            "dilation": spread(settings.get("dilation") or 1, spatial),
            "ceil_mode": bool(settings.get("ceil_mode")),
            "in_time": in_time,
            **(self._leak() if in_time else {}),
        }
        return self._emit(node.name, "max_pool", (source,), self._shape(node), attributes)


def window_weights(before: Sequence[int], after: Sequence[int]) -> Tensor:
    """Weights `[positions after, positions before]` of an adaptive average pooling, float64.

    >>> window_weights([3], [2]).tolist()
    [[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]]
    """
    positions = math.prod(before)
    samples = torch.eye(positions, dtype=torch.float64).view(positions, 1, *before)
    pooled: Tensor = ADAPTIVE[len(before) - 1](samples, tuple(after))
    return pooled.reshape(positions, -1).T.contiguous()


def bias_of(module: nn.Module, weight: Tensor) -> Tensor:
    """The bias of a layer, zeros where it has none."""
    bias = getattr(module, "bias", None)
    return bias if isinstance(bias, Tensor) else weight.new_zeros(weight.shape[0])


def running_affine(norm: _NormBase) -> tuple[Tensor, Tensor]:
    """Scale and shift of a norm with running statistics in evaluation mode."""
    if norm.running_mean is None or norm.running_var is None:
        raise Refused("it has no running statistics")
    return normalizing(norm.running_mean, norm.running_var, norm.weight, norm.bias, norm.eps)


def normalizing(
    mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor]:
    """Scale and shift that give what has this mean and variance those of a batch norm."""
    scale = (variance + eps).rsqrt()
    if weight is not None:
        scale = scale * weight
    shift = -mean * scale
    return scale, shift if bias is None else shift + bias
