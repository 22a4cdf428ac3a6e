"""Many results of a device, asked for at once: each question would wait for all that it does."""

from collections.abc import Hashable, Mapping
from itertools import islice
from typing import TypeVar

import torch
from torch import Tensor

Key = TypeVar("Key", bound=Hashable)


def in_one_read(results: Mapping[Key, Tensor]) -> dict[Key, tuple[float, ...]]:
    """The values of several tensors of one device, each flattened, after one copy from it.

    Args:
        results: Of any shapes; numbers, or marks, which become 0 and 1.

    >>> in_one_read({"spikes": torch.tensor([1, 2]), "whole": torch.tensor(True)})
    {'spikes': (1.0, 2.0), 'whole': (1.0,)}
    """
    if not results:
        return {}
    parts = {key: result.flatten().double() for key, result in results.items()}
    values = iter(torch.cat(list(parts.values())).tolist())
    return {key: tuple(islice(values, len(part))) for key, part in parts.items()}
