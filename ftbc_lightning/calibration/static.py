"""Static bias: one bias for each channel, the same at every step."""

from functools import partial

from torch import Tensor

from ftbc_lightning.calibration.layer import Layer, LayerError, Step, correct_step_by_step
from ftbc_lightning.calibration.spike_train import SpikeTrain
from ftbc_lightning.calibration.stage import Stage


def static(layer: Layer) -> tuple[list[SpikeTrain], LayerError]:
    """Correct the mean over all steps with one bias for each channel.

        b[c] = E[a] - E[mean over t of theta * s[t]],   b[t, c] = b[c]

    The bias of SNN Calibration's light pipeline (Li et al., ICML 2021), with E[a] clipped to
    [0, K theta]. E runs over samples and space; with a leak the steps have their weights. Two
    passes over the steps of the layer: one to find the mean, one with the bias.
    """
    neuron = layer.neuron
    neuron.temporal_bias.zero_()
    trains, first = correct_step_by_step(layer, as_it_is)
    mean = layer.mean_output(trains)
    neuron.temporal_bias.copy_((layer.target() - mean).expand_as(neuron.temporal_bias))
    trains, last = correct_step_by_step(layer, as_it_is)
    return trains, LayerError(first.before, last.after)


def as_it_is(step: Step) -> Tensor:
    """Leave the bias of a step as it is."""
    return step.bias


NONE = Stage("biases", "", "", lambda settings: partial(correct_step_by_step, rule=as_it_is))
"""Leaves the temporal bias at zero."""

STAGE = Stage("biases", "static", "static bias", lambda settings: static, passes=2)
