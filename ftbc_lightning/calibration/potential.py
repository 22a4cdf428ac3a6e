"""Start membranes for each neuron: what a channel's bias cannot see."""

import torch
from torch import Tensor

from ftbc_lightning.calibration.layer import Layer, correct_step_by_step
from ftbc_lightning.calibration.stage import Stage
from ftbc_lightning.calibration.static import as_it_is


def potential(layer: Layer) -> None:
    """Correct the start membrane of every neuron, at each place of each channel.

        v0 <- v0 + T / c[0] * (E[a] - E[mean over t of c[t] * theta * s[t]])

    E runs over samples alone, and a is clipped to what a mean output can be; c are the weights of
    the steps, 1 without a leak. A charge of T * e / c[0] adds e to the mean output over T steps,
    as far as the neuron can still follow. It costs one pass over the steps of the layer; the stage
    behind it finds the biases for the new membranes.

    Source: SNN Calibration (Li et al., ICML 2021), first half of the advanced pipeline. The
    released program divides the spikes by T twice; here the formula of the paper is used.

    Args:
        layer: The layer; its neuron's `membrane_correction` is written in place.
    """
    neuron = layer.neuron
    correction = neuron.membrane_correction
    assert correction is not None, "SpikingNetwork.correct_membranes makes room for it"
    correction.zero_()
    trains, _ = correct_step_by_step(layer, as_it_is)
    threshold = neuron.threshold.view(-1, *(1,) * (correction.ndim - 1))
    weights = neuron.weights()
    wanted = [neuron.limited(a) for a in layer.activations]
    counts = [train.counts() if weights is None else train.weighted(weights) for train in trains]
    samples = torch.tensor([sum(map(len, wanted))], device=correction.device)
    gap = _sum(wanted) - threshold.double() / neuron.timesteps * _sum(counts)
    mean = layer.reduce(gap, "sum") / layer.reduce(samples, "sum")
    correction.copy_(
        neuron.timesteps * mean if weights is None else neuron.timesteps / weights[0] * mean
    )


def _sum(parts: list[Tensor]) -> Tensor:
    """Over samples, float64 `[C, ...]`."""
    return torch.stack([part.sum(0, dtype=torch.float64) for part in parts]).sum(0)


STAGE = Stage("membranes", "potential", "potential", lambda settings: potential)
