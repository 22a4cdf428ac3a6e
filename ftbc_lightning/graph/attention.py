"""Attention in the open: linear layers, products and a softmax in place of one module."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from ftbc_lightning.errors import UserError


class OpenAttention(nn.Module):
    """What `nn.MultiheadAttention` computes in evaluation, by operations that can be read.

        softmax(Q K^T / sqrt(d)) V for each head
        Q = W_q q + b_q,   K = W_k k + b_k,   V = W_v v + b_v

    Args:
        given: The module; its weights are copied.

    Raises:
        UserError: It adds biases to keys and values, or a row of zeros.

    >>> given = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    >>> x = torch.rand(2, 3, 8)
    >>> torch.allclose(OpenAttention(given)(x, x, x)[0], given(x, x, x)[0], atol=1e-6)
    True
    """

    def __init__(self, given: nn.MultiheadAttention) -> None:
        super().__init__()
        if given.bias_k is not None or given.add_zero_attn:
            raise UserError(
                "MultiheadAttention with add_bias_kv or add_zero_attn is not taken over what has "
                "arrived so far; leave these out."
            )
        self.heads, self.batch_first = given.num_heads, given.batch_first
        if given.in_proj_weight is None:
            weights = [given.q_proj_weight, given.k_proj_weight, given.v_proj_weight]
        else:
            weights = list(given.in_proj_weight.chunk(3))
        biases = [None] * 3 if given.in_proj_bias is None else list(given.in_proj_bias.chunk(3))
        self.query, self.key, self.value = map(_linear, weights, biases)
        self.out = given.out_proj

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """The answer, and the weights of attention where they are asked for."""
        if key_padding_mask is not None:
            raise UserError("A key_padding_mask is not supported; give samples of one length.")
        if not self.batch_first:
            query, key, value = (each.transpose(0, 1) for each in (query, key, value))
        q, k, v = (
            layer(each).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, each in ((self.query, query), (self.key, key), (self.value, value))
        )
        mask = _added(attn_mask, q)
        found = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        answer = self.out(found.transpose(1, 2).flatten(2))
        weights = attention_weights(q, k, mask, average_attn_weights) if need_weights else None
        return (answer if self.batch_first else answer.transpose(0, 1)), weights


def attention_weights(query: Tensor, key: Tensor, mask: Any, average: bool) -> Tensor:
    """softmax(Q K^T / sqrt(d)) of each head, or their mean: one node, which goes if unread."""
    scores = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
    weights: Tensor = (scores if mask is None else scores + mask).softmax(-1)
    return weights.mean(1) if average else weights


fx.wrap("attention_weights")


def drop_unread_weights(graph: fx.GraphModule) -> None:
    """Take out weights of attention that nothing reads; changes the graph in place."""
    for node in reversed(graph.graph.nodes):
        if node.target is attention_weights and not node.users:
            graph.graph.erase_node(node)
    graph.recompile()


WHOLE = (
    *(nn.Transformer, nn.TransformerEncoder, nn.TransformerDecoder),
    *(nn.TransformerEncoderLayer, nn.TransformerDecoderLayer),
)


def open_attention(network: nn.Module) -> None:
    """Replace every `nn.MultiheadAttention` inside a network; changes it in place.

    Raises:
        UserError: It has a whole transformer layer of torch, or attention with rows of its own.
    """
    for name, module in network.named_modules():
        if isinstance(module, WHOLE):
            raise UserError(
                f"{name or type(module).__name__} ({type(module).__name__}) is one module that "
                "cannot be taken apart; write its attention, norms and layers one by one."
            )
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.MultiheadAttention):
                setattr(parent, name, OpenAttention(child).eval())


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    outputs, inputs = weight.shape
    # without values at first: drawing some would change the random numbers of who calls
    layer = nn.Linear(inputs, outputs, bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone())
    return layer


def _added(mask: Any, like: Tensor) -> Any:
    """A mask of True where nothing may be read, as what is added to the scores."""
    if mask is None:
        return None
    if not isinstance(mask, Tensor):
        raise UserError("An attn_mask must be a tensor of the network's own, such as a buffer.")
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=torch.float32).masked_fill(mask, -torch.inf).type_as(like)
