"""Calibrations for rounded weights: who is rounded when, and what the biases make good."""

import copy

import pytest
import torch

from ftbc_lightning import UserError, calibrate, convert, simulate
from ftbc_lightning.calibration.stages import STAGES
from ftbc_lightning.snn.threshold_folding import fold_thresholds
from ftbc_lightning.snn.weight_rounding import quantize_weights
from tests.networks import residual_net, samples

METHODS = ["none", "static", "exact", "iterative", "weights", "weights+exact", "potential+exact"]


def converted():
    ann, images = residual_net(), samples(64)
    return ann, convert(ann, images[:1], [images], timesteps=4), images


@pytest.mark.parametrize("method", [*METHODS, "backpropagation+exact"])
def test_every_method_leaves_whole_steps(method):
    ann, snn, images = converted()
    calibrate(ann, snn, [images], method=method, weight_bits=4, iterations=2)
    for name, weight in fold_thresholds(snn)[0].layers.named_parameters():
        if weight.ndim > 1:
            rows = weight.flatten(1)
            steps = rows / rows.abs().amax(1, keepdim=True) * 7
            torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-8, msg=name)


def test_without_a_weight_stage_the_weights_are_the_anns_rounded():
    ann, snn, images = converted()
    expected = quantize_weights(snn, 5)
    calibrate(ann, snn, [images], weight_bits=5)
    for (name, mine), other in zip(
        snn.layers.named_parameters(), expected.layers.parameters(), strict=True
    ):
        assert torch.equal(mine, other), name


def test_recalibration_brings_the_logits_of_each_step_nearer():
    ann, snn, images = converted()
    calibrate(ann, snn, [images])
    biases = {name: n.temporal_bias.clone() for name, n in snn.neurons().items()}
    before = quantize_weights(snn, 3)
    calibrate(ann, snn, [images], weight_bits=3)
    assert any(not torch.equal(biases[name], n.temporal_bias) for name, n in snn.neurons().items())
    activations = copy.deepcopy(ann).eval()(images)
    errors = [(simulate(s, images) - activations).square().mean((1, 2)) for s in (before, snn)]
    assert (errors[1] < errors[0]).all()


def test_recalibration_lessens_the_error_of_each_layer_and_step():
    ann, snn, images = converted()
    trace = calibrate(ann, snn, [images], weight_bits=3)
    for name, errors in trace.errors.items():
        assert (errors[-1].after < errors[-1].before).all(), name


def test_a_layer_is_corrected_before_it_is_rounded(monkeypatch):
    ann, snn, images = converted()
    seen = {}

    def make(settings):
        def correct(regression):
            seen[id(regression.module)] = regression.module.weight.clone()

        return correct

    stage = STAGES["weights"]
    monkeypatch.setitem(STAGES, "weights", type(stage)("weights", "weights", "weights", make))
    calibrate(ann, snn, [images], method="weights+exact", weight_bits=2)
    layers = dict(snn.layers.named_modules())
    corrected = [name for name in ("conv1", "conv2", "conv3") if id(layers[name]) in seen]
    assert corrected == ["conv2", "conv3"]
    for name in corrected:
        assert not torch.equal(seen[id(layers[name])], layers[name].weight)


def test_a_calibration_without_bits_undoes_the_rounding():
    ann, snn, images = converted()
    expected = copy.deepcopy(snn)
    calibrate(ann, expected, [images])
    calibrate(ann, snn, [images], weight_bits=4)
    calibrate(ann, snn, [images])
    assert torch.equal(simulate(snn, images), simulate(expected, images))


def test_16_bits_are_close_to_float():
    ann, snn, images = converted()
    calibrate(ann, snn, [images])
    twin = copy.deepcopy(snn)
    calibrate(ann, twin, [images], weight_bits=16)
    for mine, other in zip(snn.neurons().values(), twin.neurons().values(), strict=True):
        assert (mine.temporal_bias - other.temporal_bias).abs().mean() < 0.01


@pytest.mark.parametrize("bits", [1, 17])
def test_bits_out_of_range_are_refused_before_anything_is_done(bits):
    ann, snn, images = converted()
    with pytest.raises(UserError, match="choose 2 to 16"):
        calibrate(ann, snn, [images], weight_bits=bits)
