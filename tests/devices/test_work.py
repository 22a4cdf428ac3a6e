"""What a GPU is given to do and how often it is waited for; docs/explanation/devices.md has it."""

import pytest
import torch

from ftbc_lightning import calibrate, convert, simulate
from ftbc_lightning.analysis.diagnosis import diagnose
from ftbc_lightning.analysis.operation_counts import count_ann_operations, count_operations
from ftbc_lightning.ann.resnet import ResNet20
from tests import pretend_device

T = 4
LARGEST = {"simulate": 6, "iterative": 29, "exact": 41, "weights+exact": 80, "convert": 33}
"""Launches a layer and step of a ResNet-20, T = 4, with what is done once a layer."""

ASKED = {
    "snn/network.py": 1,  # are the thresholds set?
    "calibration/calibrate.py": 1,  # which weights has an earlier calibration changed?
    "snn/statistics.py": 2,  # are the samples finite, and what shape have they?
}
"""How often one calibration waits for an answer, whatever the number of layers and steps."""


@pytest.fixture(scope="module")
def ann(device):
    torch.manual_seed(0)
    return ResNet20(shortcut="conv").eval().to(device)


def counted(ann, samples, what, **settings):
    """Launches a layer and step, and host reads by file."""
    images = torch.randn(samples, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    images = images.to(next(ann.parameters()).device)
    snn = convert(ann, images[:1], [images], timesteps=T)
    with pretend_device.counting() as counts:
        if what == "simulate":
            simulate(snn, images)
        elif what == "convert":
            convert(ann, images[:1], [images], timesteps=T)
        else:
            calibrate(ann, snn, [images], method=what, **settings)
    return sum(counts.launches.values()) / len(snn.neurons()) / T, by_file(counts.reads)


def by_file(reads):
    """Host reads by file."""
    found = {}
    for line, number in reads.items():
        file = line.partition(":")[0]
        found[file] = found.get(file, 0) + number
    return found


@pytest.mark.parametrize("what", LARGEST)
def test_launches_do_not_grow_with_the_samples(ann, what):
    few, many = (counted(ann, samples, what)[0] for samples in (6, 9))
    assert few == many
    assert few <= LARGEST[what]


@pytest.mark.parametrize("method", ["exact", "iterative", "static", "weights+exact"])
def test_nothing_is_asked_in_the_loops_over_layers_and_steps(ann, method):
    _, reads = counted(ann, 6, method)
    more = {
        "iterative": {"calibration/calibrate.py": 2},  # and once a round, is another of use?
        "weights+exact": {"calibration/held_out.py": 1},  # how many samples has a half?
    }
    assert reads == ASKED | more.get(method, {})


@pytest.mark.parametrize("method", ["exact", "weights+exact"])
def test_rounding_weights_asks_nothing(ann, method):
    _, plain = counted(ann, 6, method)
    _, reads = counted(ann, 6, method, weight_bits=8)
    assert reads == plain


def test_a_conversion_asks_for_samples_and_for_activations_that_are_finite(ann):
    _, reads = counted(ann, 2, "convert")
    assert reads == {"snn/statistics.py": 3}


def test_a_count_and_a_diagnosis_ask_for_all_layers_at_once(ann, device):
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)).to(device)
    snn = convert(ann, images[:1], [images], timesteps=T, neuron="signed")
    snn.neurons()["act1"].temporal_bias += 0.1
    works = {
        "operations": lambda: count_operations(snn, images),
        "operations of the ANN": lambda: count_ann_operations(ann, snn, images),
        "errors": lambda: diagnose(ann, snn, [images]),
    }
    reads = {}
    for work, do in works.items():
        with pretend_device.counting() as counts:
            do()
        reads[work] = by_file(counts.reads)
    operations = {"analysis/in_one_read.py": 2}  # zero weights before, results behind
    samples = {"snn/statistics.py": 2}
    assert reads == {
        "operations": operations,
        "operations of the ANN": operations,
        "errors": {"analysis/diagnosis.py": 1, "snn/network.py": 1} | samples,
    }
