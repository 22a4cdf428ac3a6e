"""Divide the current of every neuron by its threshold, so that all thresholds are 1.

u >= theta   is   u / theta >= 1,   with x, v0 and b[t] divided by theta as well
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from ftbc_lightning.graph.step_weights import step_weights
from ftbc_lightning.interchange.clock import with_clock
from ftbc_lightning.interchange.description import Description, Operation

Bias = Literal["metadata", "mean", "clock"]


def mean_charge(initial_membrane: Tensor, temporal_bias: Tensor, leak: float) -> Tensor:
    """The one bias for all steps that charges a neuron as v0 and b[t] do.

        b' = (c[0] * v0 + sum over t of c[t] * b[t]) / T

    c[t] is how much step t counts (`ftbc_lightning.graph.step_weights`), 1 without a leak; v0 is
    charged at the first step.

    Args:
        initial_membrane: v0, `[C]`.
        temporal_bias: b, `[T, C]`.
        leak: Of the neuron.

    >>> mean_charge(torch.tensor([1.0]), torch.tensor([[0.0], [2.0]]), 1.0)
    tensor([1.5000])
    """
    if leak == 1:
        return (initial_membrane + temporal_bias.sum(0)) / len(temporal_bias)
    weights = step_weights(len(temporal_bias), leak, like=temporal_bias)
    total = weights[0] * initial_membrane + weights @ temporal_bias
    return total / len(temporal_bias)


def unit_thresholds(description: Description, *, bias: Bias) -> Description:
    """Make every threshold 1, by the weights before it or, where it has none, a scale.

    Args:
        description: Of a network.
        bias: "metadata" keeps the start membrane and the temporal bias apart from the weights;
            "mean" adds their mean over the steps, (v0 + sum of b[t]) / T, to the bias before the
            neuron, and sets both to 0; see `mean_charge` for neurons with a leak; "clock" makes
            them weights from T more channels of the input, which say which step it is.

    Returns:
        The description of a network with the same spikes ("metadata", "clock"), or of the one
        that `mean_bias` of `ftbc_lightning.interchange` makes ("mean").

    Raises:
        UserError: A layer is out of reach of the clock (`ftbc_lightning.interchange.clock`).
    """
    divided = _Divider(description, mean=bias == "mean").run()
    return with_clock(divided) if bias == "clock" else divided


class _Divider:
    """Follows each neuron's current back to the weights that can take a factor for a channel."""

    def __init__(self, description: Description, *, mean: bool) -> None:
        self.description, self.mean = description, mean
        self.operations = description.named()
        self.readers = description.readers()
        self.inserted: dict[str, list[Operation]] = {}

    def run(self) -> Description:
        """Divide neuron by neuron; what is inserted stands right before its reader."""
        for name, operation in list(self.operations.items()):
            if operation.kind == "neuron":
                self._neuron(name, operation)
        ordered: list[Operation] = []
        for name in [operation.name for operation in self.description.operations]:
            ordered += [*self.inserted.get(name, []), self.operations[name]]
        return Description(tuple(ordered), self.description.timesteps)

    def _neuron(self, name: str, neuron: Operation) -> None:
        theta, v0, b = (
            neuron.tensors[key] for key in ("threshold", "initial_membrane", "temporal_bias")
        )
        shift = torch.zeros_like(theta)
        if self.mean:
            shift = mean_charge(v0, b, neuron.attributes.get("leak", 1.0)) / theta
            v0, b = torch.zeros_like(v0), torch.zeros_like(b)
        source = self._divide(neuron.inputs[0], name, 1 / theta, shift)
        tensors = {
            "threshold": torch.ones_like(theta),
            "initial_membrane": v0 / theta,
            "temporal_bias": b / theta,
        }
        self.operations[name] = replace(neuron, inputs=(source,), tensors=tensors)

    def _divide(self, source: str, reader: str, factor: Tensor, shift: Tensor) -> str:
        """Make what `reader` reads `factor * source + shift`; returns what it is to read."""
        operation = self.operations[source]
        alone = len(self.readers[source]) == 1
        if alone and (operation.kind in ("conv", "affine") or operation.shape == (len(factor),)):
            tensors = _times(operation, factor, shift)
            if tensors is not None:
                self.operations[source] = replace(operation, tensors=tensors)
                return source
        if alone and operation.kind == "add":
            shifts = [shift, *(torch.zeros_like(shift) for _ in operation.inputs[1:])]
            inputs = [
                self._divide(term, source, factor, share)
                for term, share in zip(operation.inputs, shifts, strict=True)
            ]
            self.operations[source] = replace(operation, inputs=tuple(inputs))
            return source
        if alone and operation.kind == "avg_pool" and not any(operation.attributes["padding"]):
            inside = self._divide(operation.inputs[0], source, factor, shift)
            self.operations[source] = replace(operation, inputs=(inside,))
            return source
        return self._insert(operation, reader, factor, shift)

    def _insert(self, source: Operation, reader: str, factor: Tensor, shift: Tensor) -> str:
        waiting = self.inserted.setdefault(reader, [])
        name = f"{reader}_scale{len(waiting)}"
        tensors = {"scale": factor, "shift": shift}
        waiting.append(Operation(name, "affine", (source.name,), source.shape, {}, tensors))
        return name


def _times(operation: Operation, factor: Tensor, shift: Tensor) -> dict[str, Tensor] | None:
    """The tensors of an operation whose output is to be multiplied and shifted, if it has any."""
    names: dict[str, Sequence[str]] = {
        "conv": ("weight", "bias"),
        "linear": ("weight", "bias"),
        "affine": ("scale", "shift"),
    }
    if operation.kind not in names:
        return None
    weight, bias = names[operation.kind]
    old = operation.tensors[weight]
    return {
        weight: old * factor.view(-1, *(1,) * (old.ndim - 1)),
        bias: operation.tensors[bias] * factor + shift,
    }
