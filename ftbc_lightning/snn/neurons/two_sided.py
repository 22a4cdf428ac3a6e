"""The two-sided neuron: it encodes a value of either sign."""

from typing import ClassVar

import torch
from torch import Tensor

from ftbc_lightning.snn.neurons.integrate_and_fire import IFNeuron


class TwoSidedNeuron(IFNeuron):
    """Integrate and fire with spikes of both signs, for a value that may have either.

        u[t] = v[t-1] + x[t] + d + b[t]
        s[t] = floor(u[t] / theta) within -K .. K
        v[t] = leak * (u[t] - theta * s[t])

    It stands before a layer with weights that would read no spikes else, and stands for no ReLU:
    its mean output is the mean of x rounded and clipped to -K * theta .. K * theta. With v0 at
    half a threshold it rounds to the nearest.

    Cost on hardware beside `IFNeuron`: a second comparison, and spikes of two signs.

    Source: the ternary neuron of SpikeZIP-TF (ST-BIF, ICML 2024) without its counter.

    >>> neuron = TwoSidedNeuron(1, timesteps=3)
    >>> neuron.set_threshold(torch.tensor([1.0]), half_threshold="initial")
    >>> spikes, _ = neuron(torch.tensor([-0.7, -0.7, 2.0]).view(3, 1, 1))
    >>> spikes.flatten().tolist()
    [-1.0, 0.0, 1.0]
    """

    fuses: ClassVar[bool] = True
    below: ClassVar[int] = 1
    target: ClassVar[str] = "ideal"

    def fire(
        self, charged: Tensor, threshold: Tensor, owed: Tensor | None, out: Tensor | None = None
    ) -> Tensor:
        """How many spikes each neuron emits."""
        return torch.div(charged, threshold, out=out).floor_().clamp_(-self.levels, self.levels)

    def crossings(self, charged: Tensor, owed: Tensor | None) -> list[Tensor]:
        """As for `IFNeuron`, with k = 1 - K .. K."""
        theta = self.threshold.view(-1, *(1,) * (charged.ndim - 2))
        taken = [charged + (1 - k) * theta for k in range(1 - self.levels, 1)]
        return [*taken, *super().crossings(charged, None)]
