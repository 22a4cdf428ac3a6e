"""When memory ends, fewer samples are carried at once where the result does not depend on it."""

import gc
import re
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")

OUT_OF_MEMORY = re.compile(
    r"out of memory|can't allocate memory|not enough memory|_STATUS_ALLOC_FAILED"
)
"""What torch and its libraries say on a CPU and on a GPU."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was missing, on the host or on a device.

    >>> is_out_of_memory(RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"))
    True
    """
    kinds = MemoryError | RuntimeError  # torch.OutOfMemoryError is one of these
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, kinds) and OUT_OF_MEMORY.search(str(error)) is not None
    )


def in_parts(carry: Callable[[Tensor], Result], images: Tensor, size: int) -> list[Result]:
    """Carry some samples at a time, and half as many when they do not fit.

    Args:
        carry: Its result for a sample must not depend on the samples beside it.
        images: `[B, ...]`.
        size: How many to begin with, at least 1.

    Returns:
        What `carry` returned, in the order of the samples.

    Raises:
        torch.OutOfMemoryError: A single sample does not fit.

    >>> [len(part) for part in in_parts(lambda part: part, torch.rand(5, 2), 2)]
    [2, 2, 1]
    """
    results: list[Result] = []
    start, size = 0, min(size, len(images))
    while start < len(images):
        part = _carried(carry, images[start : start + size], last=size == 1)
        if part is None:
            # Out here nothing refers any more to the tensors of the attempt.
            size = (size + 1) // 2
            free(images.device)
            continue
        results.append(part)
        start += size
    return results


def _carried(carry: Callable[[Tensor], Result], images: Tensor, *, last: bool) -> Result | None:
    """The result, or None where memory was missing and another attempt is to be made."""
    try:
        return carry(images)
    except (RuntimeError, MemoryError) as error:
        if last or not is_out_of_memory(error):
            raise
        return None


def free(device: torch.device) -> None:
    """Give the memory that torch keeps for later back to a device."""
    gc.collect()
    empty_cache = getattr(getattr(torch, device.type, None), "empty_cache", None)
    if empty_cache is not None:
        empty_cache()
