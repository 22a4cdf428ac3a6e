"""Files of networks whose neurons have a leak, several levels or a sign."""

import json
import warnings

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn

from ftbc_lightning import UserError, calibrate, convert, export, load, simulate
from ftbc_lightning.interchange import describe, mean_bias
from ftbc_lightning.interchange.description import from_header
from ftbc_lightning.interchange.rebuild import rebuild
from ftbc_lightning.interchange.unit_threshold import unit_thresholds
from ftbc_lightning.snn.neurons import NEURON_MODELS, IFNeuron
from tests.interchange.test_programs import onnx_steps
from tests.interchange.test_safetensors import calibrated, numpy_reader
from tests.networks import residual_net, samples
from tests.reference import loops
from tests.reference.nir_reader import arriving, linear

MODELS = {
    "leak": {"leak": 0.8},
    "levels": {"levels": 2},
    "signed": {"neuron": "signed"},
    "signed levels": {"neuron": "signed", "levels": 2},
}
ALL = {"neuron": "signed", "levels": 2, "leak": 0.8}
EVERY = pytest.mark.parametrize("model", [*MODELS.values(), ALL], ids=[*MODELS, "all"])


def pooled_net(softmax=False):
    """Max pooling of spikes, which is taken of sums over the steps."""
    torch.manual_seed(0)
    layers = [
        *(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.MaxPool2d(2)),
        *(nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)),
    ]
    return nn.Sequential(*layers, *([nn.Softmax(-1)] if softmax else [])).double().eval()


NETWORKS = pytest.mark.parametrize("make", [residual_net, pooled_net])


def header_of(path):
    with safe_open(path, framework="np") as file:
        return json.loads(file.metadata()["ftbc-snn"])


def leaky_mean(outputs, leak):
    """The logits of each step, as every readout's text says."""
    return loops.read_out(map(torch.as_tensor, outputs), leak).numpy()


@EVERY
@NETWORKS
def test_safetensors_and_the_numpy_reader_give_the_same_logits(make, model, tmp_path):
    images = samples(12)
    snn = calibrated(make(), images, **model)
    path = export(snn, tmp_path / "snn.safetensors")
    twin, expected = load(path), simulate(snn, images)
    assert (twin.neuron, twin.levels, twin.leak) == (snn.neuron, snn.levels, snn.leak)
    torch.testing.assert_close(simulate(twin, images), expected, rtol=0, atol=1e-10)
    reader, _ = numpy_reader(version=2)
    logits = reader["logits"](*reader["read"](path, 2), images.numpy())
    np.testing.assert_allclose(logits, expected.numpy(), rtol=0, atol=1e-10)
    assert export(twin, tmp_path / "b.safetensors").read_bytes() == path.read_bytes()


@EVERY
def test_an_older_reader_refuses_the_file(model, tmp_path, monkeypatch):
    path = export(calibrated(pooled_net(), samples(4), **model), tmp_path / "snn.safetensors")
    monkeypatch.setattr("ftbc_lightning.interchange.description.FORMAT_VERSION", 1)
    with pytest.raises(UserError, match="format version 2, this program knows 1"):
        load(path)
    with pytest.raises(AssertionError):
        numpy_reader()[0]["read"](path)


def test_the_header_states_the_equations_of_its_neurons(tmp_path):
    snn = calibrated(pooled_net(), samples(4), **ALL)
    header = header_of(export(snn, tmp_path / "snn.safetensors"))
    assert header["neuron"]["equations"] == [
        "u = v + x + temporal_bias[t]",
        "s = floor(u / threshold) within -2 and 2, and at least -(sum of s over the steps before)",
        "v = 0.8 * (u - threshold * s)",
    ]
    assert header["neuron"]["order"][-1] == "leak"
    assert header["neuron"]["output"].startswith("s, -2 to 2:")
    assert "r = 0.8 * r + output, n = 0.8 * n + 1" in header["readout"]
    kinds = {o["op"]: o for o in header["operations"]}
    assert (kinds["neuron"]["signed"], kinds["neuron"]["levels"]) == (True, 2)
    assert {kinds[op]["leak"] for op in ("neuron", "max_pool", "output")} == {0.8}


