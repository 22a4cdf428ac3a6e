"""The k-th smallest value of each channel, over batches and processes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ftbc_lightning.snn.statistics import Reduce, identity


def kth_smallest(values: Sequence[Tensor], k: Tensor, *, reduce: Reduce = identity) -> Tensor:
    """The k-th smallest value of each channel over all of `values` and all processes.

    In one process it is found by selection. Over several it is found by bisection on the number
    line of floating-point numbers: 32 (float64: 64) rounds, each of which sends one count for
    each channel. Both are exact.

    Args:
        values: Pieces `[C, n]`; a process may have none with n above 0.
        k: Rank for each channel, int64 `[C]`, 1 to N where N is the number over all processes.
        reduce: Merges counts over processes.

    Returns:
        `[C]`.

    >>> kth_smallest([torch.tensor([[3.0, 1.0]]), torch.tensor([[2.0]])], torch.tensor([2]))
    tensor([2.])
    """
    if reduce is not identity:
        return _bisect(values, k, reduce)
    joined = torch.cat(list(values), dim=1)
    picked = [row.kthvalue(rank).values for row, rank in zip(joined, k.tolist(), strict=True)]
    return torch.stack(picked)


def _bisect(values: Sequence[Tensor], k: Tensor, reduce: Reduce) -> Tensor:
    """Smallest representable x with at least k values that do not exceed it."""
    dtype = values[0].dtype
    integer = torch.int32 if dtype == torch.float32 else torch.int64
    bits = torch.iinfo(integer).bits
    low = torch.full_like(k, torch.iinfo(integer).min)
    high = torch.full_like(k, torch.iinfo(integer).max)
    for _ in range(bits):
        # The mean of two integers of one sign or of two, without overflow.
        middle = (low >> 1) + (high >> 1) + (low & high & 1)
        bound = _to_float(middle, dtype)[:, None]
        counts = torch.stack([(piece <= bound).sum(1) for piece in values]).sum(0)
        enough = reduce(counts, "sum") >= k
        high = torch.where(enough, middle, high)
        low = torch.where(enough, low, middle + 1)
    return _to_float(high, dtype)


def _to_float(key: Tensor, dtype: torch.dtype) -> Tensor:
    """The float at a place of the number line; the inverse of sorting floats by their bits."""
    integer = torch.int32 if dtype == torch.float32 else torch.int64
    bits = torch.iinfo(integer).bits
    place = key.to(integer)
    return (place ^ ((place >> (bits - 1)) & torch.iinfo(integer).max)).view(dtype)
