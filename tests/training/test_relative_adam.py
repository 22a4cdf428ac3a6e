import pytest
import torch
from torch import nn

from ftbc_lightning.training.relative_adam import RelativeAdam, rise_and_fall


def test_a_first_step_changes_each_tensor_by_the_same_share_of_its_size():
    weights = [nn.Parameter(size * torch.ones(4)) for size in (0.01, 1.0, 30.0)]
    optimizer = RelativeAdam(weights, lr=0.05)
    before = [w.detach().clone() for w in weights]
    sum(w.sum() for w in weights).backward()
    optimizer.step()
    shares = [float((b - w).mean() / b.mean()) for b, w in zip(before, weights, strict=True)]
    # Adam's first step is the rate; the smallest counts as a tenth of the middle one
    assert shares == pytest.approx([0.05 * 0.1 / 0.01, 0.05, 0.05], rel=1e-4)


def test_a_tensor_of_zeros_moves():
    weights = [
        nn.Parameter(torch.zeros(2)),
        nn.Parameter(torch.ones(2)),
        nn.Parameter(torch.ones(2)),
    ]
    optimizer = RelativeAdam(weights, lr=0.01)
    (weights[0].sum() + weights[1].sum() + weights[2].sum()).backward()
    optimizer.step()
    assert weights[0].detach().tolist() == pytest.approx([-0.001, -0.001], rel=1e-4)


def test_most_tensors_may_be_zero():
    weights = [nn.Parameter(torch.zeros(2)) for _ in range(5)] + [nn.Parameter(torch.ones(2))]
    rates = [group["lr"] for group in RelativeAdam(weights, lr=0.01).param_groups]
    assert rates == pytest.approx([0.001] * 5 + [0.01])


@pytest.mark.parametrize("steps", [1, 7, 200])
def test_rates_rise_and_fall_to_zero(steps):
    weight = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=2.0)
    scheduler = rise_and_fall(optimizer, steps)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert 0 < min(rates) <= max(rates) <= 2
    assert rates.index(max(rates)) <= 0.1 * steps
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-12)