def test_the_numpy_reader_of_version_2_reads_version_1(tmp_path):
    images = samples(12)
    snn = calibrated(pooled_net(), images)
    reader, _ = numpy_reader(version=2)
    path = export(snn, tmp_path / "snn.safetensors")
    logits = reader["logits"](*reader["read"](path, 2), images.numpy())
    np.testing.assert_allclose(logits, simulate(snn, images).numpy(), rtol=0, atol=1e-10)


def test_a_file_of_plain_neurons_has_the_header_of_version_1(tmp_path):
    path = export(calibrated(pooled_net(), samples(4)), tmp_path / "snn.safetensors")
    header = header_of(path)
    assert header["format_version"] == 1
    assert header["readout"] == "logits after step t: mean of the output over steps 0 to t"
    assert header["neuron"] == {
        "equations": [
            "u = v + x + temporal_bias[t]",
            "s = 1 if u >= threshold else 0",
            "v = u - threshold * s",
        ],
        "order": ["charge", "bias", "fire", "reset"],
        "reset": "subtract",
        "initial_membrane": "v before step 0",
        "output": "s, 0 or 1: thresholds are folded into the weights behind the neuron",
    }
    assert not any({"leak", "levels", "signed"} & set(o) for o in header["operations"])


@pytest.mark.parametrize(
    ("op", "key", "value", "said"),
    [
        ("output", "leak", 0.5, "here they differ"),
        ("max_pool", "leak", 0.5, "here they differ"),
        ("neuron", "levels", 1, "here they differ"),
        ("neuron", "leak", "much", "is damaged"),
        ("neuron", "levels", 1.5, "is damaged"),
        ("neuron", "levels", float("inf"), "is damaged"),
        ("neuron", "signed", "no", "is damaged"),
        ("neuron", "leak", 2.0, "leak is 2.0"),
    ],
)
def test_a_header_that_no_network_can_have_is_refused(op, key, value, said):
    description = describe(calibrated(pooled_net(), samples(4), **ALL))
    header = description.header()
    next(o for o in header["operations"] if o["op"] == op)[key] = value
    with pytest.raises(UserError, match=said):
        from_header(header, description.tensors(), "the file")


@EVERY
@NETWORKS
def test_unit_thresholds_leave_the_logits(make, model):
    images = samples(12)
    snn = calibrated(make(), images, **model)
    twin = rebuild(unit_thresholds(describe(snn), bias="metadata"))
    torch.testing.assert_close(simulate(twin, images), simulate(snn, images), rtol=0, atol=1e-10)


