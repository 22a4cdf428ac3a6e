"""What a classifier returns: logits, or what a function behind its last layer makes of them."""

from typing import Literal

import torch
from torch import Tensor, fx, nn

from ftbc_lightning.errors import UserError
from ftbc_lightning.graph.tracing import trace

Ending = Literal["softmax", "sigmoid"]

MARGIN = 1e-6
"""Sigmoids are kept this far from 0 and 1 before they are taken back."""


def ending(graph: fx.GraphModule) -> Ending | None:
    """The function that a network ends in, if it makes probabilities of logits.

    Log-probabilities are logits as they are: softmax takes them back, and cross entropy of them is
    the negative log-likelihood.

    >>> ending(fx.symbolic_trace(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Softmax(1))))
    'softmax'
    """
    output = next(node for node in reversed(graph.graph.nodes) if node.op == "output")
    last = output.args[0]
    if not isinstance(last, fx.Node):
        return None
    if last.op == "call_module":
        name = type(graph.get_submodule(str(last.target))).__name__.lower()
    else:
        name = last.target if isinstance(last.target, str) else last.target.__name__
    return {"softmax": "softmax", "sigmoid": "sigmoid"}.get(name)  # type: ignore[return-value]


def class_scores(outputs: Tensor, found: Ending | None) -> Tensor:
    """Logits whose softmax is the distribution over the classes.

    Args:
        outputs: Of a network, `[..., classes]`.
        found: What it ends in. Sigmoids over several classes are taken back to their logits.

    >>> class_scores(torch.tensor([0.25, 0.75]), "softmax").softmax(-1)
    tensor([0.2500, 0.7500])
    """
    if found is None:
        return outputs
    if found == "sigmoid":
        return torch.logit(outputs.float(), eps=MARGIN)
    return outputs.float().clamp_min(torch.finfo(torch.float32).tiny).log()


class ClassScores:
    """The logits behind what an ANN returns; what it ends in is looked up once.

    Args:
        ann: The network.
    """

    def __init__(self, ann: nn.Module) -> None:
        self.ann = ann
        self.found: Ending | Literal["unknown"] | None = "unknown"

    def __call__(self, outputs: Tensor, images: Tensor) -> Tensor:
        """Logits of `outputs`, `[..., classes]`, the answer to `images` or to others like them."""
        if self.found == "unknown":
            try:
                self.found = ending(trace(self.ann, images))
            except UserError:  # a network that is trained and never converted
                self.found = None
        return class_scores(outputs, self.found)
