"""The signed neuron: a negative spike takes back what was emitted too early."""

from typing import ClassVar

import torch
from torch import Tensor

from ftbc_lightning.snn.neurons.integrate_and_fire import IFNeuron


class SignedNeuron(IFNeuron):
    """Integrate and fire with spikes of both signs, of which no more are taken back than were sent.

        u[t] = v[t-1] + x[t] + d + b[t]
        s[t] = floor(u[t] / theta) within -K .. K, and at least -(s[0] + .. + s[t-1])
        v[t] = leak * (u[t] - theta * s[t])

    A negative spike comes where u < 0. What has been emitted is never negative, so the mean output
    is that of a ReLU; unlike the neuron without a sign it forgets no spike that came too early.

    Cost on hardware beside `IFNeuron`: a second comparison and a counter a neuron, and spikes of
    two signs (2 bits for K = 1). A negative spike is one synaptic operation, as a positive one is.

    Source: signed neuron with memory (SNM, IJCAI 2022); for quantised networks ST-BIF (SpikeZIP-TF,
    ICML 2024). FTBC's b[t] on it, with the mean of the ideal train as target, is not published.

    >>> neuron = SignedNeuron(1, timesteps=3)
    >>> neuron.set_threshold(torch.tensor([1.0]), half_threshold="none")
    >>> spikes, _ = neuron(torch.tensor([1.0, -0.5, -1.0]).view(3, 1, 1))
    >>> spikes.flatten().tolist()
    [1.0, -1.0, 0.0]
    """

    fuses: ClassVar[bool] = True
    remembers: ClassVar[bool] = True
    below: ClassVar[int] = 1
    target: ClassVar[str] = "ideal"

    def fire(
        self, charged: Tensor, threshold: Tensor, owed: Tensor | None, out: Tensor | None = None
    ) -> Tensor:
        """How many spikes each neuron emits; `owed` is minus what it has emitted so far."""
        assert owed is not None
        spikes = torch.div(charged, threshold, out=out).floor_().clamp_(-self.levels, self.levels)
        return torch.maximum(spikes, owed, out=out)

    def crossings(self, charged: Tensor, owed: Tensor | None) -> list[Tensor]:
        """As for `IFNeuron`, with k = 1 - K .. K; infinity where s >= k whatever the membrane."""
        assert owed is not None
        theta = self.threshold.view(-1, *(1,) * (charged.ndim - 2))
        taken_back = [
            (charged + (1 - k) * theta).masked_fill(owed >= k, torch.inf)
            for k in range(1 - self.levels, 1)
        ]
        return [*taken_back, *super().crossings(charged, None)]
