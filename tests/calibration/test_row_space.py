"""A layer with more inputs than rows is corrected in the space that its rows span."""

import copy

import pytest
import torch
from torch import nn

from ftbc_lightning.calibration import patches, row_space, weights
from ftbc_lightning.calibration.weights import bytes_needed, correct_weights
from ftbc_lightning.snn.conversion import prepare
from tests.calibration.test_weights import regression

WIDE = {
    "linear": (nn.Linear(100, 4), (100,)),
    "convolution": (nn.Conv2d(30, 4, 3, padding=1), (30, 2, 2)),
    "grouped, without bias": (nn.Conv2d(60, 4, (3, 4), groups=2, bias=False), (60, 3, 4)),
}


def corrected(name):
    """The layer's weights after the correction."""
    module, shape = copy.deepcopy(WIDE[name])
    problem = regression(module, shape)
    correct_weights(problem, shrinkage=0.1)
    return torch.cat([parameter.flatten() for parameter in module.parameters()])


@pytest.mark.parametrize("name", WIDE)
def test_the_row_space_gives_what_all_inputs_give(name, monkeypatch):
    found = corrected(name)
    monkeypatch.setattr(weights, "directions", lambda inputs, rows: None)
    torch.testing.assert_close(found, corrected(name), rtol=0, atol=1e-11)


@pytest.mark.parametrize("most", [row_space.MOST_DIRECTIONS, 8])
@pytest.mark.parametrize("name", WIDE)
def test_few_samples_at_a_time_give_the_same(name, most, monkeypatch):
    monkeypatch.setattr(row_space, "MOST_DIRECTIONS", most)
    found = corrected(name)
    monkeypatch.setattr(patches, "carried_elements", lambda device: 1)
    torch.testing.assert_close(found, corrected(name), rtol=0, atol=1e-11)


def test_samples_without_an_input_and_equal_ones_do_no_harm(monkeypatch):
    found = []
    for directions in (weights.directions, lambda inputs, rows: None):
        module = nn.Linear(100, 4)
        problem = regression(module, (100,))
        for r, _, _ in problem.samples():
            r[:3], r[:, :50] = r[3].clone(), 0.0
        monkeypatch.setattr(weights, "directions", directions)
        correct_weights(problem, shrinkage=0.1)
        found.append(module.weight.clone())
    torch.testing.assert_close(*found, rtol=0, atol=1e-11)


def test_with_more_rows_than_directions_the_error_still_falls(monkeypatch):
    monkeypatch.setattr(row_space, "MOST_DIRECTIONS", 16)
    module = nn.Linear(100, 4)
    problem = regression(module, (100,))
    assert row_space.directions(100, problem.rows()) == 16
    given = [(r, problem.clip(z) - problem.clip(x)) for r, x, z in problem.samples()]
    before = module.weight.clone(), module.bias.clone()
    correct_weights(problem, shrinkage=0.01)
    weight, bias = module.weight - before[0], module.bias - before[1]
    left = sum((gap - r @ weight.T - bias).square().sum() for r, gap in given)
    assert weight.any()
    assert left < sum(gap.square().sum() for _, gap in given)


def test_a_wide_layer_needs_little():
    net = nn.Sequential(nn.ReLU(), nn.Linear(25088, 64), nn.ReLU(), nn.Linear(64, 3))
    snn = prepare(net, torch.rand(1, 25088), timesteps=1)
    needed = [bytes_needed(snn, samples) / 1e9 for samples in (16, 256, 10**6)]
    assert needed[0] < 0.01
    assert needed[1] < 0.1
    assert needed[2] < 2
