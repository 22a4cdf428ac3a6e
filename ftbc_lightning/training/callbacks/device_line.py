"""Which device a run uses: its name and its memory."""

import os
from typing import Any

import torch


def described(device: torch.device, *, processes: int = 1) -> str:
    """A device, for people.

    Args:
        device: The device of this process.
        processes: How many processes the run has.

    >>> described(torch.device("cpu")).partition(",")[0]
    'CPU'
    """
    of_many = f", the first of {processes} processes" if processes > 1 else ""
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return f"CPU, {threads} thread{'s' * (threads > 1)}{of_many}"
    known = properties(device)
    size = f"{total_memory(device) / 2**30:.0f} GiB"
    return ", ".join([str(device), *([known.name] if known else []), size]) + of_many


def properties(device: torch.device) -> Any:
    """What torch knows of a device, with `name` and `total_memory`; None where it knows nothing."""
    ask = getattr(getattr(torch, device.type, None), "get_device_properties", None)
    return None if ask is None else ask(device)


def total_memory(device: torch.device) -> int:
    """Bytes of memory of a device, used or not; the host's where it has none of its own."""
    known = properties(device)
    if known is not None:
        return int(known.total_memory)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
