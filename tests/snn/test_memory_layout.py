"""Weights lie as samples do, once; nothing else of them changes."""

import pytest
import torch
from torch import nn

from ftbc_lightning import (
    FrozenNetwork,
    TrainableNetwork,
    calibrate,
    conversion_map,
    convert,
    export,
    load,
    reconvert,
    simulate,
)
from ftbc_lightning.snn import memory_layout
from ftbc_lightning.snn.early_exit import simulate_until_sure
from ftbc_lightning.snn.stepping import SteppedNetwork
from tests.networks import residual_net, samples


def layouts(network):
    """Where the weights of convolutions with several places lie, and whether channels last."""
    kernels = [m.weight for m in network.modules() if isinstance(m, nn.Conv2d)]
    wide = [weight for weight in kernels if weight[0, 0].numel() > 1 and weight.shape[1] > 1]
    assert wide
    return [
        (w.data_ptr(), w.is_contiguous(memory_format=torch.channels_last), w.is_contiguous())
        for w in wide
    ]


@pytest.fixture
def network():
    ann, images = residual_net(dtype=torch.float32), samples(8, dtype=torch.float32)
    return ann, convert(ann, images[:1], [images], timesteps=3), images


def test_a_simulation_stores_weights_once_and_gives_the_same_bits(network, monkeypatch):
    ann, snn, images = network
    before = {name: value.clone() for name, value in snn.state_dict().items()}
    with monkeypatch.context() as patch:
        patch.setattr("ftbc_lightning.snn.simulation.lay_out_weights", lambda *given: None)
        expected = simulate(snn, images)
    with torch.inference_mode():
        found = simulate(snn, images)
    assert torch.equal(found, expected)
    stored = layouts(snn.layers)
    assert all(channels_last for _, channels_last, _ in stored)
    simulate(snn, images)
    calibrate(ann, snn, [images])
    assert layouts(snn.layers) == stored
    for name, value in before.items():
        if "weight" in name:
            assert torch.equal(snn.state_dict()[name], value)
    assert all(contiguous for *_, contiguous in layouts(ann))


class Viewing(nn.Module):
    """Joins axes by a view, which what is stored channels last does not allow."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(2, 8, 3), nn.Conv2d(8, 8, 3)
        self.linear = nn.Linear(8 * 4, 3)

    def forward(self, x):
        x = self.conv2(self.conv1(x).relu()).relu()
        return self.linear(x.view(x.size(0), -1))


@pytest.mark.parametrize("kind", [lambda snn: snn, FrozenNetwork], ids=["plain", "frozen"])
def test_a_network_that_views_runs_step_by_step_after_a_simulation(kind):
    torch.manual_seed(0)
    ann, images = Viewing().eval(), samples(5, dtype=torch.float32)
    snn = convert(ann, images[:1], [images], timesteps=3)
    expected = simulate(snn, images)
    network = kind(snn)
    torch.testing.assert_close(SteppedNetwork(network)(images), expected)
    sure, _ = simulate_until_sure(network, images, confidence=1)
    torch.testing.assert_close(sure, expected)


@pytest.mark.parametrize("format", ["safetensors", "nir", "onnx", "torch_export"])
def test_a_network_that_views_is_exported_after_a_simulation(format, tmp_path):
    ann, images = Viewing().eval(), samples(5, dtype=torch.float32)
    snn = convert(ann, images[:1], [images], timesteps=2)
    expected = simulate(snn, images)
    export(snn, tmp_path / "file", format=format)
    if format == "safetensors":
        torch.testing.assert_close(simulate(load(tmp_path / "file"), images), expected)


def test_where_channels_last_is_not_faster_they_are_stored_back(network, monkeypatch):
    _, snn, images = network
    expected = simulate(snn, images)
    monkeypatch.setattr(memory_layout, "channels_last_is_faster", lambda images: False)
    torch.testing.assert_close(simulate(snn, images), expected)
    assert all(contiguous for *_, contiguous in layouts(snn.layers))


def test_a_network_that_was_simulated_without_gradients_can_be_trained(network):
    _, snn, images = network
    with torch.inference_mode():
        simulate(snn, images)
    trained = TrainableNetwork(snn)
    trained(images)[-1].sum().backward()
    assert all(p.grad is not None for p in trained.parameters() if p.requires_grad)


def test_a_network_from_a_file_is_trained_with_the_bits_of_its_simulation():
    """Of one channel, whose samples lie either way, so that the weights decide."""
    torch.manual_seed(0)
    ann = nn.Sequential(
        *(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(32 * 16, 4)),
    ).eval()
    images = torch.rand(16, 1, 8, 8)
    snn = convert(ann, images[:1], [images], timesteps=4)
    calibrate(ann, snn, [images])
    fresh = reconvert(ann, conversion_map(snn))
    fresh.load_state_dict(snn.state_dict())
    trained = TrainableNetwork(fresh)
    stored = layouts(trained.snn.layers)
    assert all(channels_last for _, channels_last, _ in stored)
    assert torch.equal(trained(images), simulate(snn, images))
    assert layouts(trained.snn.layers) == stored