@EVERY
def test_the_mean_bias_is_that_of_the_description(model):
    images = samples(12)
    snn = calibrated(residual_net(), images, **model)
    twin = rebuild(unit_thresholds(describe(snn), bias="mean"))
    expected = simulate(mean_bias(snn), images)
    torch.testing.assert_close(simulate(twin, images), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("half_threshold", ["none", "per_step"])
def test_a_static_calibration_without_a_start_membrane_loses_nothing_by_a_mean_bias(
    half_threshold,
):
    ann, images = residual_net(), samples(8)
    snn = convert(ann, images[:1], [images], timesteps=4, half_threshold=half_threshold)
    calibrate(ann, snn, [images], method="static")
    assert any(neuron.temporal_bias.any() for neuron in snn.neurons().values())
    expected = simulate(snn, images)
    torch.testing.assert_close(simulate(mean_bias(snn), images), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("leak", [1.0, 0.8])
def test_a_neuron_that_does_not_fire_ends_with_the_same_membrane_under_a_mean_bias(leak):
    snn = calibrated(residual_net(), samples(8), leak=leak)
    ends = []
    for network in (snn, mean_bias(snn)):
        neuron = next(iter(network.neurons().values()))
        neuron.threshold.fill_(1e6)
        ends.append(neuron(torch.zeros(4, 1, 6, 2, 2, dtype=torch.float64))[1])
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=1e-12)


def run_nir(graph, images, timesteps):
    """A reader of its own: each node as NIR's equation says in steps of the metadata's dt.

    Only the reset and b[t], v0 come from metadata, and those are zero where the bias is a mean.
    """
    nir, dt = pytest.importorskip("nir"), graph.metadata["dt"]
    state, into_output, output = {}, [], []
    for t in range(timesteps):
        values = {}
        for name in sorted(graph.nodes):
            node = graph.nodes[name]
            x = linear(node, arriving(graph, name, values, images))
            if isinstance(node, nir.LI | nir.LIF):
                v = state.get(name, torch.zeros(()))
                if isinstance(node, nir.LIF):
                    axes = (1,) * (x.ndim - 2)
                    v0, b = (
                        torch.tensor(node.metadata[key])
                        for key in ("initial_membrane", "temporal_bias")
                    )
                    v = state.get(name, v0.view(-1, *axes))
                    x = x + b[t].view(-1, *axes)
                tau, r, rest = (torch.tensor(p) for p in (node.tau, node.r, node.v_leak))
                v = v + dt / tau * (rest - v + r * x)
                if isinstance(node, nir.LIF):
                    x = (v >= torch.tensor(node.v_threshold)).float()
                    state[name] = v - x * torch.tensor(node.v_threshold)
                else:
                    into_output.append(x.numpy())
                    x = state[name] = v
            values[name] = x
        output.append(x)
    return into_output, torch.stack(output)


@pytest.mark.parametrize("bias", ["metadata", "mean"])
def test_a_leak_is_in_the_nodes_of_nir(bias, tmp_path):
    nir = pytest.importorskip("nir")
    snn = calibrated(residual_net().float(), samples(8, dtype=torch.float32), leak=0.8)
    images = samples(8, seed=2, dtype=torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = nir.read(export(snn, tmp_path / "snn.nir", format="nir", bias=bias))
    expected = simulate(snn if bias == "metadata" else mean_bias(snn), images)
    given, output = run_nir(graph, images, 4)
    torch.testing.assert_close(output[-1], expected[-1], rtol=0, atol=1e-5)
    # earlier steps by either way that the metadata's readout names
    torch.testing.assert_close(leaky_mean(given, 0.8), expected.numpy(), rtol=0, atol=1e-5)
    after = torch.tensor([(1 - 0.8**4) / (1 - 0.8 ** (t + 1)) for t in range(4)])
    torch.testing.assert_close(output * after.view(-1, 1, 1), expected, rtol=0, atol=1e-5)


def test_the_nodes_of_nir_have_the_time_constants_of_the_leak(tmp_path):
    nir = pytest.importorskip("nir")
    snn = calibrated(residual_net().float(), samples(8, dtype=torch.float32), leak=0.8)
    graph = nir.read(export(snn, tmp_path / "snn.nir", format="nir", bias="mean"))
    assert graph.metadata["dt"] == 1e-4
    assert "after the reset" in graph.metadata["order"]
    neurons = [node for node in graph.nodes.values() if isinstance(node, nir.LIF)]
    assert len(neurons) == 3
    assert not any(isinstance(node, nir.IF) for node in graph.nodes.values())
    for node in neurons:
        np.testing.assert_allclose(1 - 1e-4 / node.tau, 0.8, rtol=1e-6)
        np.testing.assert_allclose(node.r * 1e-4 / node.tau, 1, rtol=1e-6)
        assert not node.v_leak.any()
        assert (node.v_threshold == 1).all()


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (MODELS["levels"], r"fires 0 to 2 in a step.*neuron if, levels 2.*onnx"),
        (MODELS["signed"], r"fires -1 to 1 in a step.*neuron signed, levels 1"),
        (MODELS["signed levels"], r"fires -2 to 2 in a step.*neuron signed, levels 2"),
    ],
)
@NETWORKS
def test_nir_refuses_what_it_has_no_neuron_for(make, model, said, tmp_path):
    snn = calibrated(make(), samples(4), **model)
    for bias in ("metadata", "mean"):
        with pytest.raises(UserError, match=said):
            export(snn, tmp_path / "snn.nir", format="nir", bias=bias)
    assert list(tmp_path.iterdir()) == []


