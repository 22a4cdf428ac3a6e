"""Weights that are computed at each call, or shared, become a layer's own."""

import pytest
import torch
import torch.nn.utils as utils
from torch import nn
from torch.nn.utils import parametrizations, prune

from ftbc_lightning import calibrate, convert, export, load, simulate
from ftbc_lightning.graph.tracing import trace


def pruned(layer):
    prune.random_unstructured(layer, "weight", 0.5)
    prune.l1_unstructured(layer, "weight", 0.3)
    return layer


COMPUTED = {
    "mask": pruned,
    "weight norm by a hook": utils.weight_norm,
    "spectral norm by a hook": utils.spectral_norm,
    "weight norm": parametrizations.weight_norm,
    "spectral norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated")
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("name", COMPUTED)
def test_computed_weights_are_converted_corrected_and_exported(name, norm, tmp_path):
    torch.manual_seed(0)
    layer = COMPUTED[name](nn.Conv2d(4, 4, 3, padding=1))
    first, last = nn.Conv2d(2, 4, 3, padding=1), nn.Linear(4 * 16, 3)
    between = [nn.BatchNorm2d(4)] * norm
    net = nn.Sequential(first, nn.ReLU(), layer, *between, nn.ReLU(), nn.Flatten(), last)
    images = torch.rand(16, 2, 4, 4)
    net(images).sum().backward()  # what is computed hangs on the graph of a training step
    expected = net.eval()(images).detach()
    torch.testing.assert_close(trace(net)(images), expected)
    snn = convert(net, images[:1], [images], timesteps=2)
    before = snn.layers.get_submodule("2").weight.clone()
    calibrate(net, snn, [images], method="weights+exact")
    assert not torch.equal(snn.layers.get_submodule("2").weight, before)
    again = load(export(snn, tmp_path / "net.safetensors"))
    torch.testing.assert_close(simulate(again, images), simulate(snn, images))
    assert torch.equal(net(images), expected)


def test_a_batch_norm_over_another_axis_than_the_layers_outputs_stays():
    torch.manual_seed(0)
    for outputs in (5, 6):
        net = nn.Sequential(nn.Linear(4, outputs), nn.BatchNorm1d(6), nn.ReLU(), nn.Flatten())
        images = 3 * torch.randn(20, 6, 4) + 1
        net(images)
        net.eval()
        torch.testing.assert_close(trace(net, images[:1])(images), net(images))
        assert convert(net, images[:1], [images], timesteps=2)(images).shape[:2] == (2, 20)
