"""Static bias: one bias for each channel, the same at every step."""

import torch
from torch import Tensor

from ftbc_lightning.snn.calibration.layer import Layer, LayerError


def static(layer: Layer) -> tuple[list[Tensor], LayerError]:
    """Correct the mean over all steps with one bias for each channel.

        b[c] = E[a] - E[mean over t of theta * s[t]],   b[t, c] = b[c]

    The bias of SNN Calibration's light pipeline (Li et al., ICML 2021), with E[a] clipped to
    [0, theta]. E runs over pictures and space.
    """
    neuron = layer.neuron
    target = layer.target()
    neuron.temporal_bias.zero_()
    before = _means(layer, [neuron(current)[0] for current in layer.currents])
    neuron.temporal_bias.copy_((target - before.mean(0)).expand_as(neuron.temporal_bias))
    outputs = [neuron(current)[0] for current in layer.currents]
    after = _means(layer, outputs)
    errors = [(mean - target).abs().mean(1).float() for mean in (before, after)]
    return outputs, LayerError(*errors)


def unbiased(layer: Layer) -> tuple[list[Tensor], LayerError]:
    """Leave the temporal bias as it is: the stage after corrected weights may be none."""
    outputs = [layer.neuron(current)[0] for current in layer.currents]
    error = (_means(layer, outputs) - layer.target()).abs().mean(1).float()
    return outputs, LayerError(error, error)


def _means(layer: Layer, outputs: list[Tensor]) -> Tensor:
    """E[theta * s[t]] for each step and channel, float64 `[T, C]`."""
    counts = [(o != 0).transpose(1, 2).flatten(2).sum(2, dtype=torch.int64) for o in outputs]
    total = layer.reduce(torch.stack(counts).sum(0), "sum")
    return layer.neuron.threshold.double() * total / layer.count()
