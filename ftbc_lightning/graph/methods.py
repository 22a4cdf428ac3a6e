"""Methods of tensors that a graph calls."""

from typing import Any


def call_method(name: str, args: Any, kwargs: Any) -> Any:
    """What a method of the first argument gives; a view where memory allows one, else a copy.

    Weights that are stored channels last give values channels last, of which no axes can be viewed
    as one: `x.view(x.size(0), -1)` holds for the network as it was, and means a reshape.

    >>> import torch
    >>> call_method("view", (torch.rand(2, 3, 4).transpose(1, 2), 2, -1), {}).shape
    torch.Size([2, 12])
    """
    return getattr(args[0], "reshape" if name == "view" else name)(*args[1:], **kwargs)
