"""Round trips through safetensors, and the NumPy reader whose text is in the documentation."""

import json
import re
from collections import OrderedDict

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import nn

from ftbc_lightning import UserError, calibrate, convert, export, load, simulate
from ftbc_lightning.interchange import describe
from ftbc_lightning.interchange.description import ATTRIBUTES, TENSORS
from tests.conftest import ROOT
from tests.graph.test_max_pooling import net as pooled_net
from tests.networks import residual_net, samples
from tests.snn.test_threshold_folding import Grouped


class Rearranged(nn.Module):
    """Everything that moves values about: chunk, shuffle, pad, slice, concat, scale, batch norm."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 4, 2, padding="same")
        self.norm = nn.BatchNorm2d(4)
        self.shuffle = nn.ChannelShuffle(2)
        self.last = nn.Linear(4 * 9, 3)
        self.register_buffer("factor", torch.tensor([1.0, 2.0, 0.5, 1.5]).view(4, 1, 1))

    def forward(self, x):
        x = torch.relu(self.first(x - 0.1))
        left, right = x.chunk(2, dim=1)
        x = self.shuffle(torch.cat([left, 2 * right], 1))
        x = torch.relu(self.norm(torch.relu(x * self.factor) - x / 3))
        x = nn.functional.pad(x[:, 1:, ::2, ::2], (0, 0, 0, 0, 1, 0))
        return self.last(x.permute(0, 2, 3, 1).reshape(x.size(0), -1))


def uneven(size):
    """Adaptive average pooling to a size that does not divide that of the sample, 6."""
    torch.manual_seed(0)
    layers = {
        "first": nn.Conv2d(2, 4, 3, padding=1),
        "relu": nn.ReLU(),
        "pool": nn.AdaptiveAvgPool2d(size),
        "second": nn.Conv2d(4, 3, 3),
        "flatten": nn.Flatten(),
    }
    return nn.Sequential(OrderedDict(layers)).double().eval()


def networks():
    torch.manual_seed(0)
    return {
        "residual": residual_net(),
        "pooled": pooled_net(),
        "grouped": Grouped().double().eval(),
        "rearranged": Rearranged().double().eval(),
        "uneven": uneven(4),
        "upsampled": uneven((7, 9)),
    }


def calibrated(ann, images, timesteps=4, **settings):
    snn = convert(ann, images[:1], [images], timesteps=timesteps, **settings)
    calibrate(ann, snn, [images])
    return snn


def numpy_reader(version=1):
    """The code blocks of the page, as they stand there; those of version 2 are the last."""
    blocks = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "reference" / "safetensors.md").read_text(), re.S
    )
    reader: dict = {}
    for block in blocks[: version + 1]:
        exec(block, reader)
    return reader, blocks


@pytest.mark.parametrize("name", list(networks()))
def test_a_loaded_network_and_the_numpy_reader_give_the_same_logits(name, tmp_path):
    ann, images = networks()[name], samples(12)
    snn = calibrated(ann, images)
    expected = simulate(snn, images)
    path = export(snn, tmp_path / "snn.safetensors")
    torch.testing.assert_close(simulate(load(path), images), expected, rtol=0, atol=1e-10)
    reader, _ = numpy_reader()
    logits = reader["logits"](*reader["read"](path), images.numpy())
    np.testing.assert_allclose(logits, expected.numpy(), rtol=0, atol=1e-10)


def test_the_numpy_reader_gives_a_float32_residual_network_to_1e_5(tmp_path):
    snn = calibrated(residual_net(dtype=torch.float32), samples(8, dtype=torch.float32))
    # not the calibration samples: "exact" cuts between two membranes of theirs, which may be close
    images = samples(8, seed=2, dtype=torch.float32)
    reader, blocks = numpy_reader()
    path = export(snn, tmp_path / "snn.safetensors")
    logits = reader["logits"](*reader["read"](path), images.numpy())
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, simulate(snn, images).numpy(), rtol=0, atol=1e-5)
    assert len([line for line in blocks[0].splitlines() if line.strip()]) <= 40


@pytest.mark.parametrize("half_threshold", ["per_step", "none"])
def test_every_form_of_the_half_threshold_survives(half_threshold, tmp_path):
    images = samples(8)
    snn = calibrated(residual_net(), images, half_threshold=half_threshold)
    twin = load(export(snn, tmp_path / "snn.safetensors"))
    torch.testing.assert_close(simulate(twin, images), simulate(snn, images), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["residual", "uneven"])
def test_a_loaded_network_is_exported_to_the_same_file(name, tmp_path):
    snn = calibrated(networks()[name], samples(8))
    first = export(snn, tmp_path / "a.safetensors")
    second = export(load(first), tmp_path / "b.safetensors")
    assert first.read_bytes() == second.read_bytes()


def test_the_file_is_opened_by_safetensors_and_says_what_it_is(tmp_path):
    path = export(calibrated(residual_net(), samples(8)), tmp_path / "snn.safetensors")
    with safe_open(path, framework="np") as file:
        header = json.loads(file.metadata()["ftbc-snn"])
        assert file.get_tensor("act2.temporal_bias").shape == (4, 6)
    assert header["neuron"]["order"] == ["charge", "bias", "fire", "reset"]
    assert header["format_version"] == 1
    for operation in header["operations"]:
        own = set(operation) - {"name", "op", "inputs", "shape"}
        assert own == {*ATTRIBUTES[operation["op"]], *TENSORS.get(operation["op"], ())}


def test_who_may_read_the_folder_may_read_the_file(tmp_path):
    path = export(calibrated(residual_net(), samples(8)), tmp_path / "snn.safetensors")
    (tmp_path / "other").touch()
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_the_network_that_is_exported_stays_as_it_is(tmp_path):
    images = samples(8)
    snn = calibrated(residual_net(), images)
    before = {key: value.clone() for key, value in snn.state_dict().items()}
    export(snn, tmp_path / "snn.safetensors")
    assert all(torch.equal(before[key], value) for key, value in snn.state_dict().items())


class Unusual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular")
        self.pool = nn.AvgPool2d(2, padding=1, count_include_pad=False)

    def forward(self, x):
        return self.pool(torch.relu(self.conv(x))).flatten(1)


def test_operations_without_a_place_in_the_file_are_named_all_at_once(tmp_path):
    snn = calibrated(Unusual().double().eval(), samples(4))
    with pytest.raises(UserError, match="2 of the operations") as caught:
        export(snn, tmp_path / "snn.safetensors")
    assert "conv (Conv2d): its padding is 'circular'" in str(caught.value)
    assert "pool (AvgPool2d): count_include_pad is false" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "There is no file"), (b"no", "cannot be read"), ("torch", "holds no spiking network")],
)
def test_a_file_that_is_no_network_is_refused_in_one_line(content, message, tmp_path):
    path = tmp_path / "snn.safetensors"
    if content == "torch":
        from safetensors.torch import save_file

        save_file({"a": torch.zeros(1)}, path)
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        load(path)


def test_wrong_settings_are_refused(tmp_path):
    snn = calibrated(residual_net(), samples(4))
    with pytest.raises(UserError, match="Format 'h5' is unknown"):
        export(snn, tmp_path / "a", format="h5")
    with pytest.raises(UserError, match="bias=mean is for nir alone"):
        export(snn, tmp_path / "a", bias="mean")
    with pytest.raises(UserError, match="There is no folder"):
        export(snn, tmp_path / "none" / "a")
    snn.input_shape = None
    with pytest.raises(UserError, match="give it as input_shape"):
        export(snn, tmp_path / "a")
    assert describe(snn, input_shape=(2, 6, 6)).timesteps == 4


def test_another_shape_than_the_networks_is_refused(tmp_path):
    ann, images = residual_net(), samples(4)
    snn = convert(ann, images[:1], [images], timesteps=2)
    with pytest.raises(UserError, match=r"converted for samples of \[2, 6, 6\]; leave it out"):
        export(snn, tmp_path / "x.safetensors", input_shape=(3, 9, 9))


def test_a_class_without_weights_keeps_its_bias_in_integers(tmp_path):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ReLU(), torch.nn.Linear(6, 3))
    with torch.no_grad():
        net[2].weight[1], net[2].bias[1] = 0, -0.44
    images = torch.rand(16, 4)
    snn = convert(net, images[:1], [images], timesteps=4)
    again = load(export(snn, tmp_path / "x.safetensors", bits=12))
    assert abs(float(simulate(again, images)[-1, 0, 1]) + 0.44) < 0.01


class Between(nn.Module):
    """Something between the neurons and the last layer."""

    def __init__(self, between, size):
        super().__init__()
        self.conv, self.between = nn.Conv2d(2, 4, 3, padding=1), between
        self.last = nn.Linear(size, 3)

    def forward(self, x):
        return self.last(self.between(torch.relu(self.conv(x))))


@pytest.mark.parametrize(
    "pool",
    [
        lambda x: F.avg_pool2d(x, 2),
        lambda x: F.max_pool2d(x, 2),
        lambda x: F.adaptive_avg_pool2d(x, 3),
        nn.AvgPool2d(2),
    ],
)
def test_a_pooling_over_the_channels_is_refused(pool, tmp_path):
    class Unbatched(nn.Module):
        def __init__(self):
            super().__init__()
            self.pool = pool

        def forward(self, x):
            return self.pool(x.mean(1)).flatten(1)

    net = Between(Unbatched(), 9).double()
    snn = convert(net, samples(1), [samples(4)], timesteps=2)
    with pytest.raises(UserError, match="pools over the channels"):
        export(snn, tmp_path / "x.safetensors")


def test_a_mean_over_four_axes_of_space(tmp_path):
    net = Between(lambda x: x.unflatten(2, (2, 3)).unflatten(4, (2, 3)).mean((2, 3, 4, 5)), 4)
    snn = convert(net.double(), samples(1), [samples(4)], timesteps=2)
    again = load(export(snn, tmp_path / "x.safetensors"))
    torch.testing.assert_close(simulate(again, samples(3)), simulate(snn, samples(3)))


def test_names_of_layers_that_look_like_those_of_tensors(tmp_path):
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)
            self.bn_scale, self.last = nn.Conv2d(4, 4, 1), nn.Linear(4 * 36, 3)

        def forward(self, x):
            y = self.bn_scale(self.bn(torch.relu(self.conv(x))))
            return self.last(torch.relu(y).flatten(1))

    net = Named().double()
    net(samples(20))
    snn = convert(net.eval(), samples(1), [samples(4)], timesteps=2)
    again = load(export(snn, tmp_path / "x.safetensors"))
    torch.testing.assert_close(simulate(again, samples(3)), simulate(snn, samples(3)))
