"""What waits between the layers while they are calibrated: bits, and few floats.

A correction reads all samples of a layer, so all of them wait at each neuron for each other.
Only what later layers read is kept, and a spike takes one bit a step; the currents are computed
from it when they are asked for: on a CPU for one step and a few samples, elsewhere for as many
samples and steps as a simulation carries.
"""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, fx

from ftbc_lightning.calibration.between_neurons import Stretch
from ftbc_lightning.calibration.spike_train import SpikeTrain
from ftbc_lightning.graph.propagation import Plan, Pooled, Propagation
from ftbc_lightning.graph.step_weights import step_weights
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
        constant: Values that are the same at every step, as far as others read them.

    Args:
        plan: Of the network's graph.
        images: `[B, ...]`.
        timesteps: T.
        steps: For how many of them currents are computed at once.
    """

    def __init__(self, plan: Plan, images: Tensor, *, timesteps: int, steps: int = 1) -> None:
        self.plan, self.images, self.timesteps, self.at_once = plan, images, timesteps, steps
        self.spikes: dict[fx.Node, SpikeTrain] = {}
        self.analog: dict[fx.Node, list[Tensor]] = {}
        propagation = Propagation(plan, images, steps=1)
        for node in plan.nodes:
            if node not in plan.temporal:
                propagation.values[node] = propagation.evaluate(node)
        read = {source for node in plan.temporal for source in node.all_input_nodes}
        self.constant = {node: value for node, value in propagation.values.items() if node in read}
        leaky, like = plan.leak != 1, next(plan.graph.parameters())
        self.weights = step_weights(timesteps, plan.leak, like=like) if leaky else None
        self.pooled: Pooled = {}
        self.currents: dict[int, Tensor] = {}

    def forget(self, needed: Collection[fx.Node]) -> None:
        """Drop all but the values that later layers read."""
        self.currents = {}
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
        if t in self.currents:
            return self.currents[t]
        if t == 0:
            self.pooled = {}
        steps = min(self.at_once, self.timesteps - t, 8 - t % 8)  # of one byte
        propagation = Propagation(self.plan, self.images, steps=steps, pooled=self.pooled)
        propagation.values = {node: self._steps(node, t, steps) for node in stretch.read}
        for node in stretch.operations:
            value = propagation.advance(node)
            if node in stretch.shared and room.take(node, value):
                parts = value.view(steps, -1, *value.shape[1:]).unbind()
                self.analog.setdefault(node, [])[t:] = parts
        currents = propagation.current(stretch.neuron).unbind()
        kept = again and stretch.operations and room.take(stretch.neuron, currents[0])
        self.currents = self.currents if kept else {}
        if kept or steps > 1:
            self.currents |= dict(enumerate(currents, t))
        return currents[0]

    def means(self, stretch: Stretch, *nodes: fx.Node) -> tuple[Tensor, ...]:
        """The means over the steps of the values of nodes before a neuron.

        With a leak the steps have their weights.

        What lies between two neurons is linear, or exact in the mean as max pooling over sums and
        functions in time are, so it is computed once from the mean spikes, not T times.
        """
        propagation = Propagation(self.plan, self.images, steps=1)
        propagation.values = {node: self._mean(node) for node in stretch.read}
        values = dict(propagation.values)
        for node in stretch.operations:
            values[node] = propagation.advance(node)
        return tuple(values[node] for node in nodes)

    def _steps(self, node: fx.Node, start: int, number: int) -> Any:
        if node in self.spikes:
            return self.spikes[node].steps(start, number, self._amplitude(node))
        if node not in self.analog:
            return self.constant[node]
        found = self.analog[node][start : start + number]
        return found[0] if number == 1 else torch.cat(found)

    def _mean(self, node: fx.Node) -> Any:
        weights = self.weights
        if node in self.spikes:
            train = self.spikes[node]
            counts = train.counts() if weights is None else train.weighted(weights)
            return counts * (self._amplitude(node) / self.timesteps)
        if node in self.analog:
            steps = torch.stack(self.analog[node])
            if weights is None:
                return steps.mean(0)
            return (steps * weights.view(-1, *(1,) * (steps.ndim - 1))).mean(0)
        return self.constant[node]

    def _amplitude(self, node: fx.Node) -> Tensor:
        neuron = self.plan.modules[str(node.target)]
        assert isinstance(neuron, IFNeuron)
        return neuron.amplitude.view(-1, *(1,) * (self.spikes[node].bytes[0].ndim - 2))
