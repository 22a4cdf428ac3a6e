"""NeuroBench's harness on our networks; its numbers are our counts, or differ where it is said."""

import json
import sys

import pytest
import torch
from torch import nn

from ftbc_lightning import UserError, calibrate, convert, simulate
from ftbc_lightning.analysis.neurobench_harness import Spikes, left_out, neurobench_results, watched
from ftbc_lightning.analysis.operation_counts import count_operations
from ftbc_lightning.cli import main
from tests.conftest import ROOT, digits
from tests.networks import residual_net, samples

IMAGES = samples(32, dtype=torch.float32)
FILE = ROOT / "tests/fixtures/run_of_0_1_0/snn.ckpt"
LABELS = torch.arange(32) % 4
NEURONS = {
    "if": {},
    "signed": {"neuron": "signed"},
    "leak": {"leak": 0.75},
    "levels": {"levels": 2},
}


def network(calibrated=True, **neuron):
    ann = residual_net(dtype=torch.float32)
    snn = convert(ann, IMAGES[:1], [IMAGES], timesteps=4, **neuron)
    if calibrated:
        calibrate(ann, snn, [IMAGES])
    return snn


def measured(snn, images=IMAGES, labels=LABELS, **more):
    parts = list(zip(images.split(16), labels.split(16), strict=True))
    return neurobench_results(snn, parts, samples=len(images), parts=len(parts), **more)


def test_watching_leaves_the_network_and_its_answers_as_they_are():
    snn = network()
    before = simulate(snn, IMAGES)
    seen = {}
    copy = watched(snn)
    for name, module in copy.named_modules():
        if isinstance(module, Spikes):
            seen[name] = []
            module.register_forward_hook(lambda _, __, s, n=name: seen[n].append(s.unique()))
    torch.testing.assert_close(simulate(copy, IMAGES), before)
    assert torch.equal(simulate(snn, IMAGES), before)
    assert list(seen) == [f"layers.spikes.{name}" for name in snn.shapes]
    assert all(set(torch.cat(values).tolist()) == {0, 1} for values in seen.values())


def test_without_the_package_the_command_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "neurobench", None)
    assert main([*digits("benchmark", tmp_path), "--ckpt_path", str(FILE), "--quiet"]) == 2
    said = capsys.readouterr().err
    assert "needs neurobench, which is not installed: pip install neurobench (the extra" in said
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("neuron", NEURONS)
def test_its_numbers_are_our_counts(neuron, calibrated):
    pytest.importorskip("neurobench")
    snn = network(calibrated, **NEURONS[neuron])
    found, count = measured(snn), count_operations(snn, IMAGES)
    ours = count.neurobench()
    operations = found["SynapticOperations"]
    of_spikes = count.spike_products()
    assert of_spikes > 0
    effective = operations["Effective_MACs"], operations["Effective_ACs"]
    if neuron == "levels":  # spikes of two levels are no spikes to it: their additions are MACs
        assert sum(effective) == pytest.approx(count.macs() + of_spikes)
        assert effective[1] == 0
    else:
        assert effective == pytest.approx((count.macs(), of_spikes))
        assert count.acs() == of_spikes
    assert operations["Dense"] == pytest.approx(count.dense())
    assert found["ActivationSparsity"] == pytest.approx(ours["ActivationSparsity"])
    assert found["ActivationSparsityByLayer"] == pytest.approx(
        {name: 1 - sum(shares) / len(shares) for name, shares in count.active.items()}
    )
    assert found["Footprint"] == ours["Footprint"]
    assert found["ConnectionSparsity"] == pytest.approx(ours["ConnectionSparsity"], abs=1e-4)


@pytest.mark.slow
def test_its_correctness_is_ours():
    pytest.importorskip("neurobench")
    snn = network()
    outputs = simulate(snn, IMAGES)[-1]
    accuracy = (outputs.argmax(1) == LABELS).float().mean().item()
    found = measured(snn, correctness="ClassificationAccuracy")
    assert found["ClassificationAccuracy"] == pytest.approx(accuracy)
    targets = torch.zeros(32, 4)
    found = measured(snn, labels=targets, correctness="MSE")
    assert found["MSE"] == pytest.approx(float((outputs - targets).square().mean()))


@pytest.mark.slow
def test_a_metric_that_fails_is_an_error_and_not_a_zero():
    pytest.importorskip("neurobench")
    with pytest.raises(UserError, match=r"could not measure this network.*ClassificationAccuracy"):
        measured(network(), labels=torch.zeros(32, 4), correctness="ClassificationAccuracy")


@pytest.mark.slow
def test_the_command_writes_what_the_harness_says_and_of_what(fitted, tmp_path, capsys):
    package = pytest.importorskip("neurobench")
    command = fitted.args("benchmark", "--ckpt_path", str(fitted.folder / "snn.ckpt"))
    assert main([*command, "--at", "1", "--method", "static", "--samples", "50"]) == 0
    path = fitted.folder / "neurobench" / "snn_static_T1.json"
    assert str(path) in capsys.readouterr().out
    written = json.loads(path.read_text())
    results = written.pop("results")
    assert results["SynapticOperations"]["Effective_ACs"] > 0
    assert 0 < results["ClassificationAccuracy"] <= 1
    assert written.pop("ftbc_lightning")
    assert written == {
        "neurobench": package.__version__,
        "method": "static",
        "timesteps": 1,
        "neuron": "if",
        "dataset": "DigitsDataModule",
        "split": "test",
        "samples": 50,
        "not_counted": [],
    }
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.slow
def test_layers_that_it_does_not_count_are_named():
    pytest.importorskip("neurobench")
    torch.manual_seed(0)
    ann = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.ConvTranspose2d(4, 4, 3), nn.Flatten())
    ann.append(nn.Linear(144, 4))
    snn = convert(ann, IMAGES[:1], [IMAGES], timesteps=2)
    assert left_out(snn) == ["2"]
    transposed = next(x for x in count_operations(snn, IMAGES).layers if x.layer == "2")
    counted = measured(snn)["SynapticOperations"]["Dense"]
    assert counted == pytest.approx(count_operations(snn, IMAGES).dense() - 2 * transposed.dense)
