"""Forward passes that mix samples, draw, or depend on how many there are: refused by name."""

import random

import numpy
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ftbc_lightning import (
    UserError,
)
from ftbc_lightning.analysis.inspection import inspect
from ftbc_lightning.graph.tracing import trace
from ftbc_lightning.snn.conversion import prepare
from tests.graph.forward_passes import Base
from tests.networks import samples


class Halving(Base):
    def forward(self, x):
        return super().forward(x if x.shape[0] % 2 == 0 else -x)


def test_a_path_that_depends_on_the_batch_size_is_refused():
    with pytest.raises(UserError, match="depends on the size of the batch"):
        trace(Halving(), samples(1))


class Mixing(Base):
    def __init__(self, mix):
        super().__init__()
        self.mix = mix

    def forward(self, x):
        return self.linear(self.mix(self.hidden(x)).mean((2, 3)))


@pytest.mark.parametrize(
    ("mix", "said"),
    [
        (lambda x: x - x.mean(0), "runs over the samples of the batch"),
        (lambda x: x - x.sum(), "runs over the samples of the batch"),
        (lambda x: x - x.sum(-4, keepdim=True), "mixes the samples"),
        (lambda x: x + x[0], "mixes the samples"),
        (lambda x: F.dropout(x, 0.5), "it draws in evaluation mode too"),
        (lambda x: F.dropout(x, 0.5, True), "it draws in evaluation mode too"),
        (lambda x: x + torch.rand_like(x), "drawn anew"),
        (lambda x: x + torch.rand(()), "drawn anew"),
        (lambda x: x + torch.randn(x.shape[0], 1, 1, 1, device=x.device), "drawn anew"),
        (lambda x: x + torch.normal(torch.zeros(1), torch.ones(1)), "drawn anew"),
        (lambda x: x + x.new_empty(1).normal_(), "drawn anew"),
        (lambda x: x * random.random(), "draws random numbers"),
        (lambda x: x * float(numpy.random.rand()), "draws random numbers"),  # noqa: NPY002
        (lambda x: torch.dropout(x, 0.5, True), "it draws in evaluation mode too"),
        (lambda x: torch.maximum(x, torch.tensor(0.2, dtype=x.dtype)), "maximum"),
        (lambda x: x + torch.arange(len(x)).view(-1, 1, 1, 1), "mixes the samples"),
        (lambda x: F.relu(torch.cat([x, x])).chunk(2)[0], "mixes the samples"),
        (lambda x: F.relu(x.flatten(0, 1)).view(x.shape), "mixes the samples"),
        (lambda x: F.gumbel_softmax(x, dim=1), "drawn anew"),
        (lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.3), "dropout_p=0"),
        (lambda x: F.batch_norm(x, None, None, training=True), "statistics of the batch"),
        (lambda x: F.instance_norm(x), "train with batch norm instead"),
        (lambda x: x @ x, "attention multiplies two values"),
        (lambda x: torch.div(x, 2, rounding_mode="floor"), "replace it by linear"),
        (lambda x: x.to(torch.int64).float(), "replace it by linear"),
        (lambda x: torch.sigmoid(x), "leave the gate out"),
    ],
)
def test_what_mixes_samples_or_is_drawn_is_refused_by_name(mix, said):
    with pytest.raises(UserError, match=said):
        prepare(Mixing(mix).double(), samples(1), timesteps=2)


def twice(x):
    flat = x.flatten(1)
    F.relu_(x)
    return x + flat.view(x.shape)


def part(x):
    x[:, :2].relu_()
    return x


def zeroed(x):
    x[:, :2].zero_()
    return x


def padded(x):
    wide = x.new_zeros(x.shape[0], 6, 6, 6)
    wide.narrow(1, 0, x.shape[1]).copy_(x)
    return wide[:, : x.shape[1]]


@pytest.mark.parametrize("change", [twice, part, zeroed, padded])
def test_a_change_in_place_that_is_seen_under_another_name_is_refused(change):
    with pytest.raises(UserError, match="changes in place what is read later"):
        trace(Mixing(change).double(), samples(1))


def test_views_that_nothing_else_reads_may_be_changed():
    def change(x):
        rows = F.relu(x.view(x.shape[0], -1), inplace=True)
        rows += 1
        return rows.view(x.shape) + x.new_empty(1).fill_(2)

    net = Mixing(change).double()
    torch.testing.assert_close(trace(net, samples(1))(samples(3)), net(samples(3)))


def test_what_mixes_samples_is_said_by_an_inspection_with_an_example():
    found = inspect(nn.Sequential(Base(), nn.Softmax(0)).double(), samples(1))
    assert not found.convertible
    assert [row.node for row in found.refused] == ["1"]


def test_batch_norm_without_running_statistics_is_refused():
    net = nn.Sequential(
        nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3, track_running_stats=False), nn.ReLU(), nn.Flatten()
    )
    with pytest.raises(UserError, match=r"1 \(BatchNorm2d\).*track_running_stats=True"):
        prepare(net, samples(1), timesteps=2)


def test_what_is_drawn_is_refused_before_the_first_layer_and_behind_the_last():
    with pytest.raises(UserError, match="drawn anew"):
        prepare(nn.Sequential(Noise(), Base()), samples(1).float(), timesteps=2)
    with pytest.raises(UserError, match="drawn anew"):
        prepare(nn.Sequential(Base(), Noise()), samples(1).float(), timesteps=2)


class Noise(nn.Module):
    def forward(self, x):
        return x + torch.randn_like(x)


def test_functions_in_front_and_behind_along_the_batch_are_refused():
    for place in (0, 1):
        layers = [Base(), Base()]
        layers[place : place + 1] = [nn.Softmax(0)]
        if place == 0:
            layers = layers[:2]
        with pytest.raises(UserError, match="mixes the samples"):
            prepare(nn.Sequential(*layers), samples(1).float(), timesteps=2)
