"""Activations that let negative values pass become two layers of neurons each."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ftbc_lightning import (
    UserError,
    calibrate,
    conversion_map,
    convert,
    export,
    load,
    reconvert,
    simulate,
)
from ftbc_lightning.analysis.diagnosis import diagnose
from ftbc_lightning.analysis.inspection import inspect
from ftbc_lightning.analysis.operation_counts import count_operations
from ftbc_lightning.graph.tracing import trace
from ftbc_lightning.snn.conversion import prepare
from ftbc_lightning.snn.convertible import activation_nodes
from ftbc_lightning.snn.stepping import SteppedNetwork
from ftbc_lightning.snn.threshold_folding import fold_thresholds
from ftbc_lightning.snn.thresholds import RULES
from tests.networks import samples


class Activated(nn.Module):
    """Two convolutions with an activation behind each, and a classifier."""

    def __init__(self, act, second=None):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.act, self.act2 = act, second or act
        self.slopes, self.linear = nn.Parameter(torch.rand(4)), nn.Linear(4, 3)

    def forward(self, x):
        x = self.called(self.act, self.first(x))
        x = self.called(self.act2, self.second(x))
        return self.linear(x.mean((2, 3)))

    def called(self, act, x):
        return act(x) if isinstance(act, nn.Module) else act(x, self)


def trained(module):
    nn.init.uniform_(module.weight, -0.2, 0.8)
    return module


TWO = {
    "LeakyReLU": lambda: nn.LeakyReLU(0.2),
    "LeakyReLU in place": lambda: nn.LeakyReLU(0.3, inplace=True),
    "a rising and falling slope": lambda: nn.LeakyReLU(-0.2),
    "leaky_relu": lambda: lambda x, net: F.leaky_relu(x),
    "leaky_relu in place": lambda: lambda x, net: F.leaky_relu_(x, negative_slope=0.3),
    "PReLU": lambda: trained(nn.PReLU()),
    "PReLU of each channel": lambda: trained(nn.PReLU(4)),
    "prelu": lambda: lambda x, net: F.prelu(x, net.slopes),
    "prelu, method": lambda: lambda x, net: x.prelu(weight=net.slopes[:4]),
    "RReLU": lambda: nn.RReLU(0.1, 0.5),
    "rrelu": lambda: lambda x, net: F.rrelu(x, 0.2, training=net.training),
    "abs": lambda: lambda x, net: torch.abs(x),
    "abs, method": lambda: lambda x, net: x.absolute(),
    "abs of Python": lambda: lambda x, net: abs(x),
    "Hardtanh": lambda: nn.Hardtanh(),
    "Hardtanh of two ends": lambda: nn.Hardtanh(-0.2, 0.5, inplace=True),
    "hardtanh": lambda: lambda x, net: F.hardtanh(x, max_val=0.4),
    "clamp": lambda: lambda x, net: x.clamp(-0.3, 0.4),
    "clip below": lambda: lambda x, net: torch.clip(x, min=-0.3),
    "clamp above": lambda: lambda x, net: torch.clamp(x, max=0.4),
    "clamp_min": lambda: lambda x, net: x.clamp_min(-0.3),
    "clamp_max": lambda: lambda x, net: x.clamp_max_(0.4),
}
ONE = {
    "Threshold": lambda: nn.Threshold(0, 0),
    "threshold": lambda: lambda x, net: F.threshold(x, 0, 0),
    "maximum with a zero": lambda: lambda x, net: torch.max(x, torch.tensor(0.0)),
    "clip from 0": lambda: lambda x, net: x.clip(0),
    "LeakyReLU of slope 0": lambda: nn.LeakyReLU(0.0),
    "clamp to 0": lambda: lambda x, net: x.clamp(-0.5, 0),
    "negative part": lambda: lambda x, net: x.clamp_max(0),
}


def built(name):
    torch.manual_seed(0)
    make = (TWO | ONE)[name]
    return Activated(make(), make()).double().eval(), samples(12)


@pytest.mark.parametrize("name", [*TWO, *ONE])
def test_the_graph_is_the_network_and_the_error_falls_like_one_over_the_steps(name):
    net, images = built(name)
    with torch.no_grad():
        expected = net(images)
        torch.testing.assert_close(trace(net)(images), expected, rtol=0, atol=1e-12)
    errors = []
    for steps in (64, 256):
        snn = convert(net, images[:1], [images], timesteps=steps, threshold_rule="max")
        errors.append(float((simulate(snn, images)[-1] - expected).abs().mean()))
    assert len(snn.neurons()) == (4 if name in TWO else 2)
    assert inspect(net).neurons == len(snn.neurons())
    assert errors[1] < 0.4 * errors[0]


def test_the_neurons_carry_the_name_of_the_activation():
    net = built("PReLU of each channel")[0]
    names = ["act_positive", "act_negative", "act2_positive", "act2_negative"]
    assert activation_nodes(trace(net)) == names
    assert activation_nodes(trace(net, samples(1))) == names


def test_an_inspection_names_the_activation_as_it_is_written():
    net = nn.Sequential(Activated(nn.PReLU(4), lambda x, net: abs(x)))
    rows = {row.node: row for row in inspect(net).rows}
    for node, kind in (("0.act", "PReLU"), ("abs_1", "abs")):
        assert rows[node].kind == kind
        assert rows[node].becomes == "the sum of its two IF neurons, one for each sign"
    assert [n for n, row in rows.items() if row.threshold] == [
        *("_0_act_positive", "_0_act_negative", "abs_1_positive", "abs_1_negative")
    ]


@pytest.mark.parametrize("name", ["PReLU of each channel", "Hardtanh of two ends", "abs"])
def test_everything_that_works_on_neurons_works_on_either_sign(name, tmp_path, monkeypatch):
    net, images = built(name)
    snn = convert(net, images[:1], [images], timesteps=6)
    calibrate(net, snn, [images])
    expected = simulate(snn, images)
    torch.testing.assert_close(SteppedNetwork(snn)(images), expected, rtol=0, atol=1e-6)
    folded, _ = fold_thresholds(snn)
    torch.testing.assert_close(simulate(folded, images), expected, rtol=0, atol=1e-6)
    assert set(diagnose(net, snn, [images]).layers) == set(snn.shapes)
    assert len(count_operations(snn, images).layers) == 3
    rebuilt = reconvert(Activated(*((TWO | ONE)[name]() for _ in range(2))), conversion_map(snn))
    rebuilt.double().load_state_dict(snn.state_dict())
    torch.testing.assert_close(simulate(rebuilt, images), expected, rtol=0, atol=1e-12)
    twin = load(export(snn, tmp_path / "a.safetensors"))
    torch.testing.assert_close(simulate(twin, images), expected, rtol=1e-5, atol=1e-5)
    program = torch.export.load(export(snn, tmp_path / "a.pt2", format="torch_export")).module()
    torch.testing.assert_close(program(images), expected, rtol=1e-5, atol=1e-6)
    monkeypatch.setattr("ftbc_lightning.snn.simulation.chunk_sizes", lambda *a: (3, 2))
    torch.testing.assert_close(simulate(snn, images), expected, rtol=0, atol=1e-6)


def test_calibration_lessens_the_error_of_either_sign():
    net, images = built("abs")[0], samples(64)
    with torch.no_grad():
        expected = net(images)
    snn = convert(net, images[:1], [images], timesteps=8, threshold_rule="max")
    before = (simulate(snn, images)[-1] - expected).abs().mean()
    calibrate(net, snn, [images])
    assert (simulate(snn, images)[-1] - expected).abs().mean() < 0.5 * before


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "learned"])
def test_every_threshold_rule_takes_a_ceiling_of_either_end(rule):
    net, images = built("Hardtanh of two ends")
    snn = convert(net, images[:1], [images], timesteps=4, threshold_rule=rule)
    for name, neuron in snn.neurons().items():
        end = 0.5 if name.endswith("positive") else 0.2
        assert (neuron.threshold < end + 1e-6).all()


@pytest.mark.parametrize(
    "settings", [{"neuron": "signed"}, {"levels": 3}, {"leak": 0.99, "neuron": "signed"}]
)
def test_every_neuron_model_approaches_the_network(settings):
    net, images = built("PReLU of each channel")
    with torch.no_grad():
        expected = net(images)
    snn = convert(net, images[:1], [images], timesteps=128, threshold_rule="max", **settings)
    error = (simulate(snn, images)[-1] - expected).abs().mean()
    assert error < 0.02 * expected.abs().mean()


def test_a_sign_that_never_occurs_is_silent_and_nothing_is_lost():
    net = Activated(nn.ReLU(), lambda x, net: abs(F.relu(x))).double().eval()
    images = samples(12)
    snn = convert(net, images[:1], [images], timesteps=128, threshold_rule="max")
    with torch.no_grad():
        expected = net(images)
    assert float((simulate(snn, images)[-1] - expected).abs().max()) < 0.05
    assert sum(count_operations(snn, images).firing_rates["abs_1_negative"]) == 0


def test_max_pooling_moves_before_an_activation_that_never_falls():
    def pooled(act):
        layers = (nn.Conv2d(2, 4, 3), act, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3))
        return nn.Sequential(*layers).double().eval()

    images = samples(4)
    for act, before in ((nn.LeakyReLU(), True), (nn.Hardtanh(), True), (nn.PReLU(), False)):
        net = pooled(act)
        graph = trace(net)
        torch.testing.assert_close(graph(images), net(images), rtol=0, atol=1e-12)
        names = [node.name for node in graph.graph.nodes]
        assert (names.index("_2") < names.index("_1_positive")) is before


class Around(nn.Module):
    """An absolute value before the first layer, and a leak behind the last one."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
        self.spread = nn.PReLU()

    def forward(self, x):
        x = self.spread(torch.fft.fft2(x).abs() - x.abs() / 36)
        return F.leaky_relu(self.layers(x))


