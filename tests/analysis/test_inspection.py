import pytest
from torch import nn

from ftbc_lightning.analysis.inspection import inspect
from ftbc_lightning.snn.neurons.settings import NeuronSettings
from tests.networks import ResidualNet
from tests.snn.test_conversion import Functional, Mixed


def test_every_node_is_listed_with_what_it_becomes():
    report = inspect(ResidualNet())
    rows = {row.node: row for row in report.rows}
    assert rows["conv1"].becomes == "kept"
    assert rows["act3"].becomes == "IF neuron"
    assert rows["act3"].threshold == "channel"
    assert rows["act2"].spikes == "0 and 1"
    assert rows["act1"].spikes == "theta stays before add"
    assert rows["bn2"].becomes == "folded into weights"
    assert report.convertible
    assert report.verdict == "ResidualNet converts: yes, 3 layers of neurons."


def test_a_module_that_is_used_twice_is_said_to_be_shared():
    report = inspect(Functional())
    assert {row.calls for row in report.rows if row.node == "relu"} == {2}


def test_what_cannot_be_converted_has_a_way_out():
    report = inspect(Mixed())
    refused = {row.node: row.way_out for row in report.refused}
    assert set(refused) == {"first.1", "second.1", "mul", "softmax"}
    assert refused["second.1"] == "train with ReLU instead"
    assert report.verdict == "Mixed converts: no, 4 nodes stand in the way."


def test_a_batch_norm_that_cannot_be_folded_is_kept():
    report = inspect(nn.Sequential(nn.BatchNorm2d(2), nn.ReLU(), nn.Conv2d(2, 2, 1)))
    assert next(row for row in report.rows if row.node == "0").becomes == "kept"


def test_a_network_without_relu_is_said_not_to_convert():
    assert "has no ReLU" in inspect(nn.Sequential(nn.Linear(2, 2))).verdict


@pytest.mark.parametrize(
    ("neurons", "becomes", "spikes"),
    [
        (NeuronSettings(neuron="signed", levels=2), "neuron (signed, 2 levels)", "-2 to 2"),
        (NeuronSettings(levels=3), "neuron (if, 3 levels)", "0 to 3"),
        (NeuronSettings(leak=0.8), "neuron (if, leak 0.8)", "0 and 1"),
    ],
)
def test_it_says_which_neurons_were_asked_for(neurons, becomes, spikes):
    rows = {row.node: row for row in inspect(ResidualNet(), neurons=neurons).rows}
    assert (rows["act2"].becomes, rows["act2"].spikes) == (becomes, spikes)
