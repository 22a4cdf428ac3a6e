"""The place of an encoder: a value that neurons turn into spikes of both signs."""

from torch import Tensor, fx

ENCODER_KIND = "encoder"
"""What stands for the type of an encoder, where nodes are named."""


def encode(values: Tensor) -> Tensor:
    """In an ANN nothing; in the spiking network a two-sided neuron stands in its place."""
    return values


def is_encoder(node: fx.Node) -> bool:
    """Say whether a node of an ANN's graph is the place of an encoder."""
    return node.op == "call_function" and node.target is encode
