"""How much of a regression holds on samples that it was not found from."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ftbc_lightning.errors import UserError

MIX = 0x9E3779B1
"""An odd number whose bits are well mixed: a product with it spreads low bits upwards."""


def mixed(values: Tensor) -> Tensor:
    """Whole numbers, int64, whose every bit depends on all bits of what was given."""
    for _ in range(2):
        values = values ^ (values >> 32)
        values = values * MIX
    return values ^ (values >> 29)


def fingerprint(samples: Tensor) -> Tensor:
    """A whole number that follows from the bits of a sample and their places alone, int64 `[B]`.

    Args:
        samples: `[B, ...]`.
    """
    integer = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    rows = samples.reshape(len(samples), -1).contiguous()
    bits = rows.view(integer[samples.element_size()]).long()
    places = mixed(torch.arange(1, bits.shape[1] + 1, device=bits.device)) | 1
    return mixed((mixed(bits) * places).sum(1))


def half_of(samples: Tensor) -> Tensor:
    """In which of two halves each sample is, 0 or 1, `[B]`.

    It depends on the sample's bits and their places alone, so that the halves are the same however
    samples are divided over micro-batches and processes.

    Args:
        samples: `[B, ...]`.

    >>> samples = torch.rand(6, 3)
    >>> torch.equal(half_of(samples)[2:], half_of(samples[2:]))
    True
    """
    return fingerprint(samples) >> 17 & 1


def sorted_by_half(batches: Sequence[Tensor]) -> tuple[list[Tensor], list[int]]:
    """Batches with the samples of the first half in front, and how many of each these are."""
    halves = [half_of(batch) for batch in batches]
    counts = torch.stack([len(half) - half.sum() for half in halves]).tolist()
    return [b[half.argsort(stable=True)] for b, half in zip(batches, halves, strict=True)], counts


def centred(gram: Tensor, inputs: int) -> tuple[Tensor, Tensor]:
    """The Gram matrix of values from which their means have been taken.

    Args:
        gram: Products of inputs, of a constant 1 if the layer has a bias, and of what is wanted:
            `[groups, size, size + outputs]`.
        inputs: How many inputs there are; `size` is that, or one more with a constant.

    Returns:
        Products of the inputs, a new tensor `[groups, inputs, inputs]`, and of inputs and what is
        wanted, `[groups, inputs, outputs]`.
    """
    size = gram.shape[1]
    square, right = gram[:, :inputs, :inputs], gram[:, :inputs, size:]
    if size == inputs:
        return square.clone(), right
    sums = gram[:, inputs:]
    means = sums[..., :inputs].mT / sums[..., inputs, None].clamp_min(1)
    products = torch.baddbmm(square, means, sums[..., :inputs], alpha=-1)
    return products, torch.baddbmm(right, means, sums[..., size:], alpha=-1)


def ridge(gram: Tensor, inputs: int, shrinkage: float) -> Tensor:
    """Minimise over dW and db sum |dW r + db - wanted|^2 + lambda * mean(diag(R R^T)) * |dW|^2.

    Args:
        gram: As for `centred`.
        inputs: How many inputs there are.
        shrinkage: lambda, above 0.

    Returns:
        dW, `[groups, inputs, outputs]`.

    Raises:
        UserError: The products cannot be factored: lambda is too small.
    """
    strength = shrinkage * gram.diagonal(dim1=-2, dim2=-1)[..., :inputs].mean(-1)
    strength = strength.clamp_min(torch.finfo(torch.float32).tiny)
    square, right = centred(gram, inputs)
    square.diagonal(dim1=-2, dim2=-1).add_(strength[:, None])
    try:
        factor = torch.linalg.cholesky(square)
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
        raise UserError(
            f"The regression of a layer with {inputs} inputs cannot be solved with a shrinkage of "
            f"{shrinkage}, which rounding hides; give more (shrinkage), such as 0.03."
        ) from error
    found: Tensor = torch.cholesky_solve(right, factor)
    return found


def held_out_ridge(halves: Tensor, inputs: int, shrinkage: float) -> Tensor:
    """As much of dW as holds on samples that it was not found from.

        share = (<dW_1, g_2> + <dW_2, g_1>) / (dW_1^T G_2 dW_1 + dW_2^T G_1 dW_2)

    for each output, within 0 .. 1. dW_i is found from half i, G_i are the products of its inputs,
    and g_i those with what is wanted: it is the multiple that has the least squared error on the
    other half. All samples together would bear a little more, being twice as many as a half; more
    was measured, and is worse where samples are few.

    Args:
        halves: The Gram matrices, as for `centred`, `[2, groups, size, size + outputs]`.
        inputs: How many inputs there are.
        shrinkage: lambda.

    Returns:
        share * dW of all samples, `[groups, inputs, outputs]`; 0 where a half has no samples.
    """
    outputs = halves.shape[-1] - halves.shape[-2]
    won = halves.new_zeros(halves.shape[1], outputs)
    size = torch.zeros_like(won)
    for here, there in ((0, 1), (1, 0)):
        found = ridge(halves[here], inputs, shrinkage)
        products, right = centred(halves[there], inputs)
        won += (found * right).sum(-2)
        size += (found * (products @ found)).sum(-2)
    share = (won / size.clamp_min(torch.finfo(torch.float64).tiny)).clamp(0, 1)
    return ridge(halves.sum(0), inputs, shrinkage) * share.unsqueeze(-2)
