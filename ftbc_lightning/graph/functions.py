"""Functions that are not linear, taken over what has arrived so far.

    y[t] = n[t] f(m[t]) - leak * n[t-1] f(m[t-1])
    n[t] = leak * n[t-1] + 1,   m[t] = S[t] / n[t],   S[t] = leak * S[t-1] + x[t]

m is the running mean of what the function reads, so the running mean of y is f(m): exact for any
function of any number of values. y is no train of spikes. Where a layer with weights reads it, or
what another such layer gives, an encoder can be put between: a neuron whose spikes have two signs
(`ftbc_lightning.snn.neurons.two_sided`), of which the layer reads spikes.

Source: the expectation of transformers in ECMT (ACM MM 2024) and the temporal differences of
SpikingJelly; max pooling over sums (`ftbc_lightning.graph.max_pooling`) is a case of it.
"""

import operator
from typing import Any, Literal

import torch
from torch import fx, nn

from ftbc_lightning.graph import operators
from ftbc_lightning.graph.channels import first_channels, last_channels
from ftbc_lightning.graph.encoding import ENCODER_KIND, encode
from ftbc_lightning.graph.two_sided import WRITTEN

Functions = Literal["refuse", "in_time", "encoded"]
"""What becomes of a function that is not linear: it is refused, or taken over what has arrived so
far; "encoded" puts neurons before each layer that reads no spikes else."""


RIGHT_PRODUCTS = (
    *(torch.nn.functional.linear, torch.matmul, operator.matmul, torch.mm, "matmul", "mm"),
)
"""Functions that combine the last axis of what they read."""


def write_encoders(graph: fx.GraphModule) -> None:
    """Put an encoder before each layer with weights that would read a value in time, no spikes.

    Channels are those of the layer: the last axis for `nn.Linear`, else the first of a sample. What
    is computed once, from the sample alone up to the first layer, is read as it is.

    Args:
        graph: A traced network; changed in place.
    """
    found, weighted = operators.roles(graph, functions=True), operators.weighted_nodes(graph)
    analog: set[fx.Node] = set()
    encoded: dict[tuple[fx.Node, bool], fx.Node] = {}
    for node, role in found.items():
        sources = [source for source in node.all_input_nodes if source in analog]
        if node in weighted:
            for source in sources:
                last = _reads_last(node, graph)
                if (source, last) not in encoded:
                    encoded[source, last] = _encoder(source, graph, last=last)
                node.replace_input_with(source, encoded[source, last])
            analog.add(node)
        elif role == "function" or (role in ("linear", "pool") and sources):
            analog.add(node)
    graph.recompile()


def _reads_last(node: fx.Node, graph: fx.GraphModule) -> bool:
    """Say whether a layer combines the last axis of what it reads."""
    if node.op == "call_module":
        return isinstance(graph.get_submodule(str(node.target)), nn.Linear)
    return node.target in RIGHT_PRODUCTS


def _encoder(source: fx.Node, graph: fx.GraphModule, *, last: bool) -> fx.Node:
    """The nodes of an encoder behind a value; returns the one that gives it."""
    path, _ = operators.path_and_kind(source, graph)
    nodes = graph.graph
    after = source

    def made(what: Any, *args: Any, name: str) -> fx.Node:
        nonlocal after
        with nodes.inserting_after(after):
            after = nodes.create_node("call_function", what, args, name=f"{source.name}_{name}")
        return after

    value = made(first_channels, source, name="channels") if last else source
    encoded = made(encode, value, name="encoded")
    encoded.meta[WRITTEN] = path, ENCODER_KIND
    return made(last_channels, encoded, name="decoded") if last else encoded
