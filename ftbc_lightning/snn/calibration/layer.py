"""One layer when the sweep has reached it: its neuron, its currents, the ANN's activations."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ftbc_lightning.snn.neuron import IFNeuron
from ftbc_lightning.snn.statistics import Reduce


def by_channel(values: Tensor) -> Tensor:
    """`[B, C, ...]` as `[C, N]` with N over batch and space."""
    return values.transpose(0, 1).flatten(1)


@dataclass
class Layer:
    """A neuron, what flows into it, and what the ANN has in its place.

    Attributes:
        name: The node's name.
        neuron: The neuron, whose temporal bias is written in place.
        currents: x for each micro-batch, `[T, B, C, ...]`.
        activations: a for each micro-batch, `[B, C, ...]`.
        reduce: Merges sums and counts over processes.
    """

    name: str
    neuron: IFNeuron
    currents: Sequence[Tensor]
    activations: Sequence[Tensor]
    reduce: Reduce

    def count(self) -> int:
        """N, how many values a channel has over pictures, space and processes."""
        own = sum(a.numel() // a.shape[1] for a in self.activations)
        device = self.neuron.threshold.device
        return int(self.reduce(torch.tensor([own], dtype=torch.int64, device=device), "sum"))

    def target(self) -> Tensor:
        """E[a] clipped to [0, theta], float64 `[C]`: beyond theta no spike train can reach it."""
        sums = [by_channel(a).sum(1, dtype=torch.float64) for a in self.activations]
        mean = self.reduce(torch.stack(sums).sum(0), "sum") / self.count()
        return torch.minimum(mean.clamp_min(0), self.neuron.threshold.double())

    def rests(self) -> list[Tensor]:
        """The membranes before the first step."""
        return [self.neuron.rest(current) for current in self.currents]

    def spike_counts(self, potentials: Sequence[Tensor], bias: Tensor) -> Tensor:
        """How many neurons of each channel reach theta with `bias` `[C]` added, `[C]`."""
        axes = (1,) * (potentials[0].ndim - 2)
        threshold, bias = self.neuron.threshold.view(-1, *axes), bias.view(-1, *axes)
        counts = []
        for potential in potentials:
            charged = potential + bias
            # Spikes as numbers: booleans take several times as long to add up.
            fired = torch.ge(charged, threshold, out=charged).unsqueeze(-1).flatten(2)
            counts.append(fired.sum(2).sum(0, dtype=torch.float64).long())
        return self.reduce(torch.stack(counts).sum(0), "sum")

    def fired(self, potential: Tensor, bias: Tensor) -> Tensor:
        """Which neurons of `[B, C, ...]` reach theta with `bias` `[C]` added, bool."""
        axes = (1,) * (potential.ndim - 2)
        return potential + bias.view(-1, *axes) >= self.neuron.threshold.view(-1, *axes)


StepRule = Callable[[Layer, Sequence[Tensor], Tensor, Tensor, Tensor], Tensor]
"""(layer, potentials u0 `[B, C, ...]`, wanted mean `[C]`, present mean `[C]`, present bias `[C]`)
-> new bias `[C]` of this step."""


@dataclass
class LayerError:
    """|E[theta s[t]] - E[a]|, averaged over channels, in the unit of the activation.

    Attributes:
        before: With the bias the layer had when it was reached, `[T]`.
        after: With the new bias, `[T]`.
    """

    before: Tensor
    after: Tensor


def correct_step_by_step(
    layer: Layer, rule: StepRule, *, cumulative: bool
) -> tuple[list[Tensor], LayerError]:
    """Walk through the steps of a layer: charge, find b[t], fire with it, carry the membrane.

    Args:
        layer: The layer; its neuron's temporal bias is written in place.
        rule: Finds b[t].
        cumulative: Aim at the mean of s[0..t], not of s[t] alone.

    Returns:
        theta * s of each micro-batch, `[T, B, C, ...]`, and the errors.
    """
    neuron = layer.neuron
    threshold = neuron.threshold.double()
    target, count = layer.target(), layer.count()
    membranes = layer.rests()
    outputs = [torch.empty_like(c, memory_format=torch.contiguous_format) for c in layer.currents]
    emitted = torch.zeros_like(target)
    before, after = [], []
    for t in range(neuron.timesteps):
        for membrane, current in zip(membranes, layer.currents, strict=True):
            membrane += current[t]
        present = neuron.temporal_bias[t] + neuron.step_charge
        mean = threshold * layer.spike_counts(membranes, present) / count
        before.append((mean - target).abs().mean())
        wanted = torch.minimum(((t + 1) * target - emitted).clamp_min(0), threshold)
        bias = rule(layer, membranes, wanted if cumulative else target, mean, present)
        neuron.temporal_bias[t].copy_(bias - neuron.step_charge)
        bias = neuron.temporal_bias[t] + neuron.step_charge
        for membrane, output in zip(membranes, outputs, strict=True):
            spikes = neuron.per_channel(neuron.threshold, output) * layer.fired(membrane, bias)
            membrane += neuron.per_channel(bias, output)
            membrane -= spikes
            output[t] = spikes
        mean = threshold * layer.spike_counts([o[t] for o in outputs], 0 * bias) / count
        after.append((mean - target).abs().mean())
        emitted += mean
    return outputs, LayerError(torch.stack(before).float(), torch.stack(after).float())
