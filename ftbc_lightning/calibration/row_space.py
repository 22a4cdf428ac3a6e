"""Few directions in which the weights of a wide layer can change at all."""

import torch
from torch import Tensor

from ftbc_lightning.calibration.held_out import fingerprint, mixed
from ftbc_lightning.calibration.patches import Unfolded, pieces
from ftbc_lightning.calibration.regression import Regression

MOST_DIRECTIONS = 4608
"""A Gram matrix of so many takes 0.17 GB in float64; a 3x3 kernel over 512 channels has them."""

COPIES = 8
"""Of a patch: itself, and in float64, beside what is kept of it."""


def directions(inputs: int, rows: int) -> int | None:
    """In how many directions a layer's weights are changed; None for all of them.

    Args:
        inputs: Of an output.
        rows: How often an output is computed: samples times positions.

    >>> directions(25088, rows=256), directions(25088, rows=10**6), directions(576, rows=10**6)
    (256, 4608, None)
    """
    number = min(rows, MOST_DIRECTIONS)
    return number if 2 * number < inputs else None


def row_space(regression: Regression, number: int) -> Tensor:
    """An orthonormal basis of what the rows of a regression span.

        Q = orth(sum over rows of r z^T)

    A ridge solution is a sum of the rows r that it is found from, with their means or without. So
    the regression on the coordinates Q^T r, of which there are no more than rows, has the same
    solution as the one on r, in much less memory where r is long. Each row has `number` random
    numbers z, which follow from the row alone, so that sums over processes give what one process
    gives. Where there are more rows than directions, the solution is the best within as many
    random mixtures of the rows.

    Args:
        regression: The layer, and what it is found from.
        number: How many directions, at most as many as a group has inputs.

    Returns:
        Q, `[groups, inputs, number]`, float64, inputs as in `Unfolded.patches`.
    """
    module = regression.module
    groups, inputs = getattr(module, "groups", 1), module.weight[0].numel()
    mixtures = module.weight.new_zeros(groups, inputs, number, dtype=torch.float64)
    for _, read, _ in pieces(regression, COPIES * inputs):
        rows = read.patches().double()
        mixtures.baddbmm_(rows.mT, _random(rows, number))
    basis: Tensor = torch.linalg.qr(regression.reduce(mixtures, "sum")).Q
    return basis


def _random(rows: Tensor, number: int) -> Tensor:
    """Numbers within -1 .. 1 that follow from a row, `[groups, N, number]`."""
    places = mixed(torch.arange(1, number + 1, device=rows.device))
    keys = fingerprint(rows.flatten(0, 1)).view(*rows.shape[:2], 1)
    return mixed(keys + places).double().div_(2.0**63)


def in_directions(read: Unfolded, basis: Tensor) -> Unfolded:
    """Coordinates of patches, as the input of a linear layer."""
    rows = read.patches()
    return Unfolded((rows @ basis.to(rows.dtype)).unsqueeze(1), 1, 1, 1)
