"""Packed weights, and the frozen network that has them: the same bits in less time."""

import copy
import pickle
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ftbc_lightning import FrozenNetwork, UserError, calibrate, convert, simulate
from ftbc_lightning.snn import packed_weights
from ftbc_lightning.snn.early_exit import simulate_until_sure
from ftbc_lightning.snn.packed_weights import PackedConv2d, can_be_packed
from tests.networks import residual_net, samples

KINDS = {
    "plain": nn.Conv2d(8, 16, 3, padding=1),
    "strided": nn.Conv2d(8, 16, 3, stride=2, bias=False),
    "dilated": nn.Conv2d(8, 16, 3, dilation=(2, 1), padding=(0, 2)),
    "grouped": nn.Conv2d(8, 16, 3, groups=4),
    "depthwise": nn.Conv2d(8, 8, 3, groups=8),
    "point": nn.Conv2d(8, 16, 1),
}


@pytest.fixture
def network():
    ann, images = residual_net(dtype=torch.float32), samples(40, dtype=torch.float32)
    snn = convert(ann, images[:1], [images], timesteps=12)
    calibrate(ann, snn, [images])
    return snn, images


@pytest.fixture
def packed(monkeypatch):
    """Layers that have been packed since."""
    made = []

    def packing(layer):
        made.append(PackedConv2d(layer))
        return made[-1]

    monkeypatch.setattr(packed_weights, "PackedConv2d", packing)
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_a_packed_layer_gives_the_bits_of_the_layer(kind):
    layer, inputs = KINDS[kind], torch.randn(16, 8, 9, 9)
    assert can_be_packed(layer)
    with torch.no_grad():
        twin = PackedConv2d(layer)
        torch.testing.assert_close(twin(inputs), layer(inputs))
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        assert torch.equal(twin(inputs), layer(inputs))
    assert repr(twin) == repr(layer).replace("Conv2d", "PackedConv2d")


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(2, 2, 3, padding="same"),
        nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(2, 2, 3).double(),
        nn.Conv1d(2, 2, 3),
        nn.ConvTranspose2d(2, 2, 3),
        type("Own", (nn.Conv2d,), {})(2, 2, 3),
    ],
    ids=["same", "reflect", "float64", "1-D", "transposed", "own class"],
)
def test_other_layers_stay_as_they_are(layer):
    assert not can_be_packed(layer)


@pytest.mark.filterwarnings("ignore:TF32 acceleration")
def test_layers_that_are_watched_or_run_in_half_precision_stay_as_they_are():
    layer = nn.Conv2d(2, 2, 3)
    assert can_be_packed(layer)
    with torch.autocast("cpu", torch.bfloat16):
        assert not can_be_packed(layer)
    with torch.backends.mkldnn.flags(enabled=False):
        assert not can_be_packed(layer)
    layer.register_forward_hook(lambda *given: None)
    assert not can_be_packed(layer)


def test_a_frozen_network_gives_the_logits_of_the_network_that_was_frozen(network, packed):
    snn, images = network
    expected = simulate(snn, images), simulate(snn, images[:1], 3)
    frozen = FrozenNetwork(snn)
    number = len(packed)
    assert number
    with torch.no_grad():
        snn.layers.get_parameter("conv1.weight").zero_()
        snn.neurons()["act1"].temporal_bias.fill_(1)
    for _ in range(2):
        torch.testing.assert_close(simulate(frozen, images), expected[0])
        torch.testing.assert_close(simulate(frozen, images[:1], 3), expected[1])
    assert len(packed) == number


def test_a_frozen_network_stops_early_as_the_network_does(network):
    snn, images = network
    middle = float(simulate(snn, images).softmax(-1).amax(-1)[3].median())
    expected, steps = simulate_until_sure(snn, images, confidence=middle)
    found, own = simulate_until_sure(FrozenNetwork(snn), images, confidence=middle)
    torch.testing.assert_close(found, expected)
    assert torch.equal(own, steps)
    assert len(steps.unique()) > 1


@pytest.mark.parametrize("neuron", [{"levels": 2}, {"neuron": "signed"}, {"leak": 0.8}])
def test_neurons_of_other_kinds_are_frozen_too(neuron):
    ann, images = residual_net(), samples(6)
    snn = convert(ann, images[:1], [images], timesteps=4, **neuron)
    assert torch.equal(simulate(FrozenNetwork(snn), images), simulate(snn, images))


class Tied(nn.Module):
    """An autoencoder whose decoder reads the encoder's weights."""

    def __init__(self):
        super().__init__()
        self.encoder, self.head = nn.Conv2d(1, 4, 3), nn.Conv2d(1, 1, 3)

    def forward(self, x):
        x = self.encoder(x).relu()
        return self.head(F.conv_transpose2d(x, self.encoder.weight).relu())


def test_a_layer_whose_weights_are_read_elsewhere_stays_as_it_is(packed):
    ann, images = Tied().eval(), samples(6, dtype=torch.float32)[:, :1]
    snn = convert(ann, images[:1], [images], timesteps=3)
    torch.testing.assert_close(simulate(FrozenNetwork(snn), images), simulate(snn, images))
    assert [layer.in_channels for layer in packed] == [1]


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_frozen_network_is_not_copied(network, copied):
    with pytest.raises(UserError, match="freeze it there"):
        copied(FrozenNetwork(network[0]))


def test_a_frozen_network_does_not_run_in_half_precision(network):
    snn, images = network
    frozen = FrozenNetwork(snn)
    with torch.autocast("cpu", torch.bfloat16):
        for run in (simulate, partial(simulate_until_sure, confidence=0.9)):
            with pytest.raises(UserError, match="runs in float32, and autocast is on"):
                run(frozen, images)


def test_a_network_without_thresholds_is_not_frozen(network):
    snn, _ = network
    snn.neurons()["act1"].threshold.fill_(torch.nan)
    with pytest.raises(UserError, match="The thresholds of 1 of"):
        FrozenNetwork(snn)
