"""Every rule of the conversion on a small network of its own.

For each: the converted graph computes what the ANN computes, every activation becomes a neuron, and
with maximum thresholds the error shrinks like 1/T.
"""

from operator import methodcaller

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ftbc_lightning import convert, simulate
from ftbc_lightning.analysis.inspection import inspect
from ftbc_lightning.ann import QCFS, ClippedReLU
from ftbc_lightning.graph.tracing import trace


class Written(nn.Module):
    """A network from its layers and a function that says how values flow through them."""

    def __init__(self, flow, **layers):
        super().__init__()
        self.layers = nn.ModuleDict(layers)
        self.flow = flow

    def forward(self, x: Tensor) -> Tensor:
        return self.flow(x, self.layers)


def activated(*, module=None, function=None):
    """Two convolutions with an activation between them that is a module or a function."""
    layers = {"first": nn.Conv2d(2, 4, 3, padding=1), "last": nn.Conv2d(4, 3, 1)}
    if module is not None:
        return Written(lambda x, m: m.last(m.act(m.first(x))), act=module, **layers)
    return Written(lambda x, m: m.last(function(m.first(x))), **layers)


def between(*middle: nn.Module, inputs=2, convolution=nn.Conv2d):
    """A ReLU, some layers, and a ReLU again."""
    return nn.Sequential(convolution(inputs, 4, 1), nn.ReLU(), *middle, nn.ReLU())


def residual(x, m):
    y = m.act(m.one(x))
    return m.three(m.act(m.two(y) + y))


def concatenated(x, m):
    y = torch.relu(m.one(x))
    return m.four(torch.cat([y, F.relu(m.two(y)), torch.relu(m.three(y))], dim=1))


def shuffled(x, m):
    y = torch.relu(m.one(x))
    batch, channels, height, width = y.shape
    y = y.view(batch, 2, channels // 2, height, width).transpose(1, 2).contiguous()
    return m.two(y.view(batch, channels, height, width))


class OwnConv(nn.Conv2d):
    """A subclass that computes what torch's class computes."""

    @staticmethod
    def describe() -> str:
        return "mine"


class Functional(nn.Module):
    """Weights as parameters, layers as functions."""

    def __init__(self):
        super().__init__()
        self.first = nn.Parameter(torch.randn(4, 2, 3, 3) / 4)
        self.scale, self.last = nn.Parameter(torch.ones(4)), nn.Parameter(torch.randn(3, 4))
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("variance", torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(x, self.first, padding=1)
        x = F.relu(F.batch_norm(x, self.mean, self.variance, self.scale))
        return F.linear(x.mean((2, 3)), self.last)


def conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def in_place(x, m):
    y = m.first(x)
    y.clamp_(min=0)
    return m.last(y)


SAMPLE, SERIES, VOLUME, VECTOR = (2, 8, 8), (2, 16), (2, 4, 4, 4), (6,)

RULES = {
    # activations: name, network, shape of an input, neurons
    "relu module": (lambda: activated(module=nn.ReLU()), SAMPLE, 1),
    "relu module in place": (lambda: activated(module=nn.ReLU(inplace=True)), SAMPLE, 1),
    "F.relu": (lambda: activated(function=F.relu), SAMPLE, 1),
    "torch.relu": (lambda: activated(function=torch.relu), SAMPLE, 1),
    "tensor method": (lambda: activated(function=methodcaller("relu")), SAMPLE, 1),
    "tensor method in place": (lambda: activated(function=methodcaller("relu_")), SAMPLE, 1),
    "relu6 module": (lambda: activated(module=nn.ReLU6()), SAMPLE, 1),
    "F.relu6": (lambda: activated(function=F.relu6), SAMPLE, 1),
    "clipped relu": (lambda: activated(module=ClippedReLU(threshold=0.5)), SAMPLE, 1),
    "hardtanh from 0": (lambda: activated(module=nn.Hardtanh(0, 0.5)), SAMPLE, 1),
    "clamp": (lambda: activated(function=lambda y: y.clamp(0, 0.5)), SAMPLE, 1),
    "clamp below alone": (lambda: activated(function=lambda y: torch.clamp(y, min=0)), SAMPLE, 1),
    "clamp in place": (
        lambda: Written(in_place, first=conv(2, 4), last=nn.Conv2d(4, 3, 1)),
        SAMPLE,
        1,
    ),
    # linear layers
    "conv1d": (lambda: between(nn.Conv1d(4, 4, 3), convolution=nn.Conv1d), SERIES, 2),
    "conv2d": (lambda: between(nn.Conv2d(4, 4, 3)), SAMPLE, 2),
    "conv3d": (lambda: between(nn.Conv3d(4, 4, 3), convolution=nn.Conv3d), VOLUME, 2),
    "linear": (lambda: between(nn.Linear(4, 4), inputs=6, convolution=_linear), VECTOR, 2),
    "grouped": (lambda: between(nn.Conv2d(4, 6, 3, groups=2)), SAMPLE, 2),
    "depthwise": (lambda: between(nn.Conv2d(4, 4, 3, groups=4)), SAMPLE, 2),
    "dilated": (lambda: between(nn.Conv2d(4, 4, 3, dilation=2)), SAMPLE, 2),
    "a subclass": (lambda: between(OwnConv(4, 4, 3)), SAMPLE, 2),
    "functions with parameters": (Functional, SAMPLE, 1),
    # batch norm
    "batch norm after": (lambda: between(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)), SAMPLE, 2),
    "batch norm before": (lambda: between(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3)), SAMPLE, 2),
    "batch norm after linear": (
        lambda: between(nn.Linear(4, 4), nn.BatchNorm1d(4), inputs=6, convolution=_linear),
        VECTOR,
        2,
    ),
    # branches
    "residual add, one module used twice": (
        lambda: Written(residual, one=conv(2, 4), two=conv(4, 4), three=conv(4, 3), act=nn.ReLU()),
        SAMPLE,
        2,
    ),
    "concat of branches": (
        lambda: Written(
            concatenated, one=conv(2, 4), two=conv(4, 4), three=conv(4, 2), four=conv(10, 3)
        ),
        SAMPLE,
        3,
    ),
    "channel shuffle by hand": (
        lambda: Written(shuffled, one=conv(2, 4), two=conv(4, 3)),
        SAMPLE,
        1,
    ),
    "channel shuffle module": (lambda: between(nn.ChannelShuffle(2), conv(4, 4)), SAMPLE, 2),
    # pooling and the rest
    "average pooling": (lambda: between(nn.AvgPool2d(2), conv(4, 4)), SAMPLE, 2),
    "adaptive pooling": (lambda: between(nn.AdaptiveAvgPool2d(3), conv(4, 4)), SAMPLE, 2),
    "global pooling": (
        lambda: Written(
            lambda x, m: m.two(torch.relu(m.one(x)).mean((2, 3))),
            one=conv(2, 4),
            two=nn.Linear(4, 3),
        ),
        SAMPLE,
        1,
    ),
    "max pooling": (lambda: between(nn.MaxPool2d(2), conv(4, 4)), SAMPLE, 2),
    "max pooling of a shared sum": (
        lambda: Written(
            lambda x, m: m.two(F.max_pool2d((y := torch.relu(m.one(x))), 3, 1, 1) + y),
            one=conv(2, 4),
            two=conv(4, 3),
        ),
        SAMPLE,
        1,
    ),
    "dropout, identity, flatten": (
        lambda: between(nn.Dropout(), nn.Identity(), nn.Flatten(), nn.Linear(256, 4)),
        SAMPLE,
        2,
    ),
}


