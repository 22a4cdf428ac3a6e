"""Functions that are not linear, over what has arrived so far, and encoders before layers."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ftbc_lightning import (
    TrainableNetwork,
    UserError,
    calibrate,
    conversion_map,
    convert,
    export,
    reconvert,
    simulate,
)
from ftbc_lightning.analysis.diagnosis import diagnose
from ftbc_lightning.analysis.energy import cost_table, energy
from ftbc_lightning.analysis.inspection import inspect
from ftbc_lightning.analysis.operation_counts import count_ann_operations, count_operations
from ftbc_lightning.analysis.quantized_ann import corrected_ann, levels_of
from ftbc_lightning.calibration.places import correctable
from ftbc_lightning.snn import simulation
from ftbc_lightning.snn.conversion import prepare
from ftbc_lightning.snn.network import shortened
from ftbc_lightning.snn.stepping import SteppedNetwork
from tests.networks import transformer


class Through(nn.Module):
    """A layer of neurons, a function of what they emit, and a layer with weights."""

    def __init__(self, function, features=8):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(5, 8), nn.Linear(features, 3)
        self.layer = function if isinstance(function, nn.Module) else None
        self.function = function if self.layer is None else None

    def behind(self, h):
        found = self.layer(h) if self.function is None else self.function(h)
        return self.last(found.flatten(1))

    def forward(self, x):
        return self.behind(F.relu(self.first(x)))


class Gated(nn.Module):
    """Squeeze and excitation, on four channels of two places."""

    def __init__(self):
        super().__init__()
        self.down, self.up = nn.Linear(4, 2), nn.Linear(2, 4)

    def forward(self, h):
        h = h.view(-1, 4, 2)
        gate = torch.sigmoid(self.up(torch.tanh(self.down(h.mean(2)))))
        return h * gate.unsqueeze(2)


def heads(h):
    return h.view(-1, 1, 4, 2)


FUNCTIONS = {
    **{
        kind.__name__: kind
        for kind in (nn.GELU, nn.SiLU, nn.Sigmoid, nn.Hardswish, nn.Hardsigmoid, nn.Tanh, nn.ELU)
    },
    **{kind.__name__: kind for kind in (nn.Softplus, nn.Mish, nn.SELU)},
    "LayerNorm": lambda: nn.LayerNorm(8),
    "RMSNorm": lambda: nn.RMSNorm(8),
    "GroupNorm": lambda: nn.GroupNorm(2, 8),
    "softmax": lambda: lambda h: h.softmax(1),
    "a product": lambda: lambda h: h * h.flip(1),
    "a product by name": lambda: lambda h: torch.mul(h, other=h.sigmoid()),
    "a quotient": lambda: lambda h: h / (1 + h.sum(1, keepdim=True)),
    "matmul": lambda: lambda h: heads(h) @ heads(h).transpose(2, 3) @ heads(h),
    "attention": lambda: lambda h: F.scaled_dot_product_attention(heads(h), heads(h), heads(h)),
    "a gate": Gated,
    "a function of a function": lambda: lambda h: F.gelu(h).softmax(1) * torch.tanh(h),
}


def built(name):
    torch.manual_seed(0)
    net = Through(FUNCTIONS[name]()).double().eval()
    return net, torch.randn(16, 5, dtype=torch.float64)


@pytest.mark.parametrize("leak", [1.0, 0.8])
@pytest.mark.parametrize("name", FUNCTIONS)
@torch.no_grad()
def test_after_every_step_it_is_the_function_of_the_mean_so_far(name, leak, monkeypatch):
    net, x = built(name)
    snn = convert(net, x[:1], [x], timesteps=6, functions="in_time", leak=leak)
    assert list(snn.shapes) == ["relu"]
    logits = simulate(snn, x)
    spikes, _ = snn.neurons()["relu"](net.first(x).expand(6, -1, -1).contiguous())
    total, count = torch.zeros_like(spikes[0]), 0.0
    for t in range(6):
        total, count = leak * total + spikes[t], leak * count + 1
        torch.testing.assert_close(logits[t], net.behind(total / count), rtol=0, atol=1e-9)
    torch.testing.assert_close(SteppedNetwork(snn)(x), logits, rtol=0, atol=1e-9)
    monkeypatch.setattr(simulation, "chunk_sizes", lambda *_: (5, 4))
    torch.testing.assert_close(simulate(snn, x), logits, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", FUNCTIONS)
@torch.no_grad()
def test_with_encoders_layers_read_spikes_and_the_error_falls_with_the_steps(name):
    net, x = built(name)
    errors = []
    for timesteps in (16, 256):
        settings = {"timesteps": timesteps, "functions": "encoded", "threshold_rule": "max"}
        snn = convert(net, x[:1], [x], **settings)
        errors.append(float((simulate(snn, x)[-1] - net(x)).abs().mean()))
    assert len(snn.shapes) >= 2
    assert errors[1] < 0.25 * errors[0]


@torch.no_grad()
def distance(snn, net, x):
    return float((simulate(snn, x)[-1] - net(x)).abs().mean() / net(x).std())


def test_a_transformer_converts_with_neurons_before_its_layers_and_comes_to_the_ann(tmp_path):
    net, x = transformer(12)
    found = []
    for timesteps in (16, 64):
        settings = {"timesteps": timesteps, "functions": "encoded", "threshold_rule": "max"}
        found.append(distance(convert(net, x[:1], [x], **settings), net, x))
    assert found[1] < 0.4 * found[0]
    assert found[1] < 0.03
    snn = convert(net, x[:1], [x], timesteps=8, functions="encoded")
    # before q, k and v together, what follows attention, the two linear layers; and the head
    assert len(snn.shapes) == 2 * 4 + 1
    assert snn.shapes["blocks_0_norm1_encoded"] == (16, 16)  # a channel each value of a patch
    for method in ("static", "exact", "weights+exact"):
        calibrate(net, snn, [x], method=method)
        assert distance(snn, net, x) < 0.15
    batches = [x[:7], x[7:8], x[8:]]
    other = convert(net, x[:1], batches, timesteps=8, functions="encoded")
    calibrate(net, other, batches, method="weights+exact")
    torch.testing.assert_close(simulate(other, x), simulate(snn, x), rtol=0, atol=1e-9)
    trained = TrainableNetwork(snn, checkpointing=True)
    assert torch.equal(trained(x), simulate(snn, x))
    trained(x)[-1].square().mean().backward()
    assert all(p.grad is not None for p in trained.snn.layers.head.parameters())
    twin = reconvert(net, conversion_map(snn))
    twin.load_state_dict(snn.state_dict())
    assert torch.equal(simulate(twin, x), simulate(snn, x))
    assert set(diagnose(net, snn, [x]).layers) == set(snn.shapes)
    short = shortened(snn, 2)
    program = torch.export.load(export(short, tmp_path / "a.pt2", format="torch_export")).module()
    torch.testing.assert_close(program(x), simulate(short, x), rtol=0, atol=1e-9)


def test_weights_are_corrected_before_functions_and_encoders():
    net, x = transformer(24)
    snn = convert(net, x[:1], [x], timesteps=4, functions="encoded")
    places = [place for several in correctable(snn).values() for place in several]
    block = ["attention.query", "attention.key", "attention.value", "attention.out", "rise", "fall"]
    names = [str(place.node.target).replace("blocks.", "") for place in places]
    assert names == [f"{i}.{layer}" for i in (0, 1) for layer in block]
    sums = [place.target.name for place in places if place.target is not place.node]
    assert len(sums) == 4  # what attention and the two layers give is added to what they read
    assert not any(place.neuron for place in places)
    before, weights = distance(snn, net, x), [place.module.weight.clone() for place in places]
    calibrate(net, snn, [x], method="weights+exact")
    for place, given in zip(places, weights, strict=True):
        assert not torch.equal(place.module.weight, given)
    assert distance(snn, net, x) < 0.9 * before


def test_a_layer_behind_an_encoder_adds_once_for_each_spike_of_either_sign():
    net, x = built("LayerNorm")
    snn = convert(net, x[:1], [x], timesteps=5, functions="encoded")
    names = list(snn.shapes)
    assert names == ["relu", "flatten_encoded"]
    count = count_operations(snn, x)
    assert 0 < sum(count.negative_rates["flatten_encoded"]) < sum(count.firing_rates[names[1]])
    assert count.spike_bits == 2
    layer = {layer.layer: layer for layer in count.layers}["last"]
    assert layer.inputs == "spikes"
    assert sum(layer.effective) == pytest.approx(3 * 8 * sum(count.firing_rates[names[1]]))


def test_what_does_not_spike_is_counted_on_lines_of_its_own():
    net, x = transformer(24)
    snn = convert(net, x[:1], [x], timesteps=3, functions="encoded")
    count, ann = count_operations(snn, x), count_ann_operations(net, snn, x)
    patches, width = 16, 16
    attention = 2 * patches * patches * width  # scores of all pairs, and sums with them
    assert count.function_products() == 3 * 2 * attention
    assert ann.function_products() == 2 * attention
    each = patches * (2 * width + width + 2 * width)  # two norms, attention, GELU
    # of the five norms the first reads the sample alone
    assert ann.function_values() == 2 * each
    assert count.macs() == ann.layers[0].effective[0]  # of the patches alone
    table = cost_table("45nm-fp32")
    assert energy(count, table).functions == pytest.approx(3 * 2 * attention * table.mac / 1000)


def test_a_product_of_two_values_in_time_multiplies_once_for_each_value():
    net, x = built("a product")
    count = count_operations(convert(net, x[:1], [x], timesteps=3, functions="encoded"), x)
    (product,) = count.functions
    assert (product.values, product.products) == (8, 8)


class Sums(nn.Module):
    """Two layers in one sum before a ReLU, one of them over places that it does not have."""

    def __init__(self, wide):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv2d(2, 4, 3, padding=1), nn.Linear(4, 3)
        self.one, self.other = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.wide = wide

    def forward(self, x):
        h = F.gelu(self.first(x).relu())
        short = h if self.wide else h.mean((2, 3), keepdim=True)
        return self.last((self.one(h) + self.other(short)).relu().mean((2, 3)))


@pytest.mark.parametrize("functions", ["in_time", "encoded"])
@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("method", ["weights+exact", "backpropagation+exact"])
def test_of_two_layers_in_a_sum_before_a_relu_one_is_corrected(functions, wide, method):
    net, x = Sums(wide).double(), torch.randn(12, 2, 5, 5, dtype=torch.float64)
    snn = convert(net, x[:1], [x], timesteps=2, functions=functions)
    before = snn.layers.get_parameter("other.weight").clone()
    calibrate(net, snn, [x], method=method)
    assert not torch.equal(snn.layers.get_parameter("other.weight"), before)
    corrected = corrected_ann(net, snn, [x])
    assert torch.equal(corrected.get_parameter("other.weight"), before) is not wide


def test_nir_refuses_an_encoder_by_name(tmp_path):
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Conv2d(3, 4, 2), nn.ReLU(), nn.Conv2d(4, 4, 1))
    x = torch.randn(4, 2, 6, 6)
    snn = convert(net, x[:1], [x], timesteps=2, functions="encoded")
    with pytest.raises(UserError, match=r"0_encoded \(neuron\): it is an encoder"):
        export(snn, tmp_path / "a", format="nir")


@pytest.mark.parametrize(
    ("function", "products"),
    [
        (lambda h: h * h, 8),
        (torch.square, 8),
        (lambda h: h**3, 16),
        (lambda h: torch.multiply(h, h.sigmoid()), 8),
        (lambda h: h**0.5, 0),
    ],
)
def test_products_of_one_value_with_itself_are_counted(function, products):
    net, x = Through(function), torch.randn(4, 5)
    count = count_operations(convert(net, x[:1], [x], timesteps=2, functions="encoded"), x)
    assert sum(found.products for found in count.functions) == products


def test_inspection_and_energy_know_both_signs():
    net, x = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3)), torch.randn(4, 5)
    (row,) = [row for row in inspect(net, x[:1], functions="encoded").rows if row.threshold]
    assert row.spikes == "-1 to 1"
    assert levels_of(convert(net, x[:1], [x], timesteps=2, functions="encoded")) == 2


def test_an_encoder_moves_channels_without_a_counter_and_the_layer_reads_whole_spikes():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 6), nn.GELU(), nn.Linear(6, 3))
    x = torch.randn(8, 5, 4)
    snn = convert(net, x[:1], [x], timesteps=32, functions="encoded")
    assert len(SteppedNetwork(snn).state_names) == 2 + 2  # neurons, and the second GELU's
    seen = []
    snn.layers.get_submodule("2").register_forward_hook(lambda m, given, out: seen.append(given[0]))
    simulate(snn, x)
    theta = snn.neurons()["_1_encoded"].threshold
    assert set((seen[0].reshape(-1, 6) / theta).unique().tolist()) == {-1, 0, 1}


class Folded(nn.Module):
    """Patches of all samples along the first axis, or the places before the samples."""

    def __init__(self, kind):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(5, 8), nn.LayerNorm(4), nn.Linear(8, 3)
        self.kind = kind

    def forward(self, x):
        y = F.relu(self.first(x))
        if self.kind == "windows":
            y = self.norm(y.reshape(-1, 4))
        else:
            y = self.norm(y.view(-1, 2, 4).transpose(0, 1)).transpose(0, 1)
        return self.last(y.reshape(x.shape[0], 8))


@pytest.mark.parametrize(("kind", "named"), [("windows", "reshape"), ("places", "transpose")])
def test_a_function_of_samples_that_do_not_lead_is_refused_when_it_is_converted(kind, named):
    x = torch.randn(6, 5)
    with pytest.raises(UserError, match=rf"{named} \({named}, in forward\) mixes the samples"):
        convert(Folded(kind), x[:1], [x], timesteps=4, functions="encoded")
    assert not inspect(Folded(kind), x[:1], functions="encoded").convertible


def test_a_whole_transformer_of_torch_is_refused_by_name():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    net = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.TransformerEncoder(layer, 2)).eval()
    with pytest.raises(UserError, match=r"2 \(TransformerEncoder\) is one module that cannot be"):
        prepare(net, torch.zeros(1, 3, 5), timesteps=2, functions="encoded")


def test_without_the_option_all_are_refused_with_it_named():
    net, x = transformer(24)
    with pytest.raises(UserError, match=r"norm1 \(LayerNorm\).*--calibration.functions encoded"):
        convert(net, x[:1], [x], timesteps=2)
    with pytest.raises(UserError, match=r"no ReLU, so nothing in it would spike.*functions=encod"):
        convert(net, x[:1], [x], timesteps=2, functions="in_time")
    with pytest.raises(UserError, match="functions is 'all'; choose one of refuse, in_time, enco"):
        convert(net, x[:1], [x], timesteps=2, functions="all")
    assert not inspect(net, x[:1]).convertible
    found = inspect(net, x[:1], functions="encoded")
    said = {row.node: row.becomes for row in found.rows}
    assert said["blocks.0.norm1"].startswith("encoder") or "arrived" in said["blocks.0.norm1"]
    assert found.convertible


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.cells, self.last = nn.Linear(5, 8), nn.LSTM(8, 8), nn.Linear(8, 2)

    def forward(self, x):
        return self.last(self.cells(F.relu(self.first(x)))[0])


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (Recurrent, r"cells \(LSTM\) does not give one tensor"),
        (lambda: Through(lambda h: F.dropout(h, training=True)), r"it draws in evaluation mode"),
        (lambda: Through(lambda h: h.softmax(0)), r"softmax \(softmax, in forward\) mixes the sam"),
    ],
)
def test_what_is_no_function_of_one_sample_is_refused(net, message):
    with pytest.raises(UserError, match=message):
        prepare(net().eval(), torch.zeros(1, 5), timesteps=2, functions="encoded")
