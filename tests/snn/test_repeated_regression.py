from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from ftbc_lightning.snn.calibration import weights
from ftbc_lightning.snn.calibration.regression import Regression
from ftbc_lightning.snn.calibration.weights import correct_weights
from ftbc_lightning.snn.neuron import IFNeuron
from ftbc_lightning.snn.statistics import identity

MODULES = {
    "linear": lambda: nn.Linear(6, 4),
    "convolution": lambda: nn.Conv2d(6, 4, 3, stride=2, padding=1, bias=False),
    "groups": lambda: nn.Conv2d(6, 4, (3, 1), groups=2, padding="same", dilation=2),
    "one_axis": lambda: nn.Conv1d(6, 4, 3, padding=1),
}


def problem(kind: str, scale: float = 1.0) -> tuple[Regression, Tensor, Tensor]:
    """A layer, its input in two micro-batches, and what the ANN has in the place of its output."""
    torch.manual_seed(0)
    module = MODULES[kind]().double()
    space = {"linear": (), "one_axis": (7,)}.get(kind, (7, 5))
    r = torch.rand(40, 6, *space, dtype=torch.float64)
    neuron = IFNeuron(4, timesteps=2).double()
    neuron.set_threshold(torch.full((4,), 100.0 / scale), half_threshold="initial")
    with torch.no_grad():
        z = module(r) + torch.randn_like(module(r)) + 0.3
    means = [lambda part=part: (part, module(part)) for part in r.split(25)]
    return Regression(module, neuron, means, z.split(25), identity), r, z


def matching_loss(regression: Regression, r: Tensor, z: Tensor) -> float:
    """The sum of Phi(x) - z' x, Phi the integral of clip."""
    x = regression.module(r)
    clipped = regression.clip(x)
    phi = clipped * x - clipped**2 / 2
    return float((phi - regression.clip(z) * x).sum())


@pytest.mark.parametrize("kind", sorted(MODULES))
@torch.no_grad()
def test_one_regression_is_the_least_squares_solution(kind, monkeypatch):
    monkeypatch.setattr(weights, "REPETITIONS", 1)
    regression, r, z = problem(kind)
    module = regression.module
    correct_weights(regression, shrinkage=1e-12)
    gap = z - module(r)
    with torch.enable_grad():
        weight = module.weight.detach().clone().requires_grad_()
        state = {"weight": weight}
        slope = (torch.func.functional_call(module, state, (r,)) * gap).sum()
        orthogonal = torch.autograd.grad(slope, weight)[0]
    assert orthogonal.abs().max() < 1e-6
    if module.bias is not None:
        assert gap.transpose(0, 1).flatten(1).sum(1).abs().max() < 1e-6


@torch.no_grad()
def test_each_repetition_lowers_the_matching_loss_where_neurons_saturate(monkeypatch):
    losses = []
    for repetitions in (0, 1, 2, 3):
        monkeypatch.setattr(weights, "REPETITIONS", repetitions)
        regression, r, z = problem("convolution", scale=150.0)
        assert (z > regression.neuron.threshold[0]).double().mean() > 0.1
        correct_weights(regression, shrinkage=1e-12)
        losses.append(matching_loss(regression, r, z))
    steps = [after - before for before, after in pairwise(losses)]
    assert max(steps) < -1e-3
    assert steps[0] < steps[1] < steps[2]


@torch.no_grad()
def test_a_strong_ridge_leaves_the_weights_and_moves_the_bias_alone():
    regression, r, z = problem("linear")
    before = regression.module.weight.clone()
    correct_weights(regression, shrinkage=1e9)
    assert (regression.module.weight - before).abs().max() < 1e-6
    assert (z - regression.module(r)).mean(0).abs().max() < 1e-6


@torch.no_grad()
def test_nothing_changes_where_the_currents_are_right_already():
    regression, r, _ = problem("groups")
    exactly = Regression(
        regression.module,
        regression.neuron,
        regression.means,
        [regression.module(part) for part in r.split(25)],
        identity,
    )
    before = {name: value.clone() for name, value in regression.module.state_dict().items()}
    correct_weights(exactly, shrinkage=0.1)
    for name, value in regression.module.state_dict().items():
        assert torch.equal(value, before[name])