def _linear(inputs: int, outputs: int, kernel: int) -> nn.Linear:
    return nn.Linear(inputs, outputs)


def network(name: str) -> tuple[nn.Module, Tensor, int]:
    """A network in float64 whose batch norms have seen inputs, those inputs, and its neurons."""
    torch.manual_seed(0)
    build, shape, neurons = RULES[name]
    net, inputs = build().double().train(), torch.randn(32, *shape, dtype=torch.float64)
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None
    with torch.no_grad():
        net(inputs)
    return net.eval(), inputs, neurons


@pytest.mark.parametrize("name", RULES)
def test_the_graph_computes_what_the_network_computes(name):
    net, inputs, neurons = network(name)
    with torch.no_grad():
        torch.testing.assert_close(trace(net)(inputs), net(inputs), rtol=0, atol=1e-12)
    report = inspect(net)
    assert report.convertible
    assert report.neurons == neurons


@pytest.mark.parametrize("name", RULES)
def test_the_limit_of_many_steps_is_the_network(name):
    net, inputs, neurons = network(name)
    with torch.no_grad():
        expected = net(inputs)
    errors = []
    for timesteps in (32, 512):
        snn = convert(net, inputs[:1], [inputs], timesteps=timesteps, threshold_rule="max")
        assert len(snn.neurons()) == neurons
        output = simulate(snn, inputs)[-1]
        errors.append(float((output - expected).abs().mean() / expected.std()))
    assert errors[0] < 0.2
    assert errors[1] < errors[0] / 8


def test_qcfs_in_its_own_number_of_levels_is_the_first_layer_exactly():
    torch.manual_seed(0)
    net = activated(module=QCFS(levels=8, threshold=0.7)).double().eval()
    inputs = torch.randn(16, *SAMPLE, dtype=torch.float64)
    snn = convert(net, inputs[:1], [inputs], timesteps=8, threshold_rule="learned")
    with torch.no_grad():
        torch.testing.assert_close(simulate(snn, inputs)[-1], net(inputs), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["relu6 module", "clipped relu", "clamp", "hardtanh from 0"])
def test_a_ceiling_caps_the_threshold(name):
    net, inputs, _ = network(name)
    snn = convert(net, inputs[:1], [100 * inputs], timesteps=4, threshold_rule="max")
    ceiling = 6.0 if "6" in name else 0.5
    assert all((neuron.threshold <= ceiling).all() for neuron in snn.neurons().values())


def test_a_batch_norm_behind_a_layer_is_folded_and_one_before_it_is_kept():
    for name, kept in (("batch norm after", 0), ("batch norm before", 1)):
        graph = trace(network(name)[0])
        norms = [m for m in graph.modules() if isinstance(m, nn.BatchNorm2d)]
        assert len(norms) == kept


@pytest.mark.parametrize(
    "function", [lambda y: y.clamp(-1, 1), lambda y: torch.clamp(y, max=1.0), F.hardtanh]
)
def test_a_clamp_that_lets_negative_values_pass_becomes_two_neurons(function):
    assert inspect(activated(function=function)).neurons == 2


@pytest.mark.parametrize("function", [lambda y: y.clamp(0.5, 1), lambda y: y.clamp(max=-1.0)])
def test_a_clamp_that_lets_0_not_pass_is_refused(function):
    assert not inspect(activated(function=function)).convertible
