"""Writes operations while a graph is walked, and keeps which of them gives each node's value."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from ftbc_lightning.interchange.arguments import BATCH, Refused, ShapeOf, shapes
from ftbc_lightning.interchange.description import Operation
from ftbc_lightning.interchange.neuron_kind import NeuronKind
from ftbc_lightning.snn.network import SpikingNetwork

Shape = tuple[int, ...]


class Writer:
    """What is known of a graph's nodes, and the operations that have been written.

    Args:
        snn: A network whose thresholds are folded.
        input_shape: Shape of one sample.
        kind: Of its neurons.
    """

    def __init__(self, snn: SpikingNetwork, input_shape: Shape, kind: NeuronKind) -> None:
        self.snn, self.graph, self.kind = snn, snn.layers, kind
        self.input_shape = input_shape
        self.seen, self.constants = shapes(snn.layers, input_shape, snn.input_dtype)
        self.operations: dict[str, Operation] = {}
        self.gives: dict[fx.Node, str] = {}
        self.turned: dict[fx.Node, tuple[str, list[int]]] = {}
        self.in_time: set[str] = set()

    def _leak(self) -> dict[str, float]:
        """The attribute of what adds up over the steps, where there is a leak."""
        return {} if self.kind.leak == 1 else {"leak": self.kind.leak}

    def _is_number(self, node: fx.Node) -> bool:
        value = self.seen.get(node)
        if node.op == "get_attr" or (node.op == "placeholder" and self.operations):
            return True
        parts = value if isinstance(value, tuple | list) else [value]
        return node.op != "output" and not any(isinstance(part, ShapeOf) for part in parts)

    def _shape(self, node: Any) -> Shape:
        """The shape of a node's value for one sample."""
        value = self.seen.get(node)
        if not isinstance(value, ShapeOf):
            return ()
        if value.shape[:1] != (BATCH,):
            raise Refused("it joins the samples with another axis, or puts one before them")
        return value.shape[1:]

    def _tensor(self, value: Any) -> str:
        """The operation that gives the value of a node which is a tensor in time."""
        if not isinstance(value, fx.Node) or value not in self.gives:
            raise Refused("it reads something other than the output of a layer")
        return self.gives[value]

    def _own(self, value: Any, shape: Shape) -> Tensor | None:
        """A number or a tensor of the network, with as many axes as a sample has; else None."""
        if isinstance(value, int | float):
            return torch.full((1,) * len(shape), float(value), dtype=self._dtype())
        found = self._own_tensor(value)
        if found is None:
            return None
        if found.ndim == len(shape) + 1 and bool((found == found[:1]).all()):
            found = found[0]
        if found.ndim > len(shape):
            return None
        return found.reshape((1,) * (len(shape) - found.ndim) + tuple(found.shape))

    def _own_tensor(self, value: Any) -> Tensor | None:
        """A tensor of the network, or what is computed from such alone."""
        if isinstance(value, fx.Node):
            value = self.constants.get(value)
        return value.detach().to(self._dtype()) if isinstance(value, Tensor) else None

    def _of_channels(self, value: Tensor | None, shape: Shape) -> Tensor | None:
        """The same for each channel, `[C]`, if it is one number or one for each of them."""
        if value is None or any(size > 1 for size in value.shape[1:]):
            return None
        return value.reshape(-1).expand(shape[0])

    def _dtype(self) -> torch.dtype:
        return next(iter(self.snn.neurons().values())).threshold.dtype

    def _emit(
        self,
        name: str,
        kind: str,
        inputs: Sequence[str],
        shape: Sequence[int],
        attributes: Mapping[str, Any] | None = None,
        tensors: Mapping[str, Tensor] | None = None,
    ) -> str:
        while name in self.operations:
            name += "_"
        if kind == "neuron" or any(source in self.in_time for source in inputs):
            self.in_time.add(name)
        weights = {key: tensor.detach() for key, tensor in (tensors or {}).items()}
        self.operations[name] = Operation(
            name, kind, tuple(inputs), tuple(shape), dict(attributes or {}), weights
        )
        return name

    def _constant(self, name: str, value: Tensor, shape: Shape) -> str:
        filled = value.expand(shape).contiguous()
        return self._emit(name, "constant", (), shape, {}, {"value": filled})
