"""Attention with its layers in the open."""

import pytest
import torch
from torch import nn

from ftbc_lightning import UserError, convert, simulate
from ftbc_lightning.graph.attention import OpenAttention, attention_weights
from ftbc_lightning.graph.tracing import trace


@pytest.mark.parametrize("mask", ["none", "bool", "float"])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("sizes", [{}, {"kdim": 6, "vdim": 4}, {"bias": False}])
@torch.no_grad()
def test_attention_in_the_open_is_the_module(first, mask, sizes):
    torch.manual_seed(0)
    module = nn.MultiheadAttention(8, 2, batch_first=first, **sizes).double().eval()
    shape = (3, 5) if first else (5, 3)
    q = torch.randn(*shape, 8).double()
    k, v = (torch.randn(*shape, sizes.get(kind, 8)).double() for kind in ("kdim", "vdim"))
    blocked = torch.ones(5, 5).triu(1).bool()
    given = {"none": None, "bool": blocked, "float": torch.randn(5, 5).double()}[mask]
    found = OpenAttention(module)(q, k, v, attn_mask=given)[0]
    wanted = module(q, k, v, attn_mask=given, need_weights=False)[0]
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    for average in (True, False):
        settings = {"attn_mask": given, "average_attn_weights": average}
        weights = OpenAttention(module)(q, k, v, **settings)[1]
        wanted = module(q, k, v, **settings)[1]
        torch.testing.assert_close(weights, wanted, rtol=0, atol=1e-12)


class Weighing(nn.Module):
    """Reads the weights of attention, or leaves them."""

    def __init__(self, reads):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)
        self.attention, self.reads = nn.MultiheadAttention(8, 2, batch_first=True), reads

    def forward(self, x):
        x = self.first(x)
        y, weights = self.attention(x, x, x)
        return self.last((weights @ y if self.reads else y).mean(1))


@pytest.mark.parametrize("reads", [True, False])
@torch.no_grad()
def test_weights_of_attention_are_computed_where_they_are_read(reads):
    net, x = Weighing(reads).double().eval(), torch.randn(8, 5, 6, dtype=torch.float64)
    graph = trace(net, x[:1], functions="encoded")
    torch.testing.assert_close(graph(x), net(x), rtol=0, atol=1e-12)
    found = [node for node in graph.graph.nodes if node.target is attention_weights]
    assert len(found) == reads
    settings = {"timesteps": 64, "functions": "encoded", "threshold_rule": "max"}
    snn = convert(net, x[:1], [x], **settings)
    assert float((simulate(snn, x)[-1] - net(x)).abs().mean()) < 0.01


@pytest.mark.parametrize("setting", ["add_bias_kv", "add_zero_attn"])
def test_attention_with_rows_of_its_own_is_refused(setting):
    with pytest.raises(UserError, match="add_bias_kv or add_zero_attn"):
        OpenAttention(nn.MultiheadAttention(8, 2, **{setting: True}))


def test_attention_in_the_open_draws_nothing():
    module = nn.MultiheadAttention(8, 2)
    before = torch.get_rng_state()
    OpenAttention(module)
    assert torch.equal(torch.get_rng_state(), before)
