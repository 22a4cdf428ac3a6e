"""What the mean output of each step is calibrated to: one line of `TARGETS` for each way."""

from collections.abc import Callable

import torch
from torch import Tensor

from ftbc_lightning.calibration.by_channel import by_channel, over, total
from ftbc_lightning.calibration.layer import Aim, Layer
from ftbc_lightning.graph.step_weights import leaky_sums

RAMP = 0.2
"""How much more the last step of a ramp has than the mean, and the first step less."""


def step(layer: Layer) -> Aim:
    """E[a] at every step: the paper's target."""
    return Aim.even(layer.target())


def cumulative(layer: Layer) -> Aim:
    """The mean of theta * s[0..t] meets E[a] after each step, whatever the steps before had.

    E[theta * s[t]] = n[t] * E[a] - leak * S[t-1], S the sums so far, n their weights
    (`ftbc_lightning.graph.step_weights`).
    """
    mean, leak = layer.target(), layer.neuron.leak
    ones = torch.ones(layer.neuron.timesteps, dtype=torch.float64)
    weights = leaky_sums(ones, leak).tolist()

    def wanted(t: int, emitted: Tensor | float) -> Tensor:
        return layer.limited(weights[t] * mean - leak * emitted)

    return Aim(mean, wanted, reads_emitted=True)


def ramp(layer: Layer) -> Aim:
    """Less at first and more at last, in a straight line: later spikes are better informed.

    E[theta * s[t]] = E[a] * (1 + r * (2 t - (T - 1)) / (T - 1)),   r = 0.2
    """
    last = max(layer.neuron.timesteps - 1, 1)
    mean = layer.target()
    rows = [
        mean * (1 + RAMP * (2 * t - (layer.neuron.timesteps - 1)) / last)
        for t in range(layer.neuron.timesteps)
    ]
    return _rows(layer.limited(torch.stack(rows)))


def ideal(layer: Layer) -> Aim:
    """The mean of the train that the neuron itself would fire on the constant current a.

    It starts half a threshold high, has no bias, and sees what the ANN has: what is left between
    this train and a is the coarseness of spikes alone.
    """
    neuron = layer.neuron
    theta = over(neuron.threshold, layer.activations[0])
    sums = []
    for a in layer.activations:
        current = neuron.limited(a)
        v = (theta / 2).expand_as(current).clone(memory_format=torch.preserve_format)
        owed = torch.zeros_like(v) if neuron.remembers else None
        means = []
        for _ in range(neuron.timesteps):
            v += current
            fired = neuron.fire(v, theta, owed)
            neuron.settle(v, theta, owed, fired)
            means.append(by_channel(fired).sum(1, dtype=torch.float64))
        sums.append(torch.stack(means))
    return _rows(layer.mean(layer.reduce(total(sums), "sum")))


def _rows(wanted: Tensor) -> Aim:
    rows = wanted.unbind()
    return Aim(wanted, lambda t, emitted: rows[t])


TARGETS: dict[str, Callable[[Layer], Aim]] = {
    "step": step,
    "cumulative": cumulative,
    "ramp": ramp,
    "ideal": ideal,
}
"""Every target of a step by its name."""

AUTO = "auto"
"""The target that is best for the neuron, as measured: `IFNeuron.target`."""

DEPENDS_ON_TIMESTEPS = ("ramp",)
"""Targets of which one for T steps is not the beginning of one for more steps."""


def aim_of(layer: Layer, target: str) -> Aim:
    """What the steps of a layer shall have."""
    return TARGETS[layer.neuron.target if target == AUTO else target](layer)
