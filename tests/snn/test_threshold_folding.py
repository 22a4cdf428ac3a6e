import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ftbc_lightning import calibrate, convert, simulate
from ftbc_lightning.graph.propagation import Plan, Propagation
from ftbc_lightning.snn.threshold_folding import fold_thresholds
from tests.graph.test_max_pooling import net as pooled_net
from tests.networks import residual_net, samples


class Grouped(nn.Module):
    """Grouped and depthwise convolutions, average pooling, flattening to several pixels."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 6, 3, padding=1)
        self.grouped = nn.Conv2d(6, 9, 3, padding=1, groups=3)
        self.depthwise = nn.Conv2d(9, 9, 3, padding=1, groups=9)
        self.linear = nn.Linear(9 * 9, 4)

    def forward(self, x):
        x = F.relu(self.first(x))
        x = F.relu(self.grouped(x))
        x = F.relu(self.depthwise(x))
        x = F.avg_pool2d(x, 2)
        return self.linear(x.view(x.size(0), -1))


def networks():
    torch.manual_seed(0)
    return {"residual": residual_net(), "pooled": pooled_net(), "grouped": Grouped().double()}


def calibrated(ann, images):
    snn = convert(ann, images[:1], [images], timesteps=5)
    calibrate(ann, snn, [images])
    return snn


@pytest.mark.parametrize("name", ["residual", "pooled", "grouped"])
def test_folded_and_unfolded_networks_give_the_same_logits(name):
    ann, images = networks()[name].eval(), samples(16)
    snn = calibrated(ann, images)
    expected = simulate(snn, images)
    folded, _ = fold_thresholds(snn)
    torch.testing.assert_close(simulate(folded, images), expected, rtol=0, atol=1e-10)
    assert torch.equal(simulate(snn, images), expected)


def test_spikes_on_the_wire_are_zero_and_one():
    images = samples(16)
    folded, _ = fold_thresholds(calibrated(networks()["grouped"].eval(), images))
    plan = Plan(folded.layers)
    carried = Propagation(plan, images, steps=5)
    for node in plan.nodes:
        if node.name in folded.shapes:
            spikes, _ = folded.neurons()[node.name](carried.current(node))
            assert set(spikes.unique().tolist()) == {0.0, 1.0}
            carried.settle(node, spikes)
        else:
            carried.advance(node)


def test_the_scale_stays_on_the_edge_of_a_residual_sum_and_the_report_says_so():
    images = samples(8)
    folded, edges = fold_thresholds(calibrated(residual_net(), images))
    found = {(edge.neuron, edge.reader): edge.folded_into for edge in edges}
    assert found == {
        ("act1", "conv2"): ("conv2",),
        ("act1", "add"): (),
        ("act2", "conv3"): ("conv3",),
        ("act3", "adaptive_avg_pool2d"): ("linear",),
    }
    assert hasattr(folded.layers, "scale_act1")


def test_a_layer_that_is_used_twice_keeps_its_weights():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.first = nn.Conv2d(3, 3, 1), nn.Conv2d(2, 3, 1)

        def forward(self, x):
            x = torch.relu(self.first(x))
            return self.conv(torch.relu(self.conv(x)))

    torch.manual_seed(0)
    ann, images = Twice().double(), samples(8)
    snn = calibrated(ann, images)
    folded, edges = fold_thresholds(snn)
    assert all(edge.folded_into == () for edge in edges)
    torch.testing.assert_close(simulate(folded, images), simulate(snn, images))


@pytest.mark.parametrize("features", [8, 6, 3])
@pytest.mark.parametrize("flatten", [nn.Identity(), nn.Flatten(2)])
def test_a_linear_layer_over_the_last_of_several_axes_takes_no_thresholds(features, flatten):
    torch.manual_seed(0)
    layers = nn.Linear(5, features), nn.ReLU(), flatten, nn.Linear(features, 3), nn.Flatten()
    ann, images = nn.Sequential(*layers).double(), torch.randn(16, 4, 5).double()
    snn = calibrated(ann, images)
    folded, edges = fold_thresholds(snn)
    assert [edge.folded_into for edge in edges] == [()]
    torch.testing.assert_close(simulate(folded, images), simulate(snn, images))


class Tied(nn.Module):
    """Two layers that share one tensor of weights."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.second.weight = self.first.weight
        self.last = nn.Linear(6, 3)

    def forward(self, x):
        x = F.relu(self.first(F.relu(x)))
        return self.last(F.relu(self.second(x)))


def test_weights_that_two_layers_share_are_folded_in_each_of_them():
    torch.manual_seed(0)
    ann, images = Tied().double(), torch.rand(16, 6).double()
    snn = calibrated(ann, images)
    folded, edges = fold_thresholds(snn)
    assert all(edge.folded_into for edge in edges)
    torch.testing.assert_close(simulate(folded, images), simulate(snn, images), rtol=0, atol=1e-10)
    assert ann.second.weight is ann.first.weight


class Mixing(nn.Module):
    """A pooling over the channels, because the axis before them is missing."""

    def __init__(self, pooling, *behind):
        super().__init__()
        self.pooling, self.behind = pooling, nn.Sequential(*behind)

    def forward(self, x):
        return self.behind(self.pooling(F.relu(x)))


@pytest.mark.parametrize(
    ("shape", "pooling", "behind"),
    [
        ((6,), nn.AvgPool1d(2), [nn.Linear(3, 2)]),
        ((4, 6), nn.AvgPool2d(2), [nn.Flatten(), nn.Linear(6, 2)]),
        ((4, 6), lambda x: F.adaptive_avg_pool2d(x, 2), [nn.Flatten(), nn.Linear(4, 2)]),
        ((4, 4, 6, 2), lambda x: x.mean((2, 3)), [nn.Linear(2, 3), nn.Flatten()]),
        ((4, 6), lambda x: x.mean((-1, -2), keepdim=True), [nn.Flatten(), nn.Linear(1, 2)]),
    ],
)
def test_no_threshold_passes_a_pooling_over_the_channels(shape, pooling, behind):
    torch.manual_seed(0)
    ann, images = Mixing(pooling, *behind).double(), torch.randn(16, *shape).double()
    snn = calibrated(ann, images)
    folded, _ = fold_thresholds(snn)
    torch.testing.assert_close(simulate(folded, images), simulate(snn, images), rtol=0, atol=1e-10)
