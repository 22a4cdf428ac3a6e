import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ftbc_lightning import SpikingClassifier, UserError, calibrate, convert, simulate
from ftbc_lightning.analysis.inspection import inspect
from ftbc_lightning.graph.propagation import Plan, Propagation
from ftbc_lightning.graph.tracing import trace
from ftbc_lightning.training.callbacks import ForwardTemporalBiasCorrection
from tests.networks import samples


class Pooled(nn.Module):
    """Max pooling behind the first activation, behind a later one, and of a sum that is shared."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(c, 4, 3, padding=1) for c in (2, 4, 4, 4))
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.linear = nn.Linear(4, 3)

    def forward(self, x):
        x = self.pool(F.relu(self.convs[0](x)))
        x = F.max_pool2d(torch.relu(self.convs[1](x)), 3, stride=1, padding=1)
        y = F.relu(self.convs[2](x))
        y = F.max_pool2d(y, 2) + F.relu(self.convs[3](y))[:, :, ::3, ::3]
        return self.linear(y.mean([2, 3]))


def net(dtype=torch.float64):
    torch.manual_seed(0)
    return Pooled().to(dtype).eval()


def test_max_pooling_is_moved_before_an_activation_that_nothing_else_reads():
    ann, images = net(), samples(8)
    graph = trace(ann)
    order = [node.name for node in graph.graph.nodes]
    assert order.index("pool") < order.index("relu")
    assert order.index("max_pool2d") < order.index("relu_1")
    assert order.index("max_pool2d_1") > order.index("relu_2")
    torch.testing.assert_close(graph(images), ann(images), rtol=0, atol=1e-12)


def test_with_max_pooling_the_limit_of_many_steps_is_the_ann():
    ann, images = net(), samples(16)
    error = {}
    for steps in (32, 128, 512):
        snn = convert(ann, images[:1], [images], timesteps=steps, threshold_rule="max")
        error[steps] = (simulate(snn, images)[-1] - ann(images)).abs().mean().item()
    assert error[128] < 0.5 * error[32]
    assert error[512] < 0.5 * error[128]


def test_pooled_spikes_of_one_threshold_are_spikes():
    ann, images = net(), samples(8)
    snn = convert(ann, images[:1], [images], timesteps=9, scope="layer")
    plan = Plan(snn.layers)
    carried = Propagation(plan, images, steps=9)
    for node in plan.nodes:
        if node.name in snn.shapes:
            spikes, _ = snn.neurons()[node.name](carried.current(node))
            carried.settle(node, spikes)
        else:
            value = carried.advance(node)
            if node.name == "max_pool2d_1":
                theta = snn.neurons()["relu_2"].threshold[0]
                near = torch.minimum(value.abs(), (value - theta).abs())
                assert near.max() < 1e-12
                assert 0 < (value > theta / 2).double().mean() < 1


def test_pooling_does_not_depend_on_how_time_is_cut(monkeypatch):
    ann, images = net(), samples(5)
    snn = convert(ann, images[:1], [images], timesteps=7)
    calibrate(ann, snn, [images])
    expected = simulate(snn, images)
    for sizes in ((1, 7), (5, 1), (2, 3)):
        monkeypatch.setattr("ftbc_lightning.snn.simulation.chunk_sizes", lambda *a, s=sizes: s)
        torch.testing.assert_close(simulate(snn, images), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", ["static", "iterative", "exact"])
def test_calibration_works_with_max_pooling(method):
    ann, images = net(), samples(32)
    snn = convert(ann, images[:1], [images], timesteps=4)
    before = (simulate(snn, images)[-1] - ann(images)).abs().mean()
    calibrate(ann, snn, [images], method=method)
    assert (simulate(snn, images)[-1] - ann(images)).abs().mean() < 1.2 * before


def test_the_user_is_told_of_pools_in_time_and_may_refuse_them():
    ann, images = net(), samples(4)
    rows = {row.node: row.becomes for row in inspect(ann).rows}
    assert rows["pool"] == "kept"  # behind the first layer: the same at every step
    assert "maximum of sums in time" in rows["max_pool2d"]
    with pytest.raises(UserError, match="2 max poolings that spikes reach: max_pool2d "):
        convert(ann, images[:1], [images], timesteps=2, max_pooling="refuse")


def test_a_comparison_refuses_max_pooling_where_it_is_asked_to():
    example = samples(1)
    callback = ForwardTemporalBiasCorrection(max_pooling="refuse")
    with pytest.raises(UserError, match="max poolings that spikes reach"):
        callback.structure(SpikingClassifier(net()), example, None)


def test_a_run_tells_of_pools_in_time(monkeypatch):
    told: list[str] = []
    monkeypatch.setattr("ftbc_lightning.training.callbacks.ftbc.rank_zero_info", told.append)
    callback, module = ForwardTemporalBiasCorrection(timesteps=[2]), SpikingClassifier(net())
    structure = callback.structure(module, samples(1).float(), None)
    monkeypatch.setattr(callback, "_check", lambda *given: structure)
    callback.convert(None, module)
    assert [line.split(":")[0] for line in told] == ["2 max poolings read spikes"]
