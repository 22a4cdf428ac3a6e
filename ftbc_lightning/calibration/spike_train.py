"""The spikes of a layer as bits, or as numbers of one byte where a step has several."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from ftbc_lightning.snn.neurons.integrate_and_fire import IFNeuron


class SpikeTrain:
    """Spikes of one layer for a few samples, eight steps to a byte.

    Args:
        membrane: Of that layer, `[B, C, ...]`: the bytes are stored on its device and in its
            memory layout, which the convolutions behind the layer then keep.
        timesteps: T.

    >>> train = SpikeTrain(torch.zeros(1, 2), 9)
    >>> train.write(8, torch.tensor([[True, False]]))
    >>> one = torch.ones(())
    >>> train.step(8, one).tolist(), train.step(0, one).tolist(), train.counts().tolist()
    ([[1.0, 0.0]], [[0.0, 0.0]], [[1, 0]])
    """

    def __init__(self, membrane: Tensor, timesteps: int) -> None:
        self.timesteps = timesteps
        self.bytes = [
            torch.zeros_like(membrane, dtype=torch.uint8) for _ in range(-(-timesteps // 8))
        ]

    def write(self, t: int, spikes: Tensor) -> None:
        """Store the spikes of a step, 0 and 1 in any type, `[B, C, ...]`; each step once."""
        if spikes.dtype != torch.uint8:  # by way of int8: a float becomes one six times as slowly
            spikes = spikes.to(torch.int8).view(torch.uint8)
        self.bytes[t // 8].add_(spikes, alpha=1 << t % 8)

    def split(self, sizes: Sequence[int]) -> list["SpikeTrain"]:
        """The spikes of the samples in parts; they share their memory."""
        if len(sizes) == 1:
            return [self]
        parts = []
        for pieces in zip(*(torch.split(whole, list(sizes)) for whole in self.bytes), strict=True):
            part = copy.copy(self)
            part.bytes = list(pieces)
            parts.append(part)
        return parts

    def step(self, t: int, amplitude: Tensor) -> Tensor:
        """The spikes of a step, each as high as `amplitude`, which broadcasts: `[B, C, ...]`."""
        bit = 1 << t % 8
        return (self.bytes[t // 8] & bit).to(amplitude.dtype).mul_(amplitude / bit)

    def steps(self, start: int, number: int, amplitude: Tensor) -> Tensor:
        """The same for several steps of one byte, `[number * B, C, ...]`."""
        if number == 1:
            return self.step(start, amplitude)
        whole = self.bytes[start // 8]
        places = torch.arange(start % 8, start % 8 + number, device=whole.device, dtype=whole.dtype)
        bits = (whole >> places.view(-1, *(1,) * whole.ndim)) & 1
        return (bits * amplitude).flatten(0, 1)

    def counts(self) -> Tensor:
        """How often each neuron fired, int16 `[B, C, ...]`."""
        counts = torch.zeros_like(self.bytes[0], dtype=torch.int16)
        for t in range(self.timesteps):
            counts += (self.bytes[t // 8] >> t % 8) & 1
        return counts

    def weighted(self, weights: Tensor) -> Tensor:
        """The sum over the steps of c[t] * s[t], `[B, C, ...]`.

        Args:
            weights: c, `[T]`.
        """
        sums = torch.zeros_like(self.bytes[0], dtype=weights.dtype)
        for t, weight in enumerate(weights.unbind()):
            sums += weight * ((self.bytes[t // 8] >> t % 8) & 1)
        return sums


class LevelTrain(SpikeTrain):
    """The same for neurons that emit several spikes in a step, or negative ones: a byte a step."""

    def __init__(self, membrane: Tensor, timesteps: int) -> None:
        self.timesteps = timesteps
        self.bytes = [torch.empty_like(membrane, dtype=torch.int8) for _ in range(timesteps)]

    def write(self, t: int, spikes: Tensor) -> None:
        """Store the spikes of a step, -128 to 127."""
        self.bytes[t].copy_(spikes)

    def step(self, t: int, amplitude: Tensor) -> Tensor:
        """See `SpikeTrain.step`."""
        return self.bytes[t] * amplitude

    def steps(self, start: int, number: int, amplitude: Tensor) -> Tensor:
        """See `SpikeTrain.steps`."""
        return torch.cat([self.step(t, amplitude) for t in range(start, start + number)])

    def counts(self) -> Tensor:
        """How many spikes each neuron emitted in all, int16 `[B, C, ...]`."""
        counts = torch.zeros_like(self.bytes[0], dtype=torch.int16)
        for spikes in self.bytes:
            counts += spikes
        return counts

    def weighted(self, weights: Tensor) -> Tensor:
        """See `SpikeTrain.weighted`."""
        sums = torch.zeros_like(self.bytes[0], dtype=weights.dtype)
        for spikes, weight in zip(self.bytes, weights.unbind(), strict=True):
            sums += weight * spikes
        return sums


def train_of(neuron: IFNeuron, membrane: Tensor) -> SpikeTrain:
    """Room for the spikes of a neuron with this membrane, `[B, C, ...]`."""
    return (SpikeTrain if neuron.binary else LevelTrain)(membrane, neuron.timesteps)