def test_nir_refuses_max_pooling_with_a_leak_by_name(tmp_path):
    pytest.importorskip("nir")
    snn = calibrated(pooled_net(), samples(4), **MODELS["leak"])
    with pytest.raises(UserError, match=r"\(max_pool\).*average pooling"):
        export(snn, tmp_path / "snn.nir", format="nir")


@pytest.mark.parametrize("format", ["safetensors", "nir", "onnx", "torch_export"])
def test_a_neuron_that_no_format_knows_is_refused_by_name(format, tmp_path, monkeypatch):
    monkeypatch.setitem(NEURON_MODELS, "mine", type("Mine", (IFNeuron,), {}))
    snn = calibrated(residual_net(), samples(4), neuron="mine")
    with pytest.raises(UserError, match=r"neurons of this network are mine.* if and signed alone"):
        export(snn, tmp_path / "snn", format=format)


def check_onnx(snn, path):
    """Run the file by what its own metadata says."""
    images = samples(8, seed=2, dtype=torch.float32)
    outputs, facts = onnx_steps(export(snn, path, format="onnx"), images, 4)
    read_out = facts["readout"].startswith("logits after step t: `output`")
    logits = np.stack(outputs) if read_out else leaky_mean(outputs, float(facts["leak"]))
    np.testing.assert_allclose(logits, simulate(snn, images).numpy(), rtol=0, atol=1e-5)
    assert (facts["neuron"], facts["levels"]) == (snn.neuron, str(snn.levels))
    owed = {f"{name}.owed" for name in snn.neurons()} if snn.neuron == "signed" else set()
    assert {name for name in json.loads(facts["state_shapes"]) if "owed" in name} == owed


def check_program(snn, path):
    images, extra = samples(5, seed=2), {"facts.json": ""}
    program = torch.export.load(export(snn, path, format="torch_export"), extra_files=extra)
    torch.testing.assert_close(program.module()(images), simulate(snn, images), rtol=0, atol=1e-10)
    facts = json.loads(extra["facts.json"])
    found = facts["neuron"], facts["levels"], facts["leak"]
    assert found == (snn.neuron, str(snn.levels), str(snn.leak))


def test_onnx_runs_signed_levels_with_a_leak_pooling_and_softmax(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    ann = pooled_net(softmax=True).float()
    snn = calibrated(ann, samples(8, dtype=torch.float32), **ALL)
    check_onnx(snn, tmp_path / "step.onnx")


def test_a_program_runs_signed_levels_with_a_leak_pooling_and_softmax(tmp_path):
    snn = calibrated(pooled_net(softmax=True), samples(8), **ALL)
    check_program(snn, tmp_path / "snn.pt2")


@pytest.mark.slow
@EVERY
@NETWORKS
def test_onnx_runs_every_neuron(make, model, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    snn = calibrated(make().float(), samples(8, dtype=torch.float32), **model)
    check_onnx(snn, tmp_path / "step.onnx")


@pytest.mark.slow
@EVERY
@NETWORKS
def test_a_program_of_torch_export_runs_every_neuron(make, model, tmp_path):
    check_program(calibrated(make(), samples(8), **model), tmp_path / "snn.pt2")


def test_a_file_holds_signed_levels_with_a_leak_pooling_and_softmax(tmp_path):
    snn, images = calibrated(pooled_net(softmax=True), samples(4), **ALL), samples(5, seed=2)
    twin = load(export(snn, tmp_path / "snn.safetensors"))
    torch.testing.assert_close(simulate(twin, images), simulate(snn, images), rtol=0, atol=1e-10)
