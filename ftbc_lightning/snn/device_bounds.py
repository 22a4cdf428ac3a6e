"""How much is carried at once on a device, and how much may wait: from its memory, or its cache."""

import torch

CACHED_ELEMENTS = 2**20
"""Values of a layer on a CPU: about what stays in its cache."""

MOST_ELEMENTS = 2**27
"""Values of a layer elsewhere: more of them are no faster, and kernels count in 32 bits."""

LIVE = 8
"""So many tensors of the size of a layer live at once: current, spikes, membrane, workspace."""

WAITING_BYTES = 2**30
"""What may wait in floating point where the memory of the device is not known."""


def carried_elements(device: torch.device) -> int:
    """How many values the widest layer may hold at once.

    On a CPU what stays in the cache; elsewhere what memory there is, up to a bound beyond which
    nothing is gained.
    """
    if device.type == "cpu":
        return CACHED_ELEMENTS
    free = free_bytes(device)
    return MOST_ELEMENTS if free is None else min(MOST_ELEMENTS, free // (4 * LIVE))


def sorted_elements(device: torch.device) -> int:
    """How many values may be sorted at once: values, places and working space, 28 bytes each."""
    free = free_bytes(device)
    return MOST_ELEMENTS if free is None else min(MOST_ELEMENTS, free // 56)


def waiting_bytes(device: torch.device) -> int:
    """How many bytes may be kept in order not to compute them twice: a half of what is free."""
    free = free_bytes(device)
    return WAITING_BYTES if free is None else max(WAITING_BYTES, free // 2)


def free_bytes(device: torch.device) -> int | None:
    """What a device has free, with what torch has taken of it and does not use; None if unknown.

    >>> free_bytes(torch.device("cpu")) is None
    True
    """
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(free + kept)
