"""Functions that are not linear, and encoders, in files: `load` and the NumPy reader agree."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ftbc_lightning import UserError, calibrate, convert, export, load, simulate
from ftbc_lightning.interchange import describe
from tests.graph.test_functions import FUNCTIONS, Through, built, heads
from tests.interchange.test_safetensors import numpy_reader
from tests.networks import transformer

MORE = {
    "GELU tanh": lambda: nn.GELU(approximate="tanh"),
    "log softmax": lambda: nn.LogSoftmax(1),
    "functions": lambda: lambda h: F.layer_norm(F.elu(h, 0.5), (8,)) + F.rms_norm(h, (8,)) ** 2,
    "group norm": lambda: lambda h: F.group_norm(F.softplus(h), 4, torch.arange(8.0, 16.0).to(h)),
    "einsum": lambda: lambda h: torch.einsum("B h q d, B h k d -> B h q k", heads(h), heads(h)),
    "a product": lambda: lambda h: h * torch.roll(h, 3, 1),
    "causal": lambda: lambda h: F.scaled_dot_product_attention(*[heads(h)] * 3, is_causal=True),
    "a mask": lambda: (
        lambda h: F.scaled_dot_product_attention(
            *[heads(h)] * 3, attn_mask=torch.eye(4, dtype=torch.bool, device=h.device).roll(1, 0)
        )
    ),
    "instance norm": lambda: Normed(),
    "tracked norm": lambda: Normed(track_running_stats=True),
    "ones that spread out": lambda: (
        lambda h: (h.unsqueeze(1) * torch.ones(1, 4, 1).to(h) - torch.zeros(4, 1).to(h)).sum(1)
    ),
    "new axes": lambda: lambda h: F.gelu(h[:, None, ..., None]).movedim((1, 3), (2, 1)).flatten(1),
    "large logits": lambda: lambda h: F.log_softmax(3000 * h, 1) / 3000,
    "mean over an axis": lambda: lambda h: F.gelu(heads(h)).mean(axis=2).flatten(1),
    "a share": lambda: lambda h: 1 / (1 + h),
}


class Normed(nn.Module):
    def __init__(self, **settings):
        super().__init__()
        self.norm = nn.InstanceNorm1d(4, affine=True, **settings)
        if settings:
            self.norm.running_mean.uniform_(-1, 1)

    def forward(self, h):
        return self.norm(h.view(-1, 4, 2))


HELD = {name: made for name, made in (FUNCTIONS | MORE).items() if name != "SELU"}
FEATURES = {"einsum": 16, "mean over an axis": 2}


def made(name):
    if name in FUNCTIONS and name not in MORE:
        return built(name)
    torch.manual_seed(0)
    net = Through(MORE[name](), FEATURES.get(name, 8)).double().eval()
    return net, torch.randn(16, 5, dtype=torch.float64)


def check(net, x, folder, **settings):
    """Reads what was written in both ways; returns the file."""
    snn = convert(net, x[:1], [x], **settings)
    calibrate(net, snn, [x], method="static")  # `exact` cuts between two membranes of these samples
    path = export(snn, folder / "a.safetensors")
    expected, twin = simulate(snn, x), load(path)
    torch.testing.assert_close(simulate(twin, x), expected, rtol=0, atol=1e-9)
    reader, _ = numpy_reader(4)
    logits = reader["logits"](*reader["read"](path, 4), x.numpy())
    np.testing.assert_allclose(logits, expected.numpy(), rtol=0, atol=1e-9)
    assert list(twin.shapes) == list(snn.shapes)
    assert path.read_bytes() == export(twin, folder / "b.safetensors").read_bytes()
    return path


@pytest.mark.parametrize(
    "settings", [{"functions": "in_time", "leak": 0.8}, {"functions": "encoded"}]
)
@pytest.mark.parametrize("name", HELD)
def test_every_function_of_the_set_is_read_back(name, settings, tmp_path):
    net, x = made(name)
    check(net, x, tmp_path, timesteps=4, **settings)


@pytest.mark.parametrize("neuron", [{}, {"levels": 2, "leak": 0.9}])
def test_a_transformer_is_read_back(neuron, tmp_path):
    net, x = transformer(6)
    check(net, x, tmp_path, timesteps=3, functions="encoded", **neuron)


class Tokens(nn.Module):
    """As timm writes it: a token of its own, query, key and value in one layer, and a mean."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.token = nn.Parameter(torch.randn(1, 1, 6))
        self.gamma = nn.Parameter(torch.rand(6))
        self.first, self.qkv, self.last = nn.Linear(3, 6), nn.Linear(6, 18), nn.Linear(6, 2)

    def forward(self, x):
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), self.first(x)], 1)
        qkv = self.qkv(F.relu(x)).reshape(x.shape[0], -1, 3, 2, 3).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        weights = (q @ k.transpose(-2, -1)).softmax(-1)
        x = x + self.gamma * (weights @ v).transpose(1, 2).flatten(2)
        return self.last(x[:, 1:].mean(1) + x[:, 0])


