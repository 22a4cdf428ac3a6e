"""The method as written on paper: one neuron call a step, whole passes, no shortcut.

Nothing of `ftbc_lightning.snn` is used here, so that the fast versions have something to equal.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn


class StepNeuron(nn.Module):
    """One integrate-and-fire step a call; with a sign, several levels and a leak if asked for."""

    signed, two_sided, levels, leak = False, False, 1, 1.0

    def __init__(self, threshold: Tensor, initial: Tensor, timesteps: int) -> None:
        super().__init__()
        self.threshold, self.initial = threshold, initial
        self.bias = threshold.new_zeros(timesteps, len(threshold))
        self.rest()

    def rest(self) -> None:
        self.membrane: Tensor | None = None
        self.emitted: Tensor | float = 0.0
        self.t = 0

    def forward(self, current: Tensor) -> Tensor:
        shape = (1, -1, *(1,) * (current.ndim - 2))
        if self.membrane is None:
            initial = self.initial.view(shape) if self.initial.ndim == 1 else self.initial
            self.membrane = initial.expand_as(current).clone()
        potential = self.membrane + current + self.bias[self.t].view(shape)
        spikes = self.spikes(potential, self.threshold.view(shape))
        self.emitted = self.emitted + spikes
        self.output = spikes * self.threshold.view(shape)
        self.membrane = self.leak * (potential - self.output)
        self.t += 1
        return self.output

    def spikes(self, potential: Tensor, threshold: Tensor) -> Tensor:
        """Counted upwards and downwards, a level at a time."""
        spikes = sum((potential >= k * threshold) * 1.0 for k in range(1, self.levels + 1))
        if self.signed:
            for k in range(self.levels):
                spikes = spikes - 1.0 * ((potential < -k * threshold) & (self.emitted > k))
        if self.two_sided:
            for k in range(self.levels):
                spikes = spikes - 1.0 * (potential < -k * threshold)
        return torch.as_tensor(spikes)


def spiking_copy(
    net: nn.Module, thresholds: Mapping[str, Tensor], timesteps: int, *, half: bool = True
) -> tuple[nn.Module, dict[str, StepNeuron]]:
    """A copy of the network with a `StepNeuron` in the place of each named activation."""
    snn = copy.deepcopy(net)
    neurons = {}
    for name, threshold in thresholds.items():
        neurons[name] = StepNeuron(threshold, threshold / 2 if half else 0 * threshold, timesteps)
        setattr(snn, name, neurons[name])
    return snn, neurons


@torch.no_grad()
def run(snn: nn.Module, neurons: Mapping[str, StepNeuron], images: Tensor, steps: int) -> Tensor:
    """Logits of each step, `[steps, B, classes]`, before any averaging."""
    for neuron in neurons.values():
        neuron.rest()
    return torch.stack([snn(images) for _ in range(steps)])


def read_out(outputs: Iterable[Tensor], leak: float) -> Tensor:
    """The logits of each step: what an output layer with a leak has added up, over its weight."""
    total, weight, logits = torch.zeros(()), 0.0, []
    for output in outputs:
        total, weight = leak * total + output, leak * weight + 1
        logits.append(total / weight)
    return torch.stack(logits)


@torch.no_grad()
def mean_activations(net: nn.Module, names: Sequence[str], images: Tensor) -> dict[str, Tensor]:
    """E[a] of each named activation for each channel."""
    means: dict[str, Tensor] = {}
    handles = [
        getattr(net, name).register_forward_hook(
            lambda module, args, output, name=name: means.__setitem__(name, _mean(output))
        )
        for name in names
    ]
    net(images)
    for handle in handles:
        handle.remove()
    return means


def _mean(values: Tensor) -> Tensor:
    return values.mean([axis for axis in range(values.ndim) if axis != 1])


@torch.no_grad()
def iterative(
    net: nn.Module,
    snn: nn.Module,
    neurons: Mapping[str, StepNeuron],
    batches: Sequence[Tensor],
    *,
    alpha: float,
    timesteps: int,
    cumulative: bool = False,
) -> None:
    """FTBC's heuristic with 2 * L * T sets of whole passes a batch."""
    for images in batches:
        for name, neuron in neurons.items():
            emitted = torch.zeros_like(neuron.threshold)
            for t in range(timesteps):
                target = mean_activations(net, list(neurons), images)[name]
                target = torch.minimum(target.clamp_min(0), neuron.threshold)
                if cumulative:
                    missing = ((t + 1) * target - emitted).clamp_min(0)
                    target = torch.minimum(missing, neuron.threshold)
                run(snn, neurons, images, t + 1)
                neuron.bias[t] -= alpha * (_mean(neuron.output) - target)
                run(snn, neurons, images, t + 1)
                emitted += _mean(neuron.output)
