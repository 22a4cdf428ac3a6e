"""Every function for Python users, with network and samples on a device: the CPU's bits."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ftbc_lightning import (
    FrozenNetwork,
    SpikingNetwork,
    UserError,
    calibrate,
    conversion_map,
    convert,
    export,
    load,
    reconvert,
    simulate,
    without_temporal_bias,
)
from ftbc_lightning.analysis.diagnosis import diagnose
from ftbc_lightning.analysis.operation_counts import count_ann_operations, count_operations
from ftbc_lightning.analysis.quantized_ann import corrected_ann, quantized_logits
from ftbc_lightning.ann import SmallCNN
from ftbc_lightning.calibration import parse_method
from ftbc_lightning.snn.conversion import prepare
from ftbc_lightning.snn.early_exit import simulate_until_sure
from ftbc_lightning.snn.network import shortened, sibling
from ftbc_lightning.snn.stepping import SteppedNetwork
from ftbc_lightning.snn.threshold_folding import fold_thresholds
from ftbc_lightning.snn.weight_rounding import quantize_weights
from tests import pretend_device
from tests.networks import residual_net, samples, transformer

METHODS = [
    *("none", "static", "iterative", "exact", "potential", "weights", "backpropagation"),
    *("potential+iterative", "weights+exact", "weights+potential+static", "backpropagation+exact"),
]
BATCHES = samples(24, dtype=torch.float32).split(12)
T = 3
NEURONS = [
    {"leak": 0.8},
    {"levels": 2},
    {"neuron": "signed"},
    {"neuron": "signed", "levels": 2, "leak": 0.8},
]


class MaxPooled(nn.Sequential):
    """Max pooling that spikes reach."""

    def __init__(self) -> None:
        super().__init__(
            *(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 3, 1), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(12, 4)),
        )


def made(place: str, ann: nn.Module | None = None, **settings: Any) -> tuple[nn.Module, Any]:
    """An ANN and its conversion in a place."""
    own = copy.deepcopy(residual_net(dtype=torch.float32) if ann is None else ann).to(place)
    batches = [batch.to(place) for batch in BATCHES]
    return own, convert(own, batches[0][:1], batches, timesteps=T, **settings)


def corrected(place: str, method: str, **settings: Any) -> tuple[nn.Module, SpikingNetwork]:
    ann, snn = made(place)
    batches = [batch.to(place) for batch in BATCHES]
    calibrate(ann, snn, batches, method=method, iterations=5, **settings)
    return ann, snn


@pytest.fixture(scope="module")
def both(device):
    """ANN and calibrated network on the CPU, and on the device."""
    return {place: corrected(place, "weights+exact") for place in ("cpu", "pretend")}


def assert_same(here: SpikingNetwork, there: SpikingNetwork) -> None:
    state, other = here.state_dict(), there.state_dict()
    assert {value.device.type for value in other.values()} == {"pretend"}
    assert state.keys() == other.keys()
    for name, value in state.items():
        assert torch.equal(value, other[name].cpu()), name
    images = BATCHES[0]
    assert torch.equal(simulate(here, images), simulate(there, images.to("pretend")).cpu())


@pytest.mark.parametrize("method", METHODS)
def test_calibration(method):
    assert parse_method(method).method == method
    assert_same(corrected("cpu", method)[1], corrected("pretend", method)[1])


@pytest.mark.parametrize("method", ["none", "exact", "weights+exact"])
def test_calibration_for_rounded_weights(method):
    here, there = (corrected(place, method, weight_bits=4)[1] for place in ("cpu", "pretend"))
    assert_same(here, there)


def test_weights_of_a_layer_with_more_inputs_than_rows():
    first, second = (nn.Conv2d(2, 12, 3), nn.ReLU(), nn.Flatten()), nn.Linear(192, 4)
    net, found = nn.Sequential(*first, second, nn.ReLU(), nn.Linear(4, 3)), []
    for place in ("cpu", "pretend"):
        ann, snn = made(place, net)
        calibrate(ann, snn, [batch.to(place) for batch in BATCHES], method="weights+exact")
        found.append(snn)
    assert not torch.equal(found[0].layers.get_submodule("3").weight, second.weight)
    assert_same(*found)


def test_calibration_in_rounds_that_aims_at_the_running_mean():
    settings = {"target": "cumulative", "rounds": 2, "alpha": 0.4}
    found = [corrected(place, "iterative", **settings)[1] for place in ("cpu", "pretend")]
    assert_same(*found)


@pytest.mark.parametrize("rule", ["mse", "max", "percentile", "balanced"])
@pytest.mark.parametrize("scope", ["channel", "layer"])
def test_threshold_rules(rule, scope):
    assert_same(*(made(p, threshold_rule=rule, scope=scope)[1] for p in ("cpu", "pretend")))


@pytest.mark.parametrize("half_threshold", ["initial", "per_step", "none"])
@pytest.mark.parametrize("rule", ["mse", "max"])
def test_half_thresholds(half_threshold, rule):
    settings = {"half_threshold": half_threshold, "threshold_rule": rule}
    assert_same(*(made(place, **settings)[1] for place in ("cpu", "pretend")))


@pytest.mark.parametrize("activation", ["clipped_relu", "qcfs"])
def test_learned_thresholds(activation):
    torch.manual_seed(0)
    ann = SmallCNN(in_channels=2, width=2, activation=activation).eval()
    found = [made(place, ann, threshold_rule="learned")[1] for place in ("cpu", "pretend")]
    assert_same(*found)


def test_max_pooling_that_spikes_reach():
    torch.manual_seed(0)
    ann = MaxPooled().eval()
    assert_same(*(made(place, ann)[1] for place in ("cpu", "pretend")))


def test_samples_on_the_cpu_calibrate_a_network_on_the_device():
    ann = residual_net(dtype=torch.float32)
    expected = convert(ann, BATCHES[0][:1], BATCHES, timesteps=T)
    there = copy.deepcopy(ann).to("pretend")
    snn = convert(there, BATCHES[0][:1], BATCHES, timesteps=T)
    calibrate(ann, expected, BATCHES)
    calibrate(there, snn, BATCHES)
    assert_same(expected, snn)


def everything(snn: SpikingNetwork, ann: nn.Module, images: Tensor) -> dict[str, Any]:
    """What the other functions find in one place, on the CPU."""
    folded, _ = fold_thresholds(snn)
    until_sure, steps = simulate_until_sure(snn, images, confidence=0.4)
    return {
        "fold_thresholds": simulate(folded, images).cpu(),
        "SteppedNetwork": SteppedNetwork(snn)(images).cpu(),
        "simulate fewer steps": simulate(snn, images, 2).cpu(),
        "FrozenNetwork": simulate(FrozenNetwork(snn), images).cpu(),
        "quantize_weights": simulate(quantize_weights(snn, 4), images).cpu(),
        "shortened": simulate(shortened(snn, 2), images).cpu(),
        "without_temporal_bias": simulate(without_temporal_bias(snn), images).cpu(),
        "simulate_until_sure": until_sure.cpu(),
        "its steps": steps.cpu(),
        "and frozen": simulate_until_sure(FrozenNetwork(snn), images, confidence=0.4)[0].cpu(),
        "quantized_logits": quantized_logits(ann, snn, images).cpu(),
        "corrected_ann": corrected_ann(ann, snn, [images]).state_dict()["conv2.weight"].cpu(),
        "count_operations": count_operations(snn, images),
        "count_operations of the first steps": count_operations(shortened(snn, 2), images),
        "count_ann_operations": count_ann_operations(ann, snn, images, quantized=True),
        "diagnose": diagnose(ann, snn, [images]),
    }


def test_what_is_computed_with_a_calibrated_network(both):
    here, there = (everything(snn, ann, BATCHES[1].to(place)) for place, (ann, snn) in both.items())
    for name, value in here.items():
        if isinstance(value, Tensor):
            assert torch.equal(value, there[name]), name
        else:
            assert value == there[name], name


@pytest.mark.parametrize("own_layers", [False, True])
def test_a_copy_lies_where_the_original_lies(both, own_layers):
    ann, snn = both["pretend"]
    copies = [
        *(sibling(snn, timesteps=2, own_layers=own_layers), shortened(snn, 2)),
        *(without_temporal_bias(snn), reconvert(ann, conversion_map(snn)), copy.deepcopy(snn)),
        *(prepare(ann, BATCHES[0][:1], timesteps=2), fold_thresholds(snn)[0]),
        quantize_weights(snn, 4),
    ]
    for network in copies:
        places = {value.device.type for value in network.state_dict().values()}
        assert places == {"pretend"}


def test_a_copy_moves_nothing_that_it_shares():
    _, snn = made("cpu")
    snn.layers.get_submodule("linear").to("pretend")
    shortened(snn, 2)
    assert snn.layers.get_submodule("linear").weight.device.type == "pretend"


@pytest.mark.parametrize("format", ["safetensors", "nir", "onnx", "torch_export"])
def test_export(both, tmp_path, format):
    files = {place: tmp_path / place for place in both}
    for place, (_, snn) in both.items():
        export(snn, files[place], format=format)
    if format == "torch_export":
        here, there = (torch.export.load(file).module()(BATCHES[0]) for file in files.values())
        assert torch.equal(here, there)
    else:
        assert files["cpu"].read_bytes() == files["pretend"].read_bytes()


def test_export_of_functions(tmp_path):
    net, x = transformer(4)
    snn = convert(net, x[:1], [x], timesteps=2, functions="encoded")
    files = [tmp_path / "cpu", tmp_path / "pretend"]
    for file in files:
        export(snn.to(file.name), file)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_export_in_integers(both, tmp_path):
    files = {place: tmp_path / place for place in both}
    for place, (_, snn) in both.items():
        export(snn, files[place], bits=8)
    assert files["cpu"].read_bytes() == files["pretend"].read_bytes()


def test_export_of_pooling_and_normalisation_with_a_mean_bias(tmp_path):
    torch.manual_seed(0)
    ann = nn.Sequential(
        *(nn.BatchNorm2d(2), nn.Conv2d(2, 3, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(3, 3, 1)),
        *(nn.BatchNorm2d(3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4)),
    ).eval()
    files = {place: tmp_path / place for place in ("cpu", "pretend")}
    for place, file in files.items():
        export(made(place, ann)[1], file, format="nir", bias="mean")
    assert files["cpu"].read_bytes() == files["pretend"].read_bytes()


def test_what_was_exported_there_is_loaded_here(both, tmp_path):
    files = {place: tmp_path / place for place in both}
    for place, (_, snn) in both.items():
        export(snn, files[place], format="safetensors")
    with pretend_device.unplugged():
        here = load(files["pretend"])
    assert torch.equal(simulate(here, BATCHES[0]), simulate(load(files["cpu"]), BATCHES[0]))
    assert_same(here, load(files["cpu"]).to("pretend"))


@pytest.mark.parametrize("place", ["cpu", "pretend"])
def test_mistakes_are_explained_in_every_place(place):
    ann = residual_net(dtype=torch.float32).to(place)
    snn = prepare(ann, BATCHES[0][:1], timesteps=T)
    with pytest.raises(UserError, match="not set"):
        simulate(snn, BATCHES[0].to(place))
    broken = torch.full((2, 2, 6, 6), torch.nan, device=place)
    with pytest.raises(UserError, match="NaN or infinite"):
        convert(ann, BATCHES[0][:1], [broken], timesteps=T)


@pytest.fixture(scope="module", params=NEURONS, ids=str)
def neurons(request, device):
    """ANN and converted network with a neuron's settings, on the CPU and on the device."""
    return {place: made(place, **request.param) for place in ("cpu", "pretend")}


