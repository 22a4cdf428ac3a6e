"""One layer when the sweep has reached it: its neuron, its currents, the ANN's activations."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ftbc_lightning.calibration.spike_train import SpikeTrain
from ftbc_lightning.snn.neurons.integrate_and_fire import IFNeuron
from ftbc_lightning.snn.statistics import Reduce

Current = Callable[[int], Tensor]
"""The current x[t] of a micro-batch at step t, `[B, C, ...]`; steps are asked for from 0 on."""


def by_channel(values: Tensor) -> Tensor:
    """`[B, C, ...]` as `[C, N]` with N over batch and space."""
    return values.transpose(0, 1).flatten(1)


def joined_by_channel(values: Sequence[Tensor], *, out: Tensor | None = None) -> Tensor:
    """All of several `[B, C, ...]` as one `[C, N]`, each value copied once."""
    channels = values[0].shape[1]
    size = sum(v.numel() for v in values) // channels
    rows = values[0].new_empty(channels, size) if out is None else out
    start = 0
    for value in values:
        turned = value.transpose(0, 1)
        end = start + value.numel() // channels
        rows[:, start:end].view(turned.shape).copy_(turned)
        start = end
    return rows


def fired(charged: Tensor, threshold: Tensor) -> Tensor:
    """Which neurons have reached theta, as 0 and 1, `[B, C, ...]`.

    On a CPU in the type of the membrane, because other types take several times as long to
    compare and to add up; elsewhere in one byte, because memory is what takes time.
    """
    dtype = charged.dtype if charged.device.type == "cpu" else torch.uint8
    return torch.ge(charged, threshold, out=torch.empty_like(charged, dtype=dtype))


def numbers(spikes: Tensor) -> Tensor:
    """How many spikes each channel has, int64 `[C]`, of 0 and 1 `[B, C, ...]`.

    On a CPU in two stages: one sum of both axes takes several times as long.
    """
    if spikes.device.type != "cpu":
        return spikes.sum([axis for axis in range(spikes.ndim) if axis != 1], dtype=torch.int64)
    return spikes.unsqueeze(-1).flatten(2).sum(2).sum(0, dtype=torch.float64).long()


def over(values: Tensor, potential: Tensor) -> Tensor:
    """Shape `[C]` so that it broadcasts over `[B, C, ...]`."""
    return values.view(-1, *(1,) * (potential.ndim - 2))


@dataclass
class Layer:
    """A neuron, what flows into it, and what the ANN has in its place.

    Attributes:
        name: The node's name.
        neuron: The neuron, whose temporal bias is written in place.
        currents: x of each micro-batch.
        activations: a, `[B, C, ...]`: a piece for each micro-batch, or one for all of them.
        samples: How many there are over all processes.
        reduce: Merges sums and counts over processes.
    """

    name: str
    neuron: IFNeuron
    currents: Sequence[Current]
    activations: Sequence[Tensor]
    samples: int
    reduce: Reduce

    @cached_property
    def theta(self) -> Tensor:
        """The threshold, float64 `[C]`."""
        return self.neuron.threshold.double()

    def count(self) -> int:
        """N, how many values a channel has over samples, space and processes."""
        return self.samples * self.activations[0][0, 0].numel()

    def mean(self, counts: Tensor) -> Tensor:
        """The mean of theta * s, float64, from counts of spikes `[..., C]`."""
        return self.theta * counts / self.count()

    def target(self) -> Tensor:
        """E[a] clipped to [0, theta], float64 `[C]`: beyond theta no spike train can reach it."""
        sums = [by_channel(a).sum(1, dtype=torch.float64) for a in self.activations]
        mean = self.reduce(_total(sums), "sum") / self.count()
        return torch.minimum(mean.clamp_min(0), self.theta)

    def charge(self, membranes: Sequence[Tensor], t: int) -> None:
        """Add the currents of a step to the membranes of all pieces."""
        if len(membranes) == len(self.currents):
            for membrane, current in zip(membranes, self.currents, strict=True):
                membrane += current(t)
            return
        rest = membranes[0]
        for current in self.currents:
            x = current(t)
            part, rest = rest[: len(x)], rest[len(x) :]
            part += x

    def rests(self) -> list[Tensor]:
        """The membranes before the first step."""
        return [self.neuron.rest(a.unsqueeze(0)) for a in self.activations]

    def mean_output(self, trains: Sequence[SpikeTrain]) -> Tensor:
        """The mean of theta * s over samples, space and steps, float64 `[C]`."""
        counts = [by_channel(train.counts()).sum(1, dtype=torch.int64) for train in trains]
        total = self.reduce(torch.stack(counts).sum(0), "sum")
        steps = self.neuron.timesteps * self.count()
        return self.theta * total / steps

    def spike_counts(self, potentials: Sequence[Tensor], bias: Tensor) -> Tensor:
        """How many neurons of each channel reach theta with `bias` `[C]` added, `[C]`."""
        threshold, added = (over(v, potentials[0]) for v in (self.neuron.threshold, bias))
        # on a CPU a look at the bias saves an addition; a GPU would stand still meanwhile
        biased = bias.device.type != "cpu" or bool(bias.any())
        counts = []
        for potential in potentials:
            charged = potential + added if biased else potential
            counts.append(numbers(fired(charged, threshold)))
        return self.reduce(_total(counts), "sum")


StepRule = Callable[[Layer, Sequence[Tensor], Tensor, Tensor, Tensor], Tensor]
"""(layer, potentials u0 `[B, C, ...]`, wanted mean `[C]`, spikes with the present bias `[C]`,
present bias `[C]`) -> new bias `[C]` of this step."""


@dataclass
class LayerError:
    """|E[theta s[t]] - E[a]|, averaged over channels, in the unit of the activation.

    Attributes:
        before: With the bias the layer had when it was reached, `[T]`.
        after: With the new bias, `[T]`.
    """

    before: Tensor
    after: Tensor


Corrected = tuple[list[SpikeTrain], LayerError]
"""The spikes of each piece of a layer with what was corrected, and the errors."""


def correct_step_by_step(layer: Layer, rule: StepRule, *, cumulative: bool = False) -> Corrected:
    """Walk through the steps of a layer: charge, find b[t], fire with it, carry the membrane.

    At each step the membranes of all micro-batches are there, and nothing else of the layer. On a
    CPU each micro-batch is a piece, which stays in its cache; elsewhere all are one piece, so that
    the number of samples does not change how often something is launched.

    Args:
        layer: The layer; its neuron's temporal bias is written in place.
        rule: Finds b[t].
        cumulative: Aim at the mean of s[0..t], not of s[t] alone.

    Returns:
        The spikes of each piece, and the errors.
    """
    neuron = layer.neuron
    target = layer.target()
    present = neuron.temporal_bias + neuron.step_charge
    height = over(neuron.threshold, layer.activations[0])
    membranes = layer.rests()
    trains = [SpikeTrain(membrane, neuron.timesteps) for membrane in membranes]
    emitted: Tensor | float = 0.0
    before, after = [], []
    for t in range(neuron.timesteps):
        layer.charge(membranes, t)
        before.append(layer.spike_counts(membranes, present[t]))
        wanted = target
        if cumulative:
            wanted = torch.minimum(((t + 1) * target - emitted).clamp_min(0), layer.theta)
        bias = rule(layer, membranes, wanted, before[-1], present[t])
        torch.sub(bias, neuron.step_charge, out=neuron.temporal_bias[t])
        bias = neuron.temporal_bias[t] + neuron.step_charge
        counts = []
        for membrane, train in zip(membranes, trains, strict=True):
            membrane += over(bias, membrane)
            spikes = fired(membrane, height)
            membrane.addcmul_(spikes, height, value=-1)
            train.write(t, spikes)
            counts.append(numbers(spikes))
        after.append(layer.reduce(_total(counts), "sum"))
        if cumulative:
            emitted = emitted + layer.mean(after[-1])
    distances = _distance(layer.mean(torch.stack(before + after)), target)
    return trains, LayerError(*distances.chunk(2))


def _total(counts: Sequence[Tensor]) -> Tensor:
    """The sum over all pieces, `[C]`."""
    return counts[0] if len(counts) == 1 else torch.stack(list(counts)).sum(0)


def _distance(means: Tensor, target: Tensor) -> Tensor:
    """Of the means `[T, C]` from the target, averaged over channels, `[T]`."""
    return (means - target).abs().mean(1).float()
