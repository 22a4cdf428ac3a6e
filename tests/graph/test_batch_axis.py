"""What runs along the axis of the samples is refused by name, and what runs beside it converts."""

import pytest
import torch
import torch.nn.functional as F

from ftbc_lightning import UserError
from ftbc_lightning.analysis.inspection import inspect
from ftbc_lightning.graph import linear
from ftbc_lightning.snn.conversion import prepare
from tests.graph.forward_passes import Base
from tests.graph.test_refused_forward_passes import Mixing
from tests.networks import samples

ALONG_THE_BATCH = {
    "flip": lambda x: torch.flip(x, (0,)),
    "flip, an axis each": lambda x: x.flip(1, -4),
    "flip of samples and channels": lambda x: x.flatten(0, 1).flip(0).view(x.shape),
    "roll": lambda x: torch.roll(x, 1, 0),
    "roll over all axes": lambda x: x.roll(1),
    "roll over two": lambda x: x.roll(shifts=(1, 1), dims=(0, 2)),
    "diff": lambda x: x.diff(dim=0),
    "diff by place": lambda x: torch.diff(x, 1, 0),
    "rot90": lambda x: torch.rot90(x, 2, (0, 1)),
    "rot90 by default": lambda x: x.rot90(2),
    "cumsum": lambda x: torch.cumsum(x, 0),
}


@pytest.mark.parametrize("name", ALONG_THE_BATCH)
def test_a_linear_operation_along_the_batch_is_refused_by_name(name, monkeypatch):
    monkeypatch.setattr(linear, "LINEAR_FUNCTIONS", linear.LINEAR_FUNCTIONS | {torch.cumsum})
    net, kind = Mixing(ALONG_THE_BATCH[name]).double(), name.split()[0].strip(",")
    with pytest.raises(UserError, match=rf"^{kind} \({kind}, in forward\) mixes the samples"):
        prepare(net, samples(1), timesteps=2)
    refused = inspect(net, samples(1)).refused
    assert [row.node for row in refused] == [kind]
    assert "mixes the samples" in refused[0].way_out


@pytest.mark.parametrize(
    "own",
    [
        lambda x: torch.flip(x, (1, 2)),
        lambda x: x.roll((1, 2), (2, 3)),
        lambda x: torch.diff(x),
        lambda x: x.rot90(1, (2, 3)),
        lambda x: x.movedim(0, 1).flip(0).movedim(1, 0),
        lambda x: torch.cumsum(x, dim=1),
    ],
)
def test_a_linear_operation_along_other_axes_converts(own, monkeypatch):
    monkeypatch.setattr(linear, "LINEAR_FUNCTIONS", linear.LINEAR_FUNCTIONS | {torch.cumsum})
    net = Mixing(own).double()
    assert inspect(net, samples(1)).convertible
    prepare(net, samples(1), timesteps=2)


@pytest.mark.parametrize(
    "end", [lambda y: torch.cat([y, y]), lambda y: y[1:], lambda y: y.T, lambda y: y.flipud()]
)
def test_an_output_that_is_no_row_for_each_sample_is_refused(end):
    class Ending(Base):
        def forward(self, x):
            return end(super().forward(x))

    with pytest.raises(UserError, match="mixes the samples"):
        prepare(Ending().double(), samples(1), timesteps=2)


@pytest.mark.parametrize("given", [{"dim": 0}, {"p": 1.0, "dim": 0}])
def test_a_normalisation_behind_the_last_layer_along_the_batch_is_refused(given):
    class Normalised(Base):
        def forward(self, x):
            return F.normalize(super().forward(x), **given)

    with pytest.raises(UserError, match="mixes the samples"):
        prepare(Normalised().double(), samples(1), timesteps=2)
