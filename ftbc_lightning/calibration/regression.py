"""What a correction of the weights of a linear layer reads."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ftbc_lightning.snn.neurons.integrate_and_fire import IFNeuron
from ftbc_lightning.snn.statistics import Reduce

Linear = nn.Linear | nn.Conv1d | nn.Conv2d


@dataclass(frozen=True)
class Regression:
    """What the weights of a layer are found from.

    Attributes:
        module: The layer, whose weights are changed in place.
        neuron: The neuron behind it; None where a function reads what it gives.
        means: For each micro-batch a function that gives the means over the steps of the layer's
            spiking input r, `[B, inputs, ...]`, and of the sum x that it is part of,
            `[B, outputs, ...]`.
        wanted: For each micro-batch z, what the ANN has in the place of x.
        first_half: For each micro-batch how many samples belong to the first half of all; they
            are in front (`ftbc_lightning.calibration.held_out`).
        number: How many samples there are over all processes.
        reduce: Merges sums over processes.
    """

    module: Linear
    neuron: IFNeuron | None
    means: Sequence[Callable[[], tuple[Tensor, ...]]]
    wanted: Sequence[Tensor]
    first_half: Sequence[int]
    number: int
    reduce: Reduce

    def rows(self) -> int:
        """How often an output of the layer is computed: samples times positions."""
        return self.number * channels_first(self.module, self.wanted[0])[0, 0].numel()

    def samples(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """(r, x, z) of each micro-batch, one at a time."""
        for means, z in zip(self.means, self.wanted, strict=True):
            r, x = means()
            yield r, x, z

    def clip(self, values: Tensor) -> Tensor:
        """Clip to K * [-theta/2, theta]: beyond it the neuron is silent or saturated anyway."""
        if self.neuron is None:
            return values
        top = self.neuron.top.view(-1, *(1,) * (values.ndim - 2))
        return torch.minimum(torch.maximum(values, -top / 2), top)


def channels_first(module: Linear, values: Tensor) -> Tensor:
    """What a layer reads or gives as `[B, C, ...]`: an `nn.Linear` has its channels last."""
    last = isinstance(module, nn.Linear) and values.ndim > 2
    return values.movedim(-1, 1).flatten(2) if last else values
