"""What operations become where all that they read and give is a whole number."""

from collections.abc import Mapping
from dataclasses import replace
from math import prod

import torch
from torch import Tensor

from ftbc_lightning.errors import UserError
from ftbc_lightning.interchange.description import Description, Operation


def on_cpu(operation: Operation) -> Operation:
    """The same with its tensors on the CPU."""
    tensors = {key: value.detach().cpu() for key, value in operation.tensors.items()}
    return replace(operation, tensors=tensors)


def in_time(description: Description) -> set[str]:
    """The operations that spikes have reached, neurons among them."""
    found: set[str] = set()
    for operation in description.operations:
        if operation.kind == "neuron" or any(source in found for source in operation.inputs):
            found.add(operation.name)
    return found


def whole(values: Tensor) -> Tensor:
    """The nearest integers, int32 (clipped to what one holds, which `check_size` refuses).

    >>> whole(torch.tensor([1.4, -2.6], dtype=torch.float64)).tolist()
    [1, -3]
    """
    most = torch.iinfo(torch.int32).max
    return values.round().clamp(-most, most).to(torch.int32)


def check_size(made: Mapping[str, Operation]) -> None:
    """Raise `UserError` where an integer has not fitted into 32 bits."""
    most = torch.iinfo(torch.int32).max
    tops = [
        value.abs().max().double()
        for operation in made.values()
        for value in operation.tensors.values()
        if value.dtype == torch.int32
    ]
    if bool((torch.stack(tops) >= most).any()):
        raise UserError(
            "A bias is so much larger than the weights that it has no place in 32 bits; export "
            "the network without bits."
        )


def places(operation: Operation) -> int:
    """How many values an average is taken of; 1 of anything else."""
    if operation.kind != "avg_pool":
        return 1
    return prod(operation.attributes["kernel"])


def summed(operation: Operation) -> Operation:
    """An average pooling as the sum of each window: a convolution of each channel with ones."""
    channels, kernel = operation.shape[0], operation.attributes["kernel"]
    attributes = {
        "stride": operation.attributes["stride"],
        "padding": operation.attributes["padding"],
        "dilation": [1] * len(kernel),
        "groups": channels,
    }
    tensors = {
        "weight": torch.ones(channels, 1, *kernel, dtype=torch.int8),
        "bias": torch.zeros(channels, dtype=torch.int32),
    }
    return replace(operation, kind="conv", attributes=attributes, tensors=tensors)


def within(operation: Operation, unit: Tensor, channels: int) -> Tensor | None:
    """The units `[channels]` before a padding or a slice; None if it takes some of the channels."""
    if operation.kind == "pad":
        first = operation.attributes["pad"][0][0]
        return unit[first : first + channels]
    return unit if operation.attributes["slices"][0] == [0, channels, 1] else None
