"""What several calibrations have in common is found once, and is the same to the bit."""

import pytest
import torch

from ftbc_lightning import calibrate
from ftbc_lightning.calibration import CalibrationSamples, CalibrationSettings
from ftbc_lightning.graph.tracing import trace
from ftbc_lightning.snn.conversion import observe_activations, prepare, set_thresholds
from ftbc_lightning.snn.network import sibling
from ftbc_lightning.snn.thresholds import ThresholdSettings
from ftbc_lightning.training.calibration_draw import CalibrationDraw
from tests.networks import residual_net, samples

SIZES = (24, 16)
METHODS = ("exact", "static", "iterative", "potential+exact", "weights+exact", "none")


def counted_calls(reference):
    """The batch sizes that the ANN's first layer is given from now on."""
    found = []
    reference.conv1.register_forward_pre_hook(lambda module, args: found.append(len(args[0])))
    return found


def state(snn, outcome):
    errors = [
        part
        for found in outcome.errors.values()
        for error in found
        for part in vars(error).values()
    ]
    return [*snn.state_dict().values(), *errors]


@pytest.mark.parametrize("method", METHODS)
def test_networks_calibrated_together_are_those_calibrated_alone(method):
    net, images = residual_net(), samples(40)
    batches = images.split(SIZES)
    reference = trace(net)
    structure = prepare(net, images[:1], timesteps=1)
    draw = CalibrationDraw(
        *(reference, structure, batches),
        thresholds=ThresholdSettings(),
        corrections=CalibrationSettings(rounds=2),
    )
    for timesteps in (4, 2):
        for before in ("exact", method):  # what an earlier calibration has left must not matter
            together = sibling(structure, timesteps=timesteps, own_layers=True)
            outcome, _ = draw.calibrate(together, before)
        alone = prepare(net, images[:1], timesteps=timesteps)
        set_thresholds(net, alone, observe_activations(net, alone, batches))
        expected = calibrate(net, alone, batches, method=method, rounds=2)
        pairs = zip(state(together, outcome), state(alone, expected), strict=True)
        assert all(torch.equal(first, second) for first, second in pairs)


@pytest.mark.parametrize(
    ("method", "passes"), [("exact", 1), ("iterative", 1), ("potential+exact", 3)]
)
def test_the_ann_runs_once_for_the_means_of_all_networks(method, passes):
    net, images = residual_net(), samples(40)
    reference = trace(net)
    structure = prepare(net, images[:1], timesteps=1)
    statistics = observe_activations(reference, structure, [images])
    shared = CalibrationSamples(reference, images.split(SIZES))
    found = counted_calls(reference)
    for timesteps in (2, 4):
        snn = sibling(structure, timesteps=timesteps, own_layers=True)
        set_thresholds(reference, snn, statistics)
        calibrate(reference, snn, shared, method=method, rounds=2)
    assert sum(found) == passes * len(images)  # `potential` reads activations, in a pass a network


def test_samples_of_another_network_are_refused():
    net, images = residual_net(), samples(8)
    snn = prepare(net, images[:1], timesteps=2)
    set_thresholds(net, snn, observe_activations(net, snn, [images]))
    with pytest.raises(ValueError, match="another ANN"):
        calibrate(net, snn, CalibrationSamples(trace(net), [images]))
