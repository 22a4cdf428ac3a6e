"""Adam whose steps are in proportion to what they change, and how its rate rises and falls."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

LEAST = 0.1
"""Of the typical size of a tensor: what smaller ones, such as biases of 0, count as."""

RISE = 0.1
"""The share of the steps in which the rate rises."""


class RelativeAdam(torch.optim.Adam):
    """Adam with a learning rate for each tensor, in proportion to its root mean square.

        rate = lr * max(rms(tensor), 0.1 * median of all rms above 0),   when the training begins

    Weights that batch norm has been folded into differ in size from layer to layer; with one rate
    for all, a spiking network loses in the first steps what its calibration has found. Adafactor
    scales its steps likewise (Shazeer and Stern, ICML 2018).

    Args:
        params: The parameters.
        lr: What a step may change at most, as a share of the tensor's size.
        settings: Others of `torch.optim.Adam`.

    >>> weights = nn.Parameter(torch.full((3,), 2.0)), nn.Parameter(torch.zeros(3))
    >>> [group["lr"] for group in RelativeAdam(weights, lr=0.01).param_groups]
    [0.02, 0.002]
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float = 0.01, **settings: Any) -> None:
        tensors = list(params)
        squares = [tensor.detach().square().mean() for tensor in tensors]
        sizes = torch.stack(squares).sqrt().tolist()
        there = sorted(size for size in sizes if size > 0) or [1.0]
        least = LEAST * there[len(there) // 2]
        super().__init__(
            [
                {"params": [tensor], "lr": lr * max(size, least)}
                for tensor, size in zip(tensors, sizes, strict=True)
            ],
            lr=lr,
            **settings,
        )


def rise_and_fall(
    optimizer: torch.optim.Optimizer, steps: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """Rates that rise in a line over a tenth of the steps and fall to zero along a cosine.

    Args:
        optimizer: Whose rates.
        steps: How many steps there are.
    """
    rising = max(1.0, RISE * steps)

    def share(step: int) -> float:
        fallen = 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(steps, 1))))
        return min(1.0, (step + 1) / rising) * fallen

    return torch.optim.lr_scheduler.LambdaLR(optimizer, share)
