"""Networks that return several tensors: each has its running mean, in the form of the ANN."""

from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ftbc_lightning import (
    TrainableNetwork,
    UserError,
    calibrate,
    convert,
    export,
    simulate,
)
from ftbc_lightning.analysis.diagnosis import diagnose
from ftbc_lightning.analysis.operation_counts import count_operations
from ftbc_lightning.analysis.quantized_ann import quantized_logits
from ftbc_lightning.ann import OneOutput
from ftbc_lightning.snn import simulation
from ftbc_lightning.snn.early_exit import simulate_until_sure
from ftbc_lightning.snn.stepping import SteppedNetwork


class Pair(NamedTuple):
    logits: torch.Tensor
    features: torch.Tensor


class Answers(nn.Module):
    """Logits, their probabilities (in the tail), spikes and what no spike has reached."""

    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(0)
        self.kind, self.first, self.second = kind, nn.Linear(4, 6), nn.Linear(6, 3)
        self.unused = nn.Linear(6, 2)

    def forward(self, x):
        h = F.relu(self.first(x))
        y = self.second(h)
        F.relu(self.unused(h))
        return {
            "dictionary": {"out": y, "more": {"probabilities": y.softmax(1), "no": None}},
            "list": [y, h, x * 2],
            "tuple": (y, (h, y.softmax(1))),
            "named": Pair(y, h),
            "alone": y,
        }[self.kind]


SAMPLES = torch.randn(24, 4, generator=torch.Generator().manual_seed(1)).double()
KINDS = ("dictionary", "list", "tuple", "named")


def leaves(found):
    if isinstance(found, torch.Tensor):
        return [found]
    parts = found.values() if isinstance(found, dict) else found
    return [leaf for part in parts if part is not None for leaf in leaves(part)]


def alike(found, wanted):
    """The same form, types of containers included."""
    if isinstance(wanted, torch.Tensor) or wanted is None:
        return type(found) is type(wanted)
    if type(found) is not type(wanted) or len(found) != len(wanted):
        return False
    if isinstance(wanted, dict):
        return list(found) == list(wanted) and alike([*found.values()], [*wanted.values()])
    return all(map(alike, found, wanted))


def converted(kind, timesteps=4, **settings):
    ann = Answers(kind).double()
    return ann, convert(ann, SAMPLES[:1], [SAMPLES], timesteps=timesteps, **settings)


@pytest.mark.parametrize("leak", [1.0, 0.8])
@pytest.mark.parametrize("kind", KINDS)
def test_each_output_is_its_running_mean_in_the_form_of_the_ann(kind, leak, monkeypatch):
    ann, snn = converted(kind, leak=leak)
    calibrate(ann, snn, [SAMPLES], method="weights+exact")
    found = simulate(snn, SAMPLES)
    assert alike(found, ann(SAMPLES))
    alone, single = converted("alone", leak=leak)
    calibrate(alone, single, [SAMPLES], method="weights+exact")
    logits = simulate(single, SAMPLES)
    assert torch.equal(leaves(found)[0], logits)
    for value, wanted in zip(leaves(found), leaves(ann(SAMPLES)), strict=True):
        assert value.shape == (4, *wanted.shape)
    if kind == "dictionary":
        probabilities = found["more"]["probabilities"]
        torch.testing.assert_close(probabilities, logits.softmax(-1), rtol=0, atol=1e-12)
    if kind == "list":
        torch.testing.assert_close(found[2], (SAMPLES * 2).expand(4, -1, -1), rtol=0, atol=1e-12)
    if kind == "named":
        spikes = found.features[0] / (snn.neurons()["relu"].amplitude)
        assert set(spikes.flatten().tolist()) == {0.0, 1.0}
    # in parts of samples and of steps, a step at a time, and with gradients
    monkeypatch.setattr(simulation, "chunk_sizes", lambda *_: (5, 3))
    for other in (simulate(snn, SAMPLES), SteppedNetwork(snn)(SAMPLES)):
        assert alike(other, found)
        for value, wanted in zip(leaves(other), leaves(found), strict=True):
            torch.testing.assert_close(value, wanted, rtol=0, atol=1e-12)
    for checkpointing in (False, True):
        trained = TrainableNetwork(snn, checkpointing=checkpointing)
        after = trained(SAMPLES)
        assert alike(after, found)
        assert all(map(torch.equal, leaves(after), leaves(found)))
        sum(leaf.square().sum() for leaf in leaves(after)).backward()
        gradients = [p.grad for p in trained.snn.layers.first.parameters()]
        assert all(g.isfinite().all() and g.any() for g in gradients)