@pytest.mark.parametrize("target", ["auto", "cumulative", "ramp", "ideal"])
@pytest.mark.parametrize("method", ["exact", "iterative", "weights+potential+static"])
def test_neuron_models(method, target, neurons):
    found = {}
    for place, (ann, converted) in neurons.items():
        snn = copy.deepcopy(converted)
        batches = [batch.to(place) for batch in BATCHES]
        calibrate(ann, snn, batches, method=method, target=target)
        found[place] = snn
    assert_same(found["cpu"], found["pretend"])


@pytest.mark.parametrize("settings", NEURONS, ids=str)
def test_neuron_models_with_max_pooling_step_by_step(settings, device):
    torch.manual_seed(0)
    net, images = MaxPooled().eval(), BATCHES[0]
    _, here = made("cpu", net, **settings)
    _, there = made("pretend", net, **settings)
    away = images.to("pretend")
    assert torch.equal(SteppedNetwork(here)(images), SteppedNetwork(there)(away).cpu())
    sure = [
        simulate_until_sure(snn, x, confidence=0.6) for snn, x in ((here, images), (there, away))
    ]
    assert all(torch.equal(a, b.cpu()) for a, b in zip(*sure, strict=True))


class Gates(nn.Module):
    """Functions in time: GELU, a gate, layer norm and a product, behind one layer of neurons."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(72, 8), nn.LayerNorm(8)
        self.rise, self.gate, self.last = nn.Linear(8, 6), nn.Linear(8, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.first(x.flatten(1)).relu())
        return self.last(torch.nn.functional.gelu(self.rise(x)) * self.gate(x).sigmoid())


@pytest.mark.parametrize("method", ["iterative", "exact"])
def test_functions_in_time_and_their_encoders_are_the_cpu_s(device, method):
    torch.manual_seed(0)
    net, found = Gates(), []
    for place in ("cpu", device):
        ann, snn = made(place, net, functions="encoded")
        calibrate(ann, snn, [batch.to(place) for batch in BATCHES], method=method)
        images = BATCHES[0].to(place)
        outputs = (simulate(snn, images), SteppedNetwork(snn)(images))
        found.append([*outputs, *snn.state_dict().values()])
    assert all(torch.equal(here, there.cpu()) for here, there in zip(*found, strict=True))
