import pytest
import torch
from torch import nn

from ftbc_lightning import UserError, convert
from ftbc_lightning.analysis.energy import COST_TABLES, cost_table, energy, quantized_energy
from ftbc_lightning.analysis.operation_counts import count_ann_operations, count_operations
from ftbc_lightning.analysis.quantized_ann import quantized_logits
from ftbc_lightning.snn.simulation import simulate
from tests.networks import residual_net, samples


def tiny():
    """2 inputs, 2 neurons, 3 outputs; one weight is 0. Its spikes can be found on paper.

    Currents for the sample (1, 0.5): neuron 0 gets 0.6, neuron 1 gets 1.0 + 0.1 = 1.1.
    With theta = (1, 2) and v0 = theta/2, T = 3:
      neuron 0: u = 1.1 fire, 0.7, 1.3 fire      -> spikes at steps 0 and 2
      neuron 1: u = 2.1 fire, 1.2, 2.3 fire      -> spikes at steps 0 and 2
    """
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 3, bias=False))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[0.6, 0.0], [1.0, 0.0]]))
        net[0].bias.copy_(torch.tensor([0.0, 0.1]))
        net[2].weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0], [0.0, 5.0]]))
    images = torch.tensor([[1.0, 0.5]])
    snn = convert(net, images, [images], timesteps=3)
    snn.neurons()["_1"].set_threshold(torch.tensor([1.0, 2.0]), half_threshold="initial")
    return net, snn, images


def test_the_counts_of_a_tiny_network_are_those_found_by_hand():
    _, snn, images = tiny()
    count = count_operations(snn, images)
    first, last = count.layers
    # 2 of 4 weights are not 0, and both meet the input 1.0
    assert (first.inputs, first.dense, first.effective) == ("analog", 4.0, (2.0,))
    # a spike of neuron 0 reaches 2 weights that are not 0, one of neuron 1 reaches 3
    assert (last.inputs, last.dense, last.effective) == ("spikes", 6.0, (5.0, 0.0, 5.0))
    assert (count.macs("once"), count.macs("every_step"), count.acs()) == (2.0, 6.0, 10.0)
    assert (count.dense("once"), count.dense("every_step")) == (4 + 18, 12 + 18)
    assert count.bias_adds("once") == 2
    assert count.firing_rates["_1"] == (1.0, 0.0, 1.0)
    assert count.activation_sparsity == pytest.approx(1 / 3)
    assert count.zero_weights == pytest.approx(3 / 10)
    assert count.shortcut_adds == (0.0, 0.0, 0.0)


def test_the_energy_of_a_tiny_network_is_the_one_found_by_hand():
    net, snn, images = tiny()
    table = COST_TABLES["45nm-fp32"]
    assert (table.mac, table.ac) == (pytest.approx(4.6), 0.9)
    count = count_operations(snn, images)
    assert energy(count, table).synapses == pytest.approx((2 * 4.6 + 10 * 0.9) / 1000)
    every = energy(count, table, first_layer="every_step")
    assert every.synapses == pytest.approx((6 * 4.6 + 10 * 0.9) / 1000)
    assert energy(count, table).additions == pytest.approx(2 * 0.9 / 1000)
    assert "45nm-fp32" in str(every)
    assert "every step" in str(every)
    ann = count_ann_operations(net, snn, images)
    assert (ann.macs(), ann.acs(), ann.dense()) == (2 + 5, 0, 4 + 6)
    # T = 3 needs 2 bits: a product in the second layer is 2 additions
    quantized = count_ann_operations(net, snn, images, quantized=True)
    found = quantized_energy(quantized, table, timesteps=3)
    assert found.synapses == pytest.approx((2 * 4.6 + 5 * 2 * 0.9) / 1000)


def tiny_with(theta, **model):
    """`tiny` with another neuron: currents 0.6 and 1.1, v0 = theta/2, T = 3."""
    net, _, images = tiny()
    snn = convert(net, images, [images], timesteps=3, **model)
    snn.neurons()["_1"].set_threshold(torch.tensor(theta), half_threshold="initial")
    return snn, images


def test_the_counts_of_a_signed_neuron_are_those_found_by_hand():
    """With b = -2 for neuron 0 at step 1.

    neuron 0: u = 1.1 fire, -1.3 take back, 0.3   -> 1, -1, 0
    neuron 1: u = 2.1 fire, 1.2, 2.3 fire         -> 1, 0, 1
    """
    snn, images = tiny_with([1.0, 2.0], neuron="signed")
    snn.neurons()["_1"].temporal_bias[1, 0] = -2.0
    count = count_operations(snn, images)
    last = count.layers[1]
    # neuron 0 reaches 2 weights, neuron 1 three; a negative spike as many as a positive one
    assert (last.inputs, last.effective, last.reached) == ("spikes", (5, 2, 3), (5, 2, 3))
    assert count.firing_rates["_1"] == (1.0, 0.5, 0.5)
    assert count.negative_rates["_1"] == (0.0, 0.5, 0.0)
    assert (count.negative_share, count.spike_bits) == (pytest.approx(1 / 4), 2)
    updates = count.updates
    # two comparisons a neuron and step, and the counter at each of the 4 spikes
    assert (updates.products, updates.comparisons, updates.counter_adds) == (0, 12, 4)
    found = energy(count, COST_TABLES["45nm-fp32"])
    assert found.neurons == pytest.approx((12 - 6 + 4) * 0.9 / 1000)
    assert "nJ in neurons" in str(found)


