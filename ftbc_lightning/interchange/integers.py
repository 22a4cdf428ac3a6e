"""From a description to one in integers, as chips compute: rounded weights, whole membranes.

Everything that a neuron compares and adds up is an integer, in a unit of its channel:

    u = v + (sum W s << shift) + temporal_bias[t];   s = 1 if u >= threshold else 0
    v = u - threshold * s

| what | integers | unit |
|---|---|---|
| current, membrane, threshold, start membrane, temporal bias of a neuron | 32 bits | `unit [C]` |
| weight of a layer | `bits`, sign included | `unit * 2^shift`, for spikes that are 0 and 1 |
| factor on a shortcut that adds spikes | 32 bits | `unit` |
| average of spikes or currents | a sum, a convolution with ones | that of its terms / number |
| the sample, and what is computed of it before the first layer | real | as the network takes it |
| current of the first layer | rounded once, the same at every step | `unit` |
| output | 32 bits; the affine operation at the end makes real logits | its `scale` |

The unit is that of the ANN's activation times a number: real value = unit * integer. `shift` gives
the membrane more bits than a weight has, for thresholds and biases are rounded too.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ftbc_lightning.errors import UserError
from ftbc_lightning.interchange.description import Description, Operation
from ftbc_lightning.interchange.whole_numbers import (
    check_size,
    in_time,
    on_cpu,
    places,
    summed,
    whole,
    within,
)
from ftbc_lightning.snn.weight_rounding import check_bits, largest, unit_of

MEMBRANE_BITS = 12
"""Weight and shift together have so many bits; a weight of more has no shift."""

FINEST = 2.0**-24
"""The smallest unit, in thresholds: where weights are so small they may as well be 0."""

LINEAR = ("conv", "linear")
SUMS = ("add", "avg_pool", "max_pool")
"""What currents pass through, each channel by itself."""

UNCHANGED = ("flatten", "reshape", "permute", "pad", "slice", "max_pool")
"""What spikes pass through as they are."""


class _NoIntegers(Exception):
    """Why an operation cannot be done in integers."""

    def __init__(self, operation: Operation, reason: str) -> None:
        super().__init__(f"{operation.name} ({operation.kind}): {reason}")


def integers(description: Description, bits: int) -> Description:
    """Round a network to integers.

    Args:
        description: Of a network whose thresholds are folded (`describe`).
        bits: Of a weight, its sign included, 2 to 16.

    Returns:
        A network of the same form whose tensors are integers; the table above has their units.
        Weights that were rounded to so many bits before (`calibrate` with `weight_bits`) stay what
        they are.

    Raises:
        UserError: The number of bits is out of range, neurons have a leak, or operations cannot
            be done in integers; all are named.
    """
    check_bits(bits)
    if description.kind().leak != 1:
        raise UserError(
            "The membranes of neurons with a leak are no integers after a step; export the "
            "network without bits, or calibrate neurons without a leak."
        )
    return _Rounding(description, bits).run()


class _Rounding:
    """Walks from each neuron, and from the output, back to the layers that feed it."""

    def __init__(self, description: Description, bits: int) -> None:
        self.description, self.bits = description, bits
        self.shift = max(0, MEMBRANE_BITS - bits)
        self.operations = {o.name: on_cpu(o) for o in description.operations}
        self.readers = description.readers()
        self.made: dict[str, Operation] = {}
        self.spikes: dict[str, float] = {}
        self.timed = in_time(description)

    def run(self) -> Description:
        """Round neuron by neuron, then name all that could not be."""
        refused: dict[str, None] = {}
        for operation in self.operations.values():
            try:
                if operation.kind == "neuron":
                    self._neuron(operation)
                elif operation.kind == "output":
                    self._output(operation)
            except _NoIntegers as reason:
                refused[str(reason)] = None
                self.spikes.setdefault(operation.name, 1.0)
        if refused:
            raise UserError(
                f"Integers cannot be had for {len(refused)} of the operations: "
                f"{'; '.join(refused)}. Export the network without bits."
            )
        check_size(self.made)
        return Description(
            tuple(self.made.values()), self.description.timesteps, self.bits, self.shift
        )

    def _neuron(self, neuron: Operation) -> None:
        theta = neuron.tensors["threshold"].double()
        top = self._top(neuron.inputs[0], neuron)
        unit = unit_of(top, largest(self.bits)) / 2**self.shift
        unit = torch.where(top > 0, unit, theta / 2**MEMBRANE_BITS)
        unit = torch.maximum(unit, theta * FINEST)
        source = self._current(neuron.inputs[0], unit)
        rounded = {key: whole(value / unit) for key, value in neuron.tensors.items()}
        rounded["threshold"].clamp_(min=1)
        tensors = {**rounded, "unit": unit.to(neuron.tensors["threshold"].dtype)}
        self._emit(replace(neuron, inputs=(source,), tensors=tensors))
        self.spikes[neuron.name] = 1.0

    def _output(self, output: Operation) -> None:
        top = self._top(output.inputs[0], output)
        unit = unit_of(top, largest(self.bits)) / 2**self.shift
        if (top > 0).any():  # a class without weights has a bias still
            unit = torch.where(top > 0, unit, unit[top > 0].amax())
        source = self._current(output.inputs[0], unit)
        scale = {"scale": unit, "shift": torch.zeros_like(unit)}
        self._emit(replace(output, inputs=(self._behind(source, "affine", scale),)))

    def _top(self, source: str, reader: Operation) -> Tensor:
        """The largest magnitude of the weights that feed a current, `[C]`."""
        found = self._tops(source)
        if not found:
            raise _NoIntegers(reader, "no layer with weights lies before it")
        return torch.stack(found).amax(0)

    def _tops(self, source: str) -> list[Tensor]:
        operation = self.operations[source]
        if operation.kind in LINEAR:
            return [self._folded(operation).abs().flatten(1).amax(1)]
        if operation.kind not in SUMS and not self._keeps_channels(operation):
            return []
        number = places(operation)
        return [top / number for term in operation.inputs for top in self._tops(term)]

    def _folded(self, operation: Operation) -> Tensor:
        """The weights of a layer for input in integers, float64."""
        source = operation.inputs[0]
        per_spike = self._spikes(source) if source in self.timed else 1.0
        if operation.kind == "linear" and len(operation.shape) != 1:
            raise _NoIntegers(operation, "its last axis is not that of the channels")
        return operation.tensors["weight"].double() * per_spike

    def _spikes(self, source: str) -> float:
        """Make what a layer reads; returns what one integer of it stands for."""
        if source in self.spikes:
            return self.spikes[source]
        operation = self.operations[source]
        if operation.kind in UNCHANGED:
            unit = self._spikes(operation.inputs[0])
            self._emit(operation)
        elif operation.kind == "avg_pool":
            unit = self._spikes(operation.inputs[0]) / places(operation)
            self._emit(summed(operation))
        elif operation.kind == "concat":
            units = {self._spikes(term) for term in operation.inputs}
            if len(units) > 1:
                raise _NoIntegers(operation, "it joins averages of different sizes")
            unit = units.pop()
            self._emit(operation)
        else:
            raise _NoIntegers(operation, "a layer reads it, and it is not made of spikes alone")
        self.spikes[source] = unit
        return unit

    def _real(self, source: str) -> None:
        """Copy what is computed of the sample."""
        operation = self.operations[source]
        if source not in self.made:
            for before in operation.inputs:
                self._real(before)
            self._emit(operation)

    def _current(self, source: str, unit: Tensor) -> str:
        """Make a current as integers of `unit` `[C]`; returns the operation that gives it."""
        operation = self.operations[source]
        if operation.kind in LINEAR:
            return self._layer(operation, unit)
        if source not in self.timed and operation.kind not in SUMS:
            return self._constant(operation, unit)
        if operation.kind in ("neuron", "affine"):
            return self._factor(operation, unit)
        self._alone(operation)
        if operation.kind in ("pad", "slice"):
            before = within(operation, unit, self.operations[operation.inputs[0]].shape[0])
            if before is None:
                raise _NoIntegers(operation, "it takes some of the channels of a current")
            unit = before
        elif operation.kind not in SUMS and not self._keeps_channels(operation):
            raise _NoIntegers(operation, "a neuron or the output reads it")
        unit = unit * places(operation)
        inputs = tuple(self._current(term, unit) for term in operation.inputs)
        made = summed(operation) if operation.kind == "avg_pool" else operation
        return self._emit(replace(made, inputs=inputs))

    def _alone(self, operation: Operation) -> None:
        if len(self.readers[operation.name]) > 1:
            raise _NoIntegers(operation, "several read this current, each in another unit")

    def _layer(self, operation: Operation, unit: Tensor) -> str:
        """A layer with whole weights, then the shift and the bias, both whole."""
        weight, analog = self._folded(operation), operation.inputs[0] not in self.timed
        self._alone(operation)
        if analog:
            self._real(operation.inputs[0])
        step = (unit * 2**self.shift).view(-1, *(1,) * (weight.ndim - 1))
        most = largest(self.bits)
        steps = (weight / step).round().clamp(-most, most)
        bias = operation.tensors["bias"].double() / unit
        shift = torch.full_like(unit, 2**self.shift)
        tensors = {
            "weight": steps.to(torch.int8 if self.bits <= 8 else torch.int16),
            "bias": torch.zeros_like(bias, dtype=torch.int32),
        }
        name = self._emit(replace(operation, tensors=tensors))
        affine = {"scale": whole(shift), "shift": bias if analog else whole(bias)}
        name = self._behind(name, "affine", affine)
        return self._behind(name, "round") if analog else name

    def _constant(self, operation: Operation, unit: Tensor) -> str:
        """What is computed of the sample without a layer, rounded."""
        self._real(operation.name)
        scale = {"scale": 1 / unit, "shift": torch.zeros_like(unit)}
        return self._behind(self._behind(operation.name, "affine", scale), "round")

    def _factor(self, operation: Operation, unit: Tensor) -> str:
        """Spikes times a whole number for each channel: what a shortcut adds."""
        source, scale, shift = operation.name, torch.ones_like(unit), torch.zeros_like(unit)
        if operation.kind == "affine":
            self._alone(operation)
            scale, shift = (operation.tensors[key].double() for key in ("scale", "shift"))
            source = operation.inputs[0]
        per_spike = self._spikes(source)
        tensors = {"scale": whole(scale * per_spike / unit), "shift": whole(shift / unit)}
        return self._behind(source, "affine", tensors)

    def _keeps_channels(self, operation: Operation) -> bool:
        """Whether it only changes the other axes of a sample."""
        reshapes = operation.kind in ("flatten", "reshape")
        return reshapes and operation.shape[0] == self.operations[operation.inputs[0]].shape[0]

    def _behind(self, source: str, kind: str, tensors: Mapping[str, Tensor] | None = None) -> str:
        """A new operation of the same shape, under a name of its own."""
        name = f"{source}_{kind}"
        while name in self.made or name in self.operations:
            name += "_"
        made = Operation(name, kind, (source,), self.made[source].shape, {}, tensors or {})
        return self._emit(made)

    def _emit(self, operation: Operation) -> str:
        self.made[operation.name] = operation
        return operation.name
