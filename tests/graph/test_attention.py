"""Attention with its layers in the open."""

import pytest
import torch
from torch import nn

from ftbc_lightning import UserError
from ftbc_lightning.graph.attention import OpenAttention


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


@pytest.mark.parametrize("setting", ["add_bias_kv", "add_zero_attn"])
def test_attention_with_rows_of_its_own_is_refused(setting):
    with pytest.raises(UserError, match="add_bias_kv or add_zero_attn"):
        OpenAttention(nn.MultiheadAttention(8, 2, **{setting: True}))


def test_attention_in_the_open_draws_nothing():
    module = nn.MultiheadAttention(8, 2)
    before = torch.get_rng_state()
    OpenAttention(module)
    assert torch.equal(torch.get_rng_state(), before)
