import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ftbc_lightning import (
    UserError,
    calibrate,
    conversion_map,
    convert,
    reconvert,
    simulate,
    without_temporal_bias,
)
from ftbc_lightning.graph.tracing import trace
from tests.networks import residual_net, samples
from tests.reference import loops


class Functional(nn.Module):
    """Every way to write a relu, in place or not."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(2, 2, 3, padding=1) for _ in range(6))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        x = self.relu(self.convs[0](x))
        x = self.relu(self.convs[1](x))
        x = F.relu(self.convs[2](x))
        x = torch.relu(self.convs[3](x))
        y = self.convs[4](x)
        y += x
        y = F.relu(y, inplace=True)
        z = self.convs[5](y)
        z.relu_()
        return z.view(z.size(0), -1)


def test_every_way_to_write_a_relu_becomes_a_neuron():
    snn = convert(Functional().double(), samples(1), [samples(8)], timesteps=2)
    assert len(snn.neurons()) == 6


def test_the_traced_graph_computes_what_the_network_computes():
    net, images = Functional().double(), samples(8)
    expected = net(images)
    torch.testing.assert_close(trace(net)(images), expected, rtol=0, atol=1e-12)
    snn_net = residual_net()
    torch.testing.assert_close(trace(snn_net)(images), snn_net(images), rtol=0, atol=1e-12)


def test_the_network_stays_untouched():
    net = residual_net().train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    convert(net, samples(1), [samples(8)], timesteps=2)
    assert net.training
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert isinstance(net.bn1, nn.BatchNorm2d)


def test_simulation_equals_the_loop_with_one_pass_a_step():
    net, images = residual_net(), samples(20)
    snn = convert(net, images[:1], [images], timesteps=7)
    thresholds = {name: neuron.threshold for name, neuron in snn.neurons().items()}
    slow, neurons = loops.spiking_copy(net, thresholds, 7)
    expected = loops.run(slow, neurons, images, 7).cumsum(0)
    expected /= torch.arange(1, 8).view(-1, 1, 1)
    torch.testing.assert_close(simulate(snn, images), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [1, 7, 64])
def test_logits_do_not_depend_on_batch_size(size):
    net, images = residual_net(dtype=torch.float32), samples(64, dtype=torch.float32)
    snn = convert(net, images[:1], [images], timesteps=6)
    calibrate(net, snn, [images])
    whole = simulate(snn, images)
    pieces = torch.cat([simulate(snn, part) for part in images.split(size)], dim=1)
    torch.testing.assert_close(whole, pieces, rtol=0, atol=1e-5)


def test_logits_do_not_depend_on_how_time_and_samples_are_cut(monkeypatch):
    net, images = residual_net(), samples(9)
    snn = convert(net, images[:1], [images], timesteps=7)
    expected = simulate(snn, images)
    for sizes in ((1, 7), (9, 1), (4, 3)):
        monkeypatch.setattr("ftbc_lightning.snn.simulation.chunk_sizes", lambda *a, s=sizes: s)
        torch.testing.assert_close(simulate(snn, images), expected, rtol=0, atol=1e-12)


def test_fewer_steps_are_the_first_ones():
    net, images = residual_net(), samples(9)
    snn = convert(net, images[:1], [images], timesteps=7)
    torch.testing.assert_close(simulate(snn, images, 3), simulate(snn, images)[:3])


def test_many_steps_with_maximum_thresholds_approach_the_ann():
    net, images = residual_net(), samples(32)
    error = {}
    for steps in (64, 256):
        snn = convert(net, images[:1], [images], timesteps=steps, threshold_rule="max")
        error[steps] = (simulate(snn, images)[-1] - net(images)).abs().mean().item()
    assert error[256] < 0.4 * error[64]
    assert error[256] < 0.05


def test_a_map_rebuilds_the_structure_for_the_state_dict():
    net, images = residual_net(), samples(16)
    snn = convert(net, images[:1], [images], timesteps=3)
    calibrate(net, snn, [images])
    twin = reconvert(residual_net(seed=5), conversion_map(snn))
    twin.load_state_dict(snn.state_dict())
    assert torch.equal(simulate(twin, images), simulate(snn, images))


def test_a_map_holds_plain_values_only():
    snn = convert(residual_net(), samples(1), [samples(4)], timesteps=3)
    assert conversion_map(snn) == {
        "format": 1,
        "timesteps": 3,
        "input": [2, 6, 6],
        "corrects_membranes": False,
        "neurons": {"act1": [6, 6, 6], "act2": [6, 6, 6], "act3": [6, 6, 6]},
    }


def test_a_map_of_another_network_or_a_later_format_is_refused():
    found = conversion_map(convert(residual_net(), samples(1), [samples(4)], timesteps=3))
    with pytest.raises(UserError, match="conversion of another network"):
        reconvert(Functional(), found)
    with pytest.raises(UserError, match="format 99"):
        reconvert(residual_net(), {**found, "format": 99})


def test_a_rebuilt_network_without_values_says_so():
    net = residual_net()
    found = conversion_map(convert(net, samples(1), [samples(4)], timesteps=3))
    with pytest.raises(UserError, match="thresholds of 3 of 3 neurons are not set"):
        simulate(reconvert(net, found), samples(1))


def test_without_temporal_bias_is_the_uncalibrated_network():
    net, images = residual_net(), samples(16)
    snn = convert(net, images[:1], [images], timesteps=3)
    expected = simulate(snn, images)
    calibrate(net, snn, [images])
    plain = without_temporal_bias(snn)
    assert torch.equal(simulate(plain, images), expected)
    assert not torch.equal(simulate(snn, images), expected)
    assert plain.layers.conv1 is snn.layers.conv1


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(2, 4, 1), nn.GELU())
        self.second = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ELU())
        self.third, self.last = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)

    def forward(self, x):
        x = torch.relu(self.third(self.second(self.first(x))))
        return self.last(torch.softmax(x * x, 1))


def test_all_unsupported_nodes_are_named_at_once():
    with pytest.raises(UserError) as caught:
        convert(Mixed().double(), samples(1), [samples(4)], timesteps=3)
    for text in (
        "4 of its nodes",
        "first.1 (GELU)",
        "second.1 (ELU)",
        "mul",
        "softmax (softmax, in forward)",
    ):
        assert text in str(caught.value)


def test_a_network_without_relu_is_refused():
    with pytest.raises(UserError, match="has no ReLU"):
        convert(nn.Sequential(nn.Linear(2, 2)), torch.rand(1, 2), [torch.rand(2, 2)], timesteps=3)


class Branching(nn.Module):
    def forward(self, x):
        return torch.relu(x) if x.sum() > 0 else x


def test_control_flow_on_values_is_refused():
    with pytest.raises(UserError, match="cannot be traced"):
        convert(Branching(), torch.rand(1, 2), [torch.rand(2, 2)], timesteps=3)


@pytest.mark.parametrize("timesteps", [0, -3])
def test_less_than_one_step_is_refused(timesteps):
    with pytest.raises(UserError, match=f"timesteps is {timesteps}"):
        convert(residual_net(), samples(1), [samples(4)], timesteps=timesteps)


def test_more_steps_than_converted_for_are_refused():
    snn = convert(residual_net(), samples(1), [samples(4)], timesteps=3)
    with pytest.raises(UserError, match="4 time steps were asked for"):
        simulate(snn, samples(1), 4)


def test_a_sample_of_the_wrong_shape_is_refused_by_name():
    with pytest.raises(UserError, match=r"\[1, 3, 6, 6\] does not pass conv1"):
        convert(residual_net(), torch.rand(1, 3, 6, 6), [samples(4)], timesteps=3)


def test_pixels_and_weights_that_are_not_finite_are_refused():
    net, images = residual_net(), samples(4)
    images[2, 0, 0, 0] = torch.nan
    with pytest.raises(UserError, match="Calibration batch 0 holds NaN"):
        convert(net, samples(1), [images], timesteps=3)
    net.conv2.weight.data[0] = torch.inf
    with pytest.raises(UserError, match="Activation act2 of the ANN is NaN or infinite"):
        convert(net, samples(1), [samples(4)], timesteps=3)


def test_a_batch_size_taken_from_the_sample_counts_the_steps_too():
    class Viewing(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.linear = nn.Conv2d(2, 3, 1), nn.Linear(3 * 36, 4)

        def forward(self, x):
            batch = x.shape[0]
            y = torch.relu(self.conv(x))
            return self.linear(y.view(batch, -1))

    net = Viewing().double()
    snn = convert(net, samples(1), [samples(8)], timesteps=3)
    assert simulate(snn, samples(5)).shape == (3, 5, 4)


def test_a_network_that_is_traced_already_stays_as_it_is():
    images = samples(8)
    graph = trace(residual_net(), images[:1])
    before = graph(images)
    snn = convert(graph, images[:1], [images], timesteps=3)
    calibrate(graph, snn, [images], method="weights+exact")
    assert torch.equal(graph(images), before)
    expected = convert(residual_net(), images[:1], [images], timesteps=3)
    calibrate(residual_net(), expected, [images], method="weights+exact")
    assert torch.equal(simulate(snn, images), simulate(expected, images))


@pytest.mark.parametrize("rule", ["mse", "percentile", "max"])
def test_thresholds_do_not_depend_on_the_default_type(rule):
    net, images = residual_net(dtype=torch.float32), samples(8, dtype=torch.float32)
    found = []
    for default in (torch.float32, torch.bfloat16):
        torch.set_default_dtype(default)
        try:
            snn = convert(net, images[:1], [images], timesteps=3, threshold_rule=rule)
        finally:
            torch.set_default_dtype(torch.float32)
        found.append(torch.cat([n.threshold for n in snn.neurons().values()]))
    assert found[1].dtype == torch.float32
    assert torch.equal(*found)
