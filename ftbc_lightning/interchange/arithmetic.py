"""Sums, means and factors, and functions of what has arrived so far: how each is written down."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, fx

from ftbc_lightning.interchange.arguments import Refused, axis_of
from ftbc_lightning.interchange.layers import LayerWriter
from ftbc_lightning.interchange.writer import Shape

MOST_POOLED = 3
"""Axes that one pooling runs over at most."""

BROADCAST = ("product", "quotient")
"""Functions of two values of which one may be the network's own."""


class ArithmeticWriter(LayerWriter):
    """Writes the operation, or the few, of one node; each method returns the last one's name."""

    def _mean(self, node: fx.Node, tensor: Any, dim: Any = None, keepdim: bool = False) -> str:
        source = self._tensor(tensor)
        before, axes = self.operations[source].shape, self._axes(source, dim)
        if axes != list(range(2, len(before) + 1)) or len(axes) > MOST_POOLED:
            return self._total(node, source, axes, mean=True)
        kernel = list(before[1:])
        attributes = {"kernel": kernel, "stride": kernel, "padding": [0] * len(kernel)}
        ones = (before[0], *(1,) * len(kernel))
        pooled = self._emit(f"{node.name}_pool", "avg_pool", (source,), ones, attributes)
        return self._reshape(node.name, pooled, self._shape(node))

    def _sum_over(self, node: fx.Node, tensor: Any, dim: Any = None, keepdim: bool = False) -> str:
        source = self._tensor(tensor)
        return self._total(node, source, self._axes(source, dim), mean=False)

    def _axes(self, source: str, given: Any) -> list[int]:
        axes = given if isinstance(given, list | tuple) else [given]
        if None in axes:
            raise Refused("it runs over the samples too")
        return sorted(axis_of(axis, len(self.operations[source].shape) + 1) for axis in axes)

    def _total(self, node: fx.Node, source: str, axes: list[int], *, mean: bool) -> str:
        """Any axes of a sample: they are put last and added up by one linear layer."""
        before = self.operations[source].shape
        kept = [axis for axis in range(1, len(before) + 1) if axis not in axes]
        sizes = [before[axis - 1] for axis in kept]
        count = math.prod(before[axis - 1] for axis in axes)
        turned = [before[axis - 1] for axis in (*kept, *axes)]
        order = [0, *kept, *axes]
        if order != sorted(order):
            source = self._emit(f"{node.name}_turn", "permute", (source,), turned, {"axes": order})
        line = self._reshape(f"{node.name}_line", source, (*sizes, count))
        weight = torch.full((1, count), 1 / count if mean else 1.0, dtype=self._dtype())
        weights = {"weight": weight, "bias": torch.zeros(1, dtype=self._dtype())}
        total = self._emit(f"{node.name}_total", "linear", (line,), (*sizes, 1), {}, weights)
        return self._reshape(node.name, total, self._shape(node))

    def _add(self, node: fx.Node, first: Any, second: Any, *, alpha: float = 1) -> str:
        return self._sum(node, first, second, alpha)

    def _subtract(self, node: fx.Node, first: Any, second: Any, *, alpha: float = 1) -> str:
        return self._sum(node, first, second, -alpha)

    def _sum(self, node: fx.Node, first: Any, second: Any, factor: float) -> str:
        shape, terms = self._shape(node), (first, second)
        own = [self._own(term, shape) for term in terms]
        channels = [self._of_channels(value, shape) for value in own]
        one = torch.ones(shape[0], dtype=self._dtype())
        if channels[1] is not None:
            return self._affine(node, self._tensor(first), one, factor * channels[1])
        if channels[0] is not None:
            return self._affine(node, self._tensor(second), factor * one, channels[0])
        inputs = [
            self._tensor(term)
            if value is None
            else self._constant(f"{node.name}_own", value, shape)
            for term, value in zip(terms, own, strict=True)
        ]
        if len({self.operations[source].shape for source in inputs}) > 1:
            raise Refused("its terms have different shapes")
        if factor != 1:
            scaled = {"scale": factor * one, "shift": 0 * one}
            inputs[1] = self._emit(f"{node.name}_scale", "affine", inputs[1:], shape, {}, scaled)
        return self._emit(node.name, "add", inputs, shape)

    def _multiply(self, node: fx.Node, first: Any, second: Any) -> str:
        for tensor, factor in ((first, second), (second, first)):
            scale = self._own(factor, self._shape(node))
            if scale is not None:
                return self._times(node, tensor, scale)
        return self._function(node, "product", (first, second))

    def _divide(self, node: fx.Node, first: Any, second: Any) -> str:
        divisor = self._own(second, self._shape(node))
        if divisor is None:
            return self._function(node, "quotient", (first, second))
        return self._times(node, first, 1 / divisor)

    def _times(self, node: fx.Node, tensor: Any, factor: Tensor) -> str:
        source, shape = self._tensor(tensor), self._shape(node)
        scale = self._of_channels(factor, shape)
        if scale is None:
            return self._emit(node.name, "scale", (source,), shape, {}, {"factor": factor})
        return self._affine(node, source, scale, torch.zeros_like(scale))

    def _scale_channels(self, node: fx.Node, values: Any, scale: Any) -> str:
        own = self._own_tensor(scale)
        if own is None:
            raise Refused("its factors change in time")
        return self._times(node, values, own.view(-1, *(1,) * (len(self._shape(node)) - 1)))

    def _negative(self, node: fx.Node, tensor: Any) -> str:
        return self._multiply(node, tensor, -1.0)

    def _function(
        self,
        node: fx.Node,
        kind: str,
        values: Iterable[Any],
        settings: Mapping[str, Any] | None = None,
        tensors: Mapping[str, Tensor] | None = None,
    ) -> str:
        """A function of values, each a node or what is the network's own."""
        shape, sources = self._shape(node), []
        for place, value in enumerate(values):
            own = self._own(value, shape) if kind in BROADCAST else None
            name = f"{node.name}_{place}"
            made = None if own is None else self._constant(name, own, tuple(own.shape))
            sources.append(self._tensor(value) if made is None else made)
        return self._emit_function(node.name, kind, sources, shape, settings, tensors)

    def _emit_function(
        self,
        name: str,
        kind: str,
        sources: Iterable[str],
        shape: Shape,
        settings: Mapping[str, Any] | None = None,
        tensors: Mapping[str, Tensor] | None = None,
    ) -> str:
        sources = tuple(sources)
        in_time = any(source in self.in_time for source in sources)
        attributes = {**(settings or {}), "in_time": in_time, **(self._leak() if in_time else {})}
        return self._emit(name, kind, sources, shape, attributes, tensors)

    def _einsum(self, node: fx.Node, equation: str, *values: Any) -> str:
        if not self._shape(node):
            raise Refused("it leaves no axis of a sample")
        settings = {"equation": equation.replace(" ", "")}
        return self._function(node, "einsum", values, settings)
