"""One layer when the sweep has reached it: its neuron, its currents, the ANN's activations."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ftbc_lightning.calibration.by_channel import by_channel, over, total
from ftbc_lightning.calibration.expected import Expected
from ftbc_lightning.calibration.spike_train import SpikeTrain, train_of
from ftbc_lightning.snn.neurons.integrate_and_fire import IFNeuron
from ftbc_lightning.snn.statistics import Reduce

Current = Callable[[int], Tensor]
"""The current x[t] of a micro-batch at step t, `[B, C, ...]`; steps are asked for from 0 on."""


def fired(neuron: IFNeuron, charged: Tensor, threshold: Tensor, owed: Tensor | None) -> Tensor:
    """How many spikes each neuron emits, `[B, C, ...]`.

    On a CPU in the type of the membrane, because other types take several times as long to
    compare and to add up; elsewhere 0 and 1 in one byte, because memory is what takes time.
    """
    one_byte = charged.device.type != "cpu" and neuron.binary
    dtype = torch.uint8 if one_byte else charged.dtype
    return neuron.fire(charged, threshold, owed, torch.empty_like(charged, dtype=dtype))


def numbers(spikes: Tensor) -> Tensor:
    """How many spikes each channel has, int64 `[C]`, of whole numbers `[B, C, ...]`.

    On a CPU in two stages: one sum of both axes takes several times as long.
    """
    if spikes.device.type != "cpu":
        return spikes.sum([axis for axis in range(spikes.ndim) if axis != 1], dtype=torch.int64)
    return spikes.unsqueeze(-1).flatten(2).sum(2).sum(0, dtype=torch.float64).long()


@dataclass
class Layer:
    """A neuron, what flows into it, and what the ANN has in its place.

    Attributes:
        name: The node's name.
        neuron: The neuron, whose temporal bias is written in place.
        currents: x of each micro-batch.
        expected: E[a], and what the pieces look like: one for each micro-batch, or one for all.
        values: Computes a, `[B, C, ...]`, of each piece; called where more than E[a] is read.
        samples: How many there are over all processes.
        reduce: Merges sums and counts over processes.
    """

    name: str
    neuron: IFNeuron
    currents: Sequence[Current]
    expected: Expected
    values: Callable[[], Sequence[Tensor]]
    samples: int
    reduce: Reduce

    @classmethod
    def of(
        cls,
        name: str,
        neuron: IFNeuron,
        currents: Sequence[Current],
        activations: Sequence[Tensor],
        samples: int,
        reduce: Reduce,
    ) -> "Layer":
        """A layer of which all activations are there; the arguments are those of `Layer`."""
        expected = Expected.of(activations, samples, reduce)
        return cls(name, neuron, currents, expected, lambda: activations, samples, reduce)

    @cached_property
    def activations(self) -> Sequence[Tensor]:
        """What the ANN has there, a of each piece, `[B, C, ...]`."""
        return self.values()

    @cached_property
    def theta(self) -> Tensor:
        """The threshold, float64 `[C]`."""
        return self.neuron.threshold.double()

    @property
    def top(self) -> Tensor:
        """The largest mean output, K * theta, float64 `[C]`."""
        return self.theta if self.neuron.levels == 1 else self.neuron.levels * self.theta

    @property
    def bottom(self) -> Tensor:
        """The smallest mean output, 0 unless the neuron is two-sided, float64 `[C]`."""
        return self.neuron.lowest * self.theta

    def count(self) -> int:
        """N, how many values a channel has over samples, space and processes."""
        return self.samples * self.expected.places

    def mean(self, counts: Tensor) -> Tensor:
        """The mean of theta * s, float64, from counts of spikes `[..., C]`."""
        return self.theta * counts / self.count()

    def target(self) -> Tensor:
        """E[a] clipped to what a mean output can be, float64 `[C]`."""
        return self.limited(self.expected.mean)

    def limited(self, means: Tensor) -> Tensor:
        """Clip `[..., C]` to what a mean output can be."""
        return torch.minimum(torch.maximum(means, self.bottom), self.top)

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
        device = self.neuron.threshold.device
        likes = (torch.empty_like(form, device=device) for form in self.expected.forms)
        return [self.neuron.rest(like.unsqueeze(0)) for like in likes]

    def mean_output(self, trains: Sequence[SpikeTrain]) -> Tensor:
        """The mean of theta * s over samples, space and steps, float64 `[C]`.

        With a leak the steps have their weights.
        """
        weights = self.neuron.weights()
        if weights is None:
            counts = [by_channel(train.counts()).sum(1, dtype=torch.int64) for train in trains]
        else:
            sums = [train.weighted(weights) for train in trains]
            counts = [by_channel(part).sum(1, dtype=torch.float64) for part in sums]
        emitted = self.reduce(torch.stack(counts).sum(0), "sum")
        return self.theta * emitted / (self.neuron.timesteps * self.count())

    def spike_counts(
        self, potentials: Sequence[Tensor], owed: Sequence[Tensor | None], bias: Tensor
    ) -> Tensor:
        """How many spikes each channel emits with `bias` `[C]` added, `[C]`."""
        threshold, added = (over(v, potentials[0]) for v in (self.neuron.threshold, bias))
        # on a CPU a look at the bias saves an addition; a GPU would stand still meanwhile
        biased = bias.device.type != "cpu" or bool(bias.any())
        counts = []
        for potential, back in zip(potentials, owed, strict=True):
            charged = potential + added if biased else potential
            counts.append(numbers(fired(self.neuron, charged, threshold, back)))
        return self.reduce(total(counts), "sum")


@dataclass(frozen=True)
class Aim:
    """What the steps of a layer shall have.

    Attributes:
        mean: The mean of theta * s[t] that errors are told from, float64 `[C]`, or `[T, C]`.
        wanted: (t, the leaky sum of E[theta * s] before it) -> what step t shall have, `[C]`.
        reads_emitted: Whether it reads that sum.
    """

    mean: Tensor
    wanted: Callable[[int, Tensor | float], Tensor]
    reads_emitted: bool = False

    @classmethod
    def even(cls, mean: Tensor) -> "Aim":
        """The same at every step."""
        return cls(mean, lambda t, emitted: mean)


@dataclass(frozen=True)
class Step:
    """One step of a layer, charged and without its bias.

    Attributes:
        layer: The layer.
        potentials: u0 of each piece, `[B, C, ...]`.
        owed: What the neurons may take back (`snn.neurons.integrate_and_fire.Carried`), or None.
        wanted: The mean that theta * s[t] shall have, float64 `[C]`.
        counts: The spikes with the present bias, `[C]`.
        bias: The present bias, `[C]`.
        silent: Whether a channel has emitted nothing in all, `[C]`; None where it cannot matter.
    """

    layer: Layer
    potentials: Sequence[Tensor]
    owed: Sequence[Tensor | None]
    wanted: Tensor
    counts: Tensor
    bias: Tensor
    silent: Tensor | None = None


StepRule = Callable[[Step], Tensor]
"""Finds the bias of a step, `[C]`."""


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


def correct_step_by_step(layer: Layer, rule: StepRule, aim: Aim | None = None) -> Corrected:
    """Walk through the steps of a layer: charge, find b[t], fire with it, carry the membrane.

    At each step the membranes of all micro-batches are there, and nothing else of the layer. On a
    CPU each micro-batch is a piece, which stays in its cache; elsewhere all are one piece, so that
    the number of samples does not change how often something is launched.

    Args:
        layer: The layer; its neuron's temporal bias is written in place.
        rule: Finds b[t].
        aim: What it is found for; E[a] at every step if None.

    Returns:
        The spikes of each piece, and the errors.
    """
    neuron = layer.neuron
    aim = Aim.even(layer.target()) if aim is None else aim
    present = neuron.temporal_bias + neuron.step_charge
    height = over(neuron.threshold, layer.expected.forms[0])
    membranes = layer.rests()
    trains = [train_of(neuron, membrane) for membrane in membranes]
    owed = [torch.zeros_like(v) if neuron.remembers else None for v in membranes]
    silent: Tensor | None = None
    spent: Tensor | int = 0
    emitted: Tensor | float = 0.0
    before: list[Tensor] = []
    after: list[Tensor] = []
    for t in range(neuron.timesteps):
        layer.charge(membranes, t)
        before.append(layer.spike_counts(membranes, owed, present[t]))
        if neuron.remembers:
            silent = torch.zeros_like(before[-1]).eq(spent)
        wanted = aim.wanted(t, emitted)
        bias = rule(Step(layer, membranes, owed, wanted, before[-1], present[t], silent))
        torch.sub(bias, neuron.step_charge, out=neuron.temporal_bias[t])
        bias = neuron.temporal_bias[t] + neuron.step_charge
        counts = []
        for membrane, train, back in zip(membranes, trains, owed, strict=True):
            membrane += over(bias, membrane)
            spikes = fired(neuron, membrane, height, back)
            neuron.settle(membrane, height, back, spikes)
            train.write(t, spikes)
            counts.append(numbers(spikes))
        after.append(layer.reduce(total(counts), "sum"))
        if aim.reads_emitted:
            emitted = neuron.leak * emitted + layer.mean(after[-1])
        if neuron.remembers:
            spent = spent + after[-1]
    means = layer.mean(torch.stack(before + after)).view(2, neuron.timesteps, -1)
    return trains, LayerError(*_distance(means, aim.mean))


def _distance(means: Tensor, target: Tensor) -> Tensor:
    """Of the means `[..., T, C]` from the target, averaged over channels, `[..., T]`."""
    return (means - target).abs().mean(-1).float()
