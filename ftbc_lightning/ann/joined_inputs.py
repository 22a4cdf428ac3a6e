"""A network with several inputs as one with a single input, which holds them all."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ftbc_lightning.errors import UserError

WHOLE = 2**24
"""Whole numbers up to this are exact in float32."""


class JoinedInputs(nn.Module):
    """Another network, whose inputs lie one behind the other in one tensor `[B, N]`.

    Conversion, calibration and data modules know one tensor a sample. This takes it apart again:
    a part of the analog front, computed once and exactly.

    Args:
        network: Its `forward` takes the inputs by these names.
        inputs: The shape of each for one sample, by its name; `()` for a number.
        whole: Names of those that are whole numbers, such as tokens; they reach the network as
            int64. All others are in the precision of its weights.

    Raises:
        UserError: No input, a shape that is none, or a name that is not among them.

    >>> class Scaled(nn.Module):
    ...     def forward(self, image, factor):
    ...         return image * factor.view(-1, 1, 1)
    >>> net = JoinedInputs(Scaled(), {"image": [2, 2], "factor": []})
    >>> joined = net.join(image=torch.ones(3, 2, 2), factor=torch.tensor([1.0, 2.0, 3.0]))
    >>> joined.shape, net(joined)[2, 0, 0].item()
    (torch.Size([3, 5]), 3.0)
    """

    def __init__(
        self,
        network: nn.Module,
        inputs: Mapping[str, Sequence[int]],
        whole: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.network = network
        self.shapes = {name: tuple(shape) for name, shape in inputs.items()}
        self.whole = tuple(whole)
        if not self.shapes:
            raise UserError("inputs is empty; give the shape of each input of the network.")
        wrong = [name for name, shape in self.shapes.items() if any(size < 1 for size in shape)]
        if wrong:
            raise UserError(f"The shape of {wrong[0]} is {list(self.shapes[wrong[0]])}.")
        unknown = sorted(set(self.whole) - set(self.shapes))
        if unknown:
            raise UserError(
                f"whole names {', '.join(unknown)}, but the inputs are {', '.join(self.shapes)}."
            )
        self.sizes = [math.prod(shape) for shape in self.shapes.values()]

    def join(self, **inputs: Tensor) -> Tensor:
        """One tensor of all inputs, for a data module or a batch.

        Args:
            inputs: Each `[B, ...]`, by its name.

        Returns:
            Float32, or float64 if an input is, `[B, N]`; N is the sum of the sizes of all inputs.

        Raises:
            UserError: An input is missing, of another shape, or has whole numbers too large for
                float32.
        """
        if inputs.keys() != self.shapes.keys():
            raise UserError(
                f"The inputs are {', '.join(self.shapes)}, and {', '.join(inputs) or 'none'} came."
            )
        for name, shape in self.shapes.items():
            found = tuple(inputs[name].shape[1:])
            if inputs[name].ndim == 0 or found != shape:
                raise UserError(f"{name} has the shape {list(found)} where {list(shape)} is meant.")
            whole = not inputs[name].is_floating_point()
            if whole and (inputs[name].long().abs() > WHOLE).any():
                raise UserError(f"{name} has numbers above {WHOLE}, which float32 does not hold.")
        counts = {name: len(values) for name, values in inputs.items()}
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{count} of {name}" for name, count in counts.items())
            raise UserError(f"The inputs are of different numbers of samples: {listed}.")
        doubles = any(values.dtype == torch.float64 for values in inputs.values())
        dtype = torch.float64 if doubles else torch.float32
        flat = [inputs[name].reshape(len(inputs[name]), -1) for name in self.shapes]
        return torch.cat([values.to(dtype) for values in flat], dim=1)

    def forward(self, joined: Tensor) -> Any:
        """What the network returns for inputs that were joined."""
        parts = torch.split(joined, self.sizes, dim=1)
        inputs = {}
        for (name, shape), part in zip(self.shapes.items(), parts, strict=True):
            values = torch.unflatten(part, 1, shape) if shape else part.squeeze(1)
            inputs[name] = values.long() if name in self.whole else values
        return self.network(**inputs)