@pytest.mark.parametrize("neuron", ["if", "signed"])
def test_tokens_of_the_networks_own_and_axes_before_the_samples_are_read_back(neuron, tmp_path):
    x = torch.randn(5, 4, 3, dtype=torch.float64)
    path = check(Tokens().double(), x, tmp_path, timesteps=4, functions="encoded", neuron=neuron)
    reader, _ = numpy_reader(4)
    net, _ = reader["read"](path, 4)
    assert net["format_version"] == 4
    assert net["encoder"]["output"] == "s, -1 to 1"
    signs = {o["name"]: o.get("signed", False) for o in net["operations"] if o["op"] == "neuron"}
    assert [signs[name] for name in signs if "encoded" not in name] == [neuron == "signed"]


def test_a_reader_of_version_3_refuses_the_file(tmp_path, monkeypatch):
    net, x = built("GELU")
    path = export(convert(net, x[:1], [x], timesteps=2, functions="in_time"), tmp_path / "a")
    monkeypatch.setattr("ftbc_lightning.interchange.description.FORMAT_VERSION", 3)
    with pytest.raises(UserError, match="has format version 4, this program knows 3"):
        load(path)


def nothing_seen(h):
    mask = torch.ones(4, 4, dtype=torch.bool).tril(-1)
    return F.scaled_dot_product_attention(*[heads(h)] * 3, attn_mask=mask)


class Named(nn.Module):
    """A layer has the name of a node of every graph."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.hidden, self.output = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.output(F.relu(self.hidden(x))).softmax(1)


def test_a_layer_called_output_is_read_back_and_takes_thresholds(tmp_path):
    net, x = Named().double(), torch.randn(6, 5, dtype=torch.float64)
    check(net, x, tmp_path, timesteps=3)
    snn = convert(net, x[:1], [x], timesteps=3)
    assert "affine" not in {operation.kind for operation in describe(snn).operations}


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (nn.SELU(), r"layer \(SELU\): .* functions of a file are gelu"),
        (nn.Softplus(beta=2), r"layer \(Softplus\): its beta is not 1"),
        (nn.Softplus(threshold=1), r"layer \(Softplus\): .* its threshold not 20"),
        (nothing_seen, r"attention.*: a row of its mask lets nothing through"),
        (lambda h: h**3, r"pow_1 \(pow, in forward\): .* functions of a file are"),
    ],
)
def test_other_functions_are_refused_by_name(function, reason, tmp_path):
    net, x = Through(function), torch.randn(4, 5)
    snn = convert(net, x[:1], [x], timesteps=2, functions="in_time")
    with pytest.raises(UserError, match=reason):
        export(snn, tmp_path / "a.safetensors")


def test_an_encoder_between_two_layers_is_rounded_to_integers(tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Conv2d(3, 4, 2), nn.ReLU(), nn.Conv2d(4, 4, 1))
    x = torch.randn(4, 2, 6, 6)
    snn = convert(net, x[:1], [x], timesteps=3, functions="encoded")
    path = export(snn, tmp_path / "a.safetensors", bits=8)
    reader, _ = numpy_reader(4)
    logits = reader["logits"](*reader["whole"](*reader["read"](path, 4)), x.double().numpy())
    np.testing.assert_allclose(logits, simulate(load(path), x.double()).numpy(), atol=1e-9)
    np.testing.assert_allclose(logits, simulate(snn, x).numpy(), atol=0.1)


def test_integers_of_functions_are_refused_by_name(tmp_path):
    net, x = built("LayerNorm")
    snn = convert(net, x[:1], [x], timesteps=2, functions="encoded")
    with pytest.raises(UserError, match=r"Integers cannot be had.*flatten_encoded \(neuron\)"):
        export(snn, tmp_path / "a.safetensors", bits=8)
