"""What waits between the layers while they are calibrated: bits, and few floats.

A correction reads all samples of a layer, so all of them wait at each neuron for each other.
Only what later layers read is kept, and a spike takes one bit a step; the currents are computed
from it for one step and a few samples at a time, when they are asked for.
"""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, fx

from ftbc_lightning.calibration.between_neurons import Stretch
from ftbc_lightning.calibration.regression import Place
from ftbc_lightning.calibration.spike_train import SpikeTrain
from ftbc_lightning.graph.propagation import Plan, Pooled, Propagation
from ftbc_lightning.snn.neurons.integrate_and_fire import IFNeuron


class Room:
    """Says which values may be kept over all steps and samples, so that none is computed twice.

    Args:
        free: How many bytes there are.
        values: How many values of one step and sample are kept of each: T * samples.
    """

    def __init__(self, free: int, values: int) -> None:
        self.free, self.values = free, values
        self.decided: dict[object, bool] = {}

    def take(self, key: object, value: Any) -> bool:
        """Whether such a value is kept; decided once for each key, for all micro-batches."""
        if key not in self.decided:
            tensor = isinstance(value, Tensor)
            size = value[0].numel() * value.element_size() * self.values if tensor else 0
            self.decided[key] = tensor and size <= self.free
            self.free -= size * self.decided[key]
        return self.decided[key]


class MicroBatch:
    """A few samples on their way through a spiking network, a neuron at a time.

    Attributes:
        spikes: The spikes of each neuron that later layers read.
        analog: Values in time that several layers read without a neuron between, one tensor a
            step.
        constant: Values that are the same at every step.

    Args:
        plan: Of the network's graph.
        images: `[B, ...]`.
        timesteps: T.
    """

    def __init__(self, plan: Plan, images: Tensor, *, timesteps: int) -> None:
        self.plan, self.images, self.timesteps = plan, images, timesteps
        self.spikes: dict[fx.Node, SpikeTrain] = {}
        self.analog: dict[fx.Node, list[Tensor]] = {}
        propagation = Propagation(plan, images, steps=1)
        for node in plan.nodes:
            if node not in plan.temporal:
                propagation.values[node] = propagation.evaluate(node)
        self.constant: dict[fx.Node, Any] = propagation.values
        self.pooled: Pooled = {}
        self.currents: list[Tensor] = []

    def forget(self, needed: Collection[fx.Node]) -> None:
        """Drop all but the values that later layers read."""
        self.currents = []
        self.spikes = {node: value for node, value in self.spikes.items() if node in needed}
        self.analog = {node: value for node, value in self.analog.items() if node in needed}
        self.constant = {node: value for node, value in self.constant.items() if node in needed}

    def current(self, stretch: Stretch, room: Room, again: bool, t: int) -> Tensor:
        """The current of a neuron at a step, `[B, C, ...]`.

        Args:
            stretch: What lies before the neuron.
            room: Where values are kept that would be computed twice.
            again: Whether the currents will be asked for once more.
            t: The step; each pass takes all steps from 0 on, because max pooling adds them up.
        """
        if t < len(self.currents):
            return self.currents[t]
        if t == 0:
            self.pooled = {}
        propagation = Propagation(self.plan, self.images, steps=1, pooled=self.pooled)
        propagation.values = {node: self._step(node, t) for node in stretch.read}
        for node in stretch.operations:
            value = propagation.advance(node)
            if node in stretch.shared and room.take(node, value):
                self.analog.setdefault(node, [])[t:] = [value]
        current = propagation.current(stretch.neuron)[0]
        if again and stretch.operations and room.take(stretch.neuron, current):
            self.currents.append(current)
        return current

    def means(self, stretch: Stretch, place: Place) -> tuple[Tensor, Tensor]:
        """The means over the steps of what a linear layer reads, and of the sum it is part of.

        What lies between two neurons is linear, so the mean of a current is the current of the
        mean spikes, and max pooling over sums in time has the same mean: one evaluation, not T.
        """
        propagation = Propagation(self.plan, self.images, steps=1)
        propagation.values = {node: self._mean(node) for node in stretch.read}
        values = dict(propagation.values)
        for node in stretch.operations:
            values[node] = propagation.advance(node)
        return values[place.source], values[place.target]

    def _step(self, node: fx.Node, t: int) -> Any:
        if node in self.spikes:
            return self.spikes[node].step(t, self._amplitude(node))
        return self.analog[node][t] if node in self.analog else self.constant[node]

    def _mean(self, node: fx.Node) -> Any:
        if node in self.spikes:
            return self.spikes[node].counts() * (self._amplitude(node) / self.timesteps)
        if node in self.analog:
            return torch.stack(self.analog[node]).mean(0)
        return self.constant[node]

    def _amplitude(self, node: fx.Node) -> Tensor:
        neuron = self.plan.modules[str(node.target)]
        assert isinstance(neuron, IFNeuron)
        return neuron.amplitude.view(-1, *(1,) * (self.spikes[node].bytes[0].ndim - 2))