def test_before_the_first_layer_and_behind_the_last_they_are_computed_as_they_are():
    net, images = Around().double().eval(), samples(12)
    assert activation_nodes(trace(net)) == ["layers_1"]
    snn = convert(net, images[:1], [images], timesteps=256, threshold_rule="max")
    with torch.no_grad():
        expected = net(images)
    error = (simulate(snn, images)[-1] - expected).abs().mean()
    assert float(error) < 0.01 * float(expected.abs().mean())


REFUSED = {
    "rrelu": ("draws in evaluation mode", lambda x, net: F.rrelu(x, training=True)),
    "prelu": ("prelu", lambda x, net: F.prelu(x, x[0, :, 0, 0])),
    "leaky_relu": ("leaky_relu", lambda x, net: F.leaky_relu(x, net.slopes[0])),
    "clamp of a tensor": ("clamp", lambda x, net: x.clamp(-net.slopes.view(-1, 1, 1))),
    "clamp beside 0": ("clamp", lambda x, net: x.clamp(0.2, 1)),
    "elu": ("train with ReLU", lambda x, net: F.elu(x)),
    "hardshrink": ("hardshrink", lambda x, net: F.hardshrink(x)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_pair_of_rectifiers_is_refused_by_name(name):
    said, act = REFUSED[name]
    with pytest.raises(UserError, match=said):
        prepare(Activated(act).double(), samples(1), timesteps=2)
