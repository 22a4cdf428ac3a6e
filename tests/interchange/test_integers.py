"""Networks in integers: the file, the reader in whole numbers, and what is refused."""

import numpy as np
import pytest
import torch
from torch import nn

from ftbc_lightning import UserError, calibrate, convert, export, load, simulate
from ftbc_lightning.ann.resnet import ResNet20
from ftbc_lightning.interchange import describe
from ftbc_lightning.interchange.integers import integers
from ftbc_lightning.interchange.tensors_file import read_safetensors
from tests.interchange.test_neuron_models import header_of, pooled_net
from tests.interchange.test_safetensors import networks, numpy_reader
from tests.networks import residual_net, samples

T = 3


def resnet(shortcut):
    torch.manual_seed(0)
    return ResNet20(in_channels=2, shortcut=shortcut).double().eval()


def vgg():
    """Pooling in front of the first neurons, and behind a layer that reads spikes."""
    torch.manual_seed(0)
    layers = [
        *(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 1)),
        *(nn.AvgPool2d(3), nn.ReLU(), nn.Conv2d(4, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    ]
    return nn.Sequential(*layers).double().eval()


NETWORKS = {
    **{"residual": residual_net, "padded shortcut": lambda: resnet("pad")},
    **{"shortcut with weights": lambda: resnet("conv")},
    **{"pooled in time": pooled_net, "grouped": lambda: networks()["grouped"], "vgg": vgg},
}


def rounded(ann, images, bits=8, **settings):
    snn = convert(ann, images[:1], [images], timesteps=T, **settings)
    calibrate(ann, snn, [images], weight_bits=bits)
    return snn


@pytest.mark.parametrize("bits", [4, 8, 12])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_reader_in_integers_and_the_loaded_network_are_one(name, bits, tmp_path):
    images = samples(6)
    path = export(rounded(NETWORKS[name](), images, bits), tmp_path / "a.safetensors", bits=bits)
    reader, _ = numpy_reader(3)
    net, weights = reader["whole"](*reader["read"](path, 3))
    logits = reader["logits"](net, weights, images.numpy())
    np.testing.assert_allclose(logits, simulate(load(path), images), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
def test_between_the_first_rounding_and_the_logits_all_is_whole(name, tmp_path):
    images = samples(6)
    path = export(rounded(NETWORKS[name](), images), tmp_path / "a.safetensors", bits=8)
    reader, _ = numpy_reader(3)
    net, weights = reader["whole"](*reader["read"](path, 3))
    kinds = {}
    for kind, operate in list(reader["operations"].items()):

        def watched(o, w, *given, operate=operate):
            found = operate(o, w, *given)
            kinds[o["name"]] = (o["op"], given[0].dtype.kind, found.dtype.kind)
            return found

        reader["operations"][kind] = watched
    reader["logits"](net, weights, images.numpy())
    assert {end for op, _, end in kinds.values() if op in ("neuron", "round", "add")} == {"i"}
    real = [name for name, (_, begin, end) in kinds.items() if (begin, end) == ("i", "f")]
    assert real == [net["operations"][-1]["inputs"][0]]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_file_has_the_weights_that_the_calibration_rounded(name):
    images = samples(6)
    snn = rounded(NETWORKS[name](), images)
    description, tops = describe(snn), []
    found = integers(description, 8).named()
    for operation in description.operations:
        if operation.kind in ("conv", "linear"):
            weight = operation.tensors["weight"].flatten(1)
            steps = found[operation.name].tensors["weight"].flatten(1).double()
            unit = (weight * steps).sum(1) / steps.square().sum(1)
            torch.testing.assert_close(weight, steps * unit[:, None], rtol=0, atol=1e-9)
            tops.append(steps.abs().amax(1).max())
    assert max(tops) == 127


def test_16_bits_are_close_to_the_network_as_it_was(tmp_path):
    # not the calibration samples: "exact" cuts between two membranes of theirs, which may be close
    ann, images = residual_net(), samples(40, seed=2)
    snn = convert(ann, images[:1], [samples(64)], timesteps=4)
    calibrate(ann, snn, [samples(64)])
    twin = load(export(snn, tmp_path / "a.safetensors", bits=16))
    difference = (simulate(twin, images) - simulate(snn, images)).abs().amax((0, 2))
    assert (difference < 1e-3).float().mean() > 0.9


def test_signed_neurons_of_several_levels_fire_whole_numbers(tmp_path):
    images = samples(6)
    snn = rounded(residual_net(), images, neuron="signed", levels=2)
    path = export(snn, tmp_path / "a.safetensors", bits=8)
    reader, _ = numpy_reader(3)
    logits = reader["logits"](*reader["whole"](*reader["read"](path, 3)), images.numpy())
    np.testing.assert_allclose(logits, simulate(load(path), images), rtol=1e-12, atol=1e-12)


def test_the_header_and_the_tensors_tell_what_they_are(tmp_path):
    path = export(rounded(residual_net(), samples(6), 4), tmp_path / "a.safetensors", bits=4)
    header = header_of(path)
    assert header["format_version"] == 3
    assert (header["integers"]["weight_bits"], header["integers"]["shift"]) == (4, 8)
    description = read_safetensors(path)
    assert (description.weight_bits, description.shift) == (4, 8)
    named = description.named()
    assert named["conv2"].tensors["weight"].dtype == torch.int8
    assert named["act2"].tensors["temporal_bias"].dtype == torch.int32
    assert named["act2"].tensors["unit"].dtype == torch.float64


def test_a_loaded_network_of_integers_is_exported_as_it_is(tmp_path):
    images = samples(6)
    path = export(rounded(residual_net(), images), tmp_path / "a.safetensors", bits=8)
    again = export(load(path), tmp_path / "b.safetensors")
    assert header_of(again)["format_version"] == 3
    expected = simulate(load(path), images)
    torch.testing.assert_close(simulate(load(again), images), expected, rtol=0, atol=1e-12)


class Joined(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 3, 3), nn.Conv2d(3, 3, 1)
        self.narrow, self.last = nn.Conv2d(6, 2, 1), nn.Conv2d(2, 4, 1)

    def forward(self, x):
        x = torch.relu(self.first(x))
        x = torch.cat([x, torch.relu(self.second(x))], 1)
        return torch.relu(self.last(self.narrow(x))).flatten(1)


def test_what_has_no_integers_is_named(tmp_path):
    images = samples(6)
    snn = rounded(Joined().double().eval(), images)
    with pytest.raises(UserError, match="Integers cannot be had for 2 of the operations") as caught:
        export(snn, tmp_path / "a.safetensors", bits=8)
    assert "narrow (conv): a layer reads it, and it is not made of spikes alone" in str(
        caught.value
    )
    leaky = rounded(residual_net(), images, leak=0.8)
    with pytest.raises(UserError, match="neurons with a leak are no integers"):
        export(leaky, tmp_path / "a.safetensors", bits=8)
    assert list(tmp_path.iterdir()) == []


def test_a_bias_that_does_not_fit_is_refused(tmp_path):
    snn = rounded(residual_net(), samples(6))
    next(iter(snn.neurons().values())).temporal_bias[0, 0] = 1e9
    with pytest.raises(UserError, match="no place in 32 bits"):
        export(snn, tmp_path / "a.safetensors", bits=8)


@pytest.mark.parametrize("format", ["nir", "onnx", "torch_export"])
def test_other_formats_have_no_integers(format, tmp_path):
    snn = rounded(residual_net(), samples(6))
    with pytest.raises(UserError, match=f"the format {format} holds no integers"):
        export(snn, tmp_path / "a", format=format, bits=8)


@pytest.mark.parametrize("bits", [1, 17])
def test_bits_out_of_range_are_refused(bits, tmp_path):
    snn = rounded(residual_net(), samples(6))
    with pytest.raises(UserError, match=f"Weights of {bits} bits cannot be had"):
        export(snn, tmp_path / "a.safetensors", bits=bits)
