"""Values of a layer, channel by channel."""

from collections.abc import Sequence

import torch
from torch import Tensor


def by_channel(values: Tensor) -> Tensor:
    """`[B, C, ...]` as `[C, N]` with N over batch and space."""
    return values.transpose(0, 1).flatten(1)


def joined_by_channel(values: Sequence[Tensor], *, out: Tensor | None = None) -> Tensor:
    """All of several `[B, C, ...]` as one `[C, N]`, each value copied once."""
    channels = values[0].shape[1]
    size = sum(v.numel() for v in values) // channels
    rows = values[0].new_empty(channels, size) if out is None else out
    start = 0
    for value in values:
        turned = value.transpose(0, 1)
        end = start + value.numel() // channels
        rows[:, start:end].view(turned.shape).copy_(turned)
        start = end
    return rows


def over(values: Tensor, potential: Tensor) -> Tensor:
    """Shape `[C]` so that it broadcasts over `[B, C, ...]`."""
    return values.view(-1, *(1,) * (potential.ndim - 2))


def total(counts: Sequence[Tensor]) -> Tensor:
    """The sum over all pieces, `[C]`."""
    return counts[0] if len(counts) == 1 else torch.stack(list(counts)).sum(0)
