"""Where the channels of a value lie: axis 1 for neurons, the last axis for `nn.Linear`."""

from torch import Tensor


def first_channels(values: Tensor) -> Tensor:
    """`[B, ..., C]` to `[B, C, ...]`."""
    return values.movedim(-1, 1)


def last_channels(values: Tensor) -> Tensor:
    """`[B, C, ...]` to `[B, ..., C]`."""
    return values.movedim(1, -1)
