"""A network that returns several tensors, of which one is the answer."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from ftbc_lightning.errors import UserError


class OneOutput(nn.Module):
    """Another network's answer alone, out of the tuple, list or dictionary that it returns.

    What the network computes for the others only is no part of a conversion.

    Args:
        network: Returns several tensors; where it returns one, that is the answer.
        output: The key, the field of a named tuple, or the place, from 0 on; of what lies in one
            another, several joined by dots.

    Raises:
        UserError: Nothing of that name is returned.

    >>> import torch
    >>> class Two(nn.Module):
    ...     def forward(self, x):
    ...         return {"out": x, "aux": x + 1}
    >>> OneOutput(Two(), "aux")(torch.tensor([1]))
    tensor([2])
    """

    def __init__(self, network: nn.Module, output: str | int) -> None:
        super().__init__()
        self.network, self.output = network, str(output)

    def forward(self, x: Any) -> Any:
        """The answer to a sample."""
        found, left = self.network(x), self.output
        while left and isinstance(found, Mapping | tuple | list):
            named = named_outputs(found)
            name = left if left in named else left.partition(".")[0]
            if name not in named:
                raise UserError(
                    f"{type(self.network).__name__} returns no output {name!r}; there are "
                    f"{', '.join(named)}."
                )
            found, left = named[name], left.removeprefix(name).removeprefix(".")
        return found


def named_outputs(returned: Any) -> dict[str, Any]:
    """The parts of what a network returns, by key, field or place.

    >>> named_outputs({"out": 1}), named_outputs([2, 3])
    ({'out': 1}, {'0': 2, '1': 3})
    """
    if isinstance(returned, Mapping):
        return {str(key): part for key, part in returned.items()}
    fields = getattr(returned, "_fields", range(len(returned)))
    return {str(field): part for field, part in zip(fields, returned, strict=True)}
