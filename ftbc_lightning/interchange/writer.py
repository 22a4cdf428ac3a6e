"""Writes operations while a graph is walked, and keeps which of them gives each node's value."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from ftbc_lightning.interchange.arguments import Refused, ShapeOf, shapes
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
        self.seen = shapes(snn.layers, input_shape, snn.input_dtype)
        self.operations: dict[str, Operation] = {}
        self.gives: dict[fx.Node, str] = {}
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
        value = self.seen.get(node)
        return value.shape[1:] if isinstance(value, ShapeOf) else ()

    def _tensor(self, value: Any) -> str:
        """The operation that gives the value of a node which is a tensor in time."""
        if not isinstance(value, fx.Node) or value not in self.gives:
            raise Refused("it reads something other than the output of a layer")
        return self.gives[value]

    def _constant(self, value: Any, channels: int) -> Tensor | None:
        """A number, or a tensor of the network that is one number or one for each channel."""
        if isinstance(value, int | float):
            return torch.full((channels,), float(value), dtype=self._dtype())
        if isinstance(value, fx.Node) and value.op == "get_attr":
            found = _attribute(self.graph, str(value.target))
            if not isinstance(found, Tensor):
                return None
            if found.numel() == 1:
                return found.detach().reshape(1).expand(channels).to(self._dtype())
            long = [size for size in found.shape if size != 1]
            if long == [channels] and found.shape[-1] == (channels if found.ndim == 1 else 1):
                return found.detach().reshape(channels).to(self._dtype())
        return None

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


def _attribute(module: nn.Module, path: str) -> Any:
    value: Any = module
    for name in path.split("."):
        value = getattr(value, name)
    return value