@pytest.mark.parametrize("kind", KINDS)
def test_each_output_comes_to_the_ann_s(kind):
    errors = []
    for timesteps in (64, 512):
        ann, snn = converted(kind, timesteps, threshold_rule="max")
        pairs = zip(leaves(simulate(snn, SAMPLES)), leaves(ann(SAMPLES)), strict=True)
        errors.append(
            [float((found[-1] - wanted).detach().abs().mean()) for found, wanted in pairs]
        )
    assert all(late < max(0.3 * early, 1e-9) for early, late in zip(*errors, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_what_reads_a_network_reads_one_with_several_outputs(kind, tmp_path):
    ann, snn = converted(kind)
    assert set(snn.shapes) == {"relu"}  # what no output needs is left out
    assert set(diagnose(ann, snn, [SAMPLES]).layers) == {"relu"}
    assert count_operations(snn, SAMPLES).layers
    assert alike(quantized_logits(ann, snn, SAMPLES), ann(SAMPLES))
    path = export(snn, tmp_path / "snn.pt2", format="torch_export")
    program = torch.export.load(path).module()
    if kind == "named":  # a file cannot hold the class
        assert list(program(SAMPLES)) == ["logits", "features"]
    for found, wanted in zip(leaves(program(SAMPLES)), leaves(simulate(snn, SAMPLES)), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-9)
    for format in ("safetensors", "nir", "onnx"):
        with pytest.raises(UserError, match=rf"returns a .*the format {format} needs one tensor"):
            export(snn, tmp_path / "snn", format=format)
    with pytest.raises(UserError, match="early exit needs one tensor"):
        simulate_until_sure(snn, SAMPLES, confidence=0.9)


@pytest.mark.parametrize(
    ("kind", "output"),
    [("dictionary", "more.probabilities"), ("tuple", "1.0"), ("named", "features")],
)
def test_one_output_is_chosen_by_its_name(kind, output):
    ann = Answers(kind).double()
    one = OneOutput(ann, output)
    assert torch.equal(one(SAMPLES), leaves(ann(SAMPLES))[1])
    snn = convert(one, SAMPLES[:1], [SAMPLES], timesteps=2)
    assert isinstance(simulate(snn, SAMPLES), torch.Tensor)


def test_a_key_with_a_dot_is_found_whole():
    class Layers(nn.Module):
        def forward(self, x):
            return {"layer4.1": x, "layer4": {"0": -x}}

    assert torch.equal(OneOutput(Layers(), "layer4.1")(SAMPLES), SAMPLES)
    assert torch.equal(OneOutput(Layers(), "layer4.0")(SAMPLES), -SAMPLES)


def test_an_output_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(UserError, match="returns no output 'auxiliary'; there are out, more"):
        OneOutput(Answers("dictionary"), "auxiliary")(SAMPLES.float())


@dataclass
class Answer:
    logits: torch.Tensor


class Sized(nn.Module):
    def __init__(self, returned):
        super().__init__()
        self.layer, self.returned = nn.Linear(4, 4), returned

    def forward(self, x):
        y = F.relu(self.layer(x))
        return {"none": (None,), "size": (y, x.size(0)), "object": Answer(y)}[self.returned]


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("none", "has no ReLU"),
        ("size", r"Sized.forward returns a tuple of 2; it must return tensors"),
        ("object", r"Sized.forward returns a Answer; it must return tensors"),
    ],
)
def test_what_is_no_tensor_of_a_sample_is_refused(returned, message):
    with pytest.raises(UserError, match=message):
        convert(Sized(returned), SAMPLES[:1].float(), [SAMPLES.float()], timesteps=2)