def test_the_counts_of_a_neuron_with_two_levels_are_those_found_by_hand():
    """neuron 0, theta 1/4: u = 0.725, 0.825, 0.925 -> 2, 2, 2; neuron 1, theta 1: 1, 1, 1."""
    snn, images = tiny_with([0.25, 1.0], levels=2)
    count = count_operations(snn, images)
    last = count.layers[1]
    assert (last.inputs, last.effective, last.reached) == ("spikes", (7, 7, 7), (5, 5, 5))
    assert (count.acs(), count.spike_products()) == (21, 15)
    assert count.firing_rates["_1"] == (1.5, 1.5, 1.5)
    assert (count.activation_sparsity, count.firing_rate) == (0, 1.5)
    assert (count.negative_share, count.spike_bits) == (0, 2)
    assert (count.updates.products, count.updates.comparisons) == (0, 12)


def test_the_counts_of_a_neuron_with_a_leak_are_those_found_by_hand():
    """neuron 0: u = 1.1 fire, 0.65, 0.925; neuron 1: u = 2.1 fire, 1.15, 1.675."""
    snn, images = tiny_with([1.0, 2.0], leak=0.5)
    count = count_operations(snn, images)
    assert count.layers[1].effective == (5, 0, 0)
    assert (count.updates.products, count.updates.comparisons, count.spike_bits) == (6, 6, 1)
    assert energy(count, COST_TABLES["45nm-fp32"]).neurons == pytest.approx(6 * 3.7 / 1000)


def test_a_plain_neuron_has_nothing_beside_its_spikes():
    _, snn, images = tiny()
    count = count_operations(snn, images)
    assert (count.spike_products(), count.spike_bits, count.negative_share) == (10, 1, 0)
    assert energy(count, COST_TABLES["45nm-fp32"]).neurons == 0


def test_temporal_biases_are_additions_of_their_own():
    _, snn, images = tiny()
    snn.neurons()["_1"].temporal_bias[1] = torch.tensor([0.0, 0.01])
    count = count_operations(snn, images)
    assert count.temporal_bias_adds == (0.0, 1.0, 0.0)
    assert count.bias_adds() == 3


def test_counting_leaves_the_network_as_it_is():
    _, snn, images = tiny()
    before = simulate(snn, images)
    count_operations(snn, images)
    assert torch.equal(simulate(snn, images), before)


def test_a_residual_sum_costs_an_addition_for_each_spike_of_the_shortcut():
    ann, images = residual_net(), samples(16)
    snn = convert(ann, images[:1], [images], timesteps=4)
    count = count_operations(snn, images)
    assert [layer.inputs for layer in count.layers] == ["analog", "spikes", "spikes", "graded"]
    size = count.neurons["act1"]
    expected = [rate * size for rate in count.firing_rates["act1"]]
    assert list(count.shortcut_adds) == pytest.approx(expected)


def test_counts_do_not_depend_on_how_samples_are_batched():
    ann, images = residual_net(), samples(12)
    snn = convert(ann, images[:1], [images], timesteps=3)
    parts = [count_operations(snn, part) for part in images.split(4)]
    whole = count_operations(snn, images)
    assert whole.acs() == pytest.approx(sum(part.acs() for part in parts) / 3)
    assert whole.macs() == pytest.approx(sum(part.macs() for part in parts) / 3)


def test_the_quantised_ann_is_the_limit_of_many_steps():
    ann, images = residual_net().requires_grad_(False), samples(32)
    ratios = []
    for timesteps in (2, 256):
        snn = convert(ann, images[:1], [images], timesteps=timesteps, threshold_rule="max")
        error = quantized_logits(ann, snn, images) - ann(images)
        ratios.append(float(error.norm() / ann(images).norm()))
    assert ratios[1] < 0.02 < ratios[0]


def test_the_cost_tables_are_the_published_figures_and_nothing_else():
    published = {  # product and sum in pJ, Horowitz, ISSCC 2014, 45 nm
        "45nm-fp32": (3.7, 0.9),
        "45nm-fp16": (1.1, 0.4),
        "45nm-int32": (3.1, 0.1),
        "45nm-int8": (0.2, 0.03),
    }
    found = {name: (table.mac - table.ac, table.ac) for name, table in COST_TABLES.items()}
    assert found == {name: pytest.approx(pair) for name, pair in published.items()}
    assert all("Horowitz" in table.source for table in COST_TABLES.values())


def test_a_cost_table_that_is_not_there():
    with pytest.raises(UserError, match="choose one of 45nm-fp32"):
        cost_table("3nm")


def test_layers_that_are_functions_are_named_and_not_counted_in_silence():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Parameter(torch.randn(5, 4))
            self.last = nn.Parameter(torch.randn(5, 3))

        def forward(self, x):
            return torch.relu(nn.functional.linear(x, self.first)) @ self.last

    net, images = Functional(), torch.rand(8, 4)
    snn = convert(net, images[:1], [images], timesteps=2)
    with pytest.warns(UserWarning, match="2 layers are not counted.*linear, matmul"):
        count = count_operations(snn, images)
    assert count.layers == ()


def test_every_layer_that_reads_the_sample_pays_for_real_numbers():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.other, self.last = nn.Linear(8, 6), nn.Linear(8, 6), nn.Linear(6, 3)

        def forward(self, x):
            return self.last(torch.relu(self.one(x) + self.other(x)))

    net, images = Two(), torch.rand(8, 8) + 0.1
    snn = convert(net, images[:1], [images], timesteps=1)
    count = count_ann_operations(net, snn, images, quantized=True)
    assert [layer.inputs for layer in count.layers] == ["analog", "analog", "graded"]
    table = cost_table("45nm-fp32")
    behind = sum(count.layers[2].effective)
    expected = (2 * 8 * 6 * table.mac + behind * table.ac) / 1000
    assert quantized_energy(count, table, timesteps=1).synapses == pytest.approx(expected)
