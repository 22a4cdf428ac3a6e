"""The temporal bias as an input: T more channels of the sample that say which step it is.

For readers that know neither b[t] nor a start membrane, but add what several edges bring. Channel
C + k of the input is 1 everywhere at step k and 0 at every other, and weights carry it to the
neurons, so that nothing of the calibration is lost:

    W[c, C + k] = b[k, c],   and v0[c] is added to W[c, C]

The start membrane is exact too, because it is charged once, before the first spike.
"""

from dataclasses import replace

import torch
from torch import Tensor

from ftbc_lightning.errors import UserError
from ftbc_lightning.interchange.description import Description, Operation


def with_clock(description: Description) -> Description:
    """Move v0 and b[t] of every neuron into weights from T more channels of the input.

    Args:
        description: Of a network whose samples are vectors `[N]` or images `[C, H, W]`.

    Returns:
        A network with the same spikes if its input tells the step; v0 and b[t] are 0.

    Raises:
        UserError: The samples or the values of a neuron have other axes, or a layer has more
            positions than the sample.
    """
    entry, *others = description.operations
    channels, *places = entry.shape
    like = next(tensor for operation in others for tensor in operation.tensors.values())
    sample = torch.eye(channels, channels + description.timesteps).to(like)
    kept = f"{entry.name}_sample"
    made = [replace(entry, shape=(channels + description.timesteps, *places))]
    made += _from_input(entry, kept, entry.shape, sample)
    for operation in others:
        inputs = tuple(kept if name == entry.name else name for name in operation.inputs)
        operation = replace(operation, inputs=inputs)
        made += _charged(operation, entry) if operation.kind == "neuron" else [operation]
    return Description(tuple(made), description.timesteps)


def _charged(neuron: Operation, entry: Operation) -> list[Operation]:
    """What brings b[t] from the clock, its sum with the current, and the neuron without a bias."""
    v0, b = neuron.tensors["initial_membrane"], neuron.tensors["temporal_bias"]
    charge = torch.cat([v0.new_zeros(entry.shape[0], len(v0)), b[:1] + v0, b[1:]])
    clock, joined = f"{neuron.name}_clock", f"{neuron.name}_charged"
    both = Operation(joined, "add", (neuron.inputs[0], clock), neuron.shape)
    none = {"initial_membrane": torch.zeros_like(v0), "temporal_bias": torch.zeros_like(b)}
    bare = replace(neuron, inputs=(joined,), tensors={**neuron.tensors, **none})
    return [*_from_input(entry, clock, neuron.shape, charge.T), both, bare]


def _from_input(
    entry: Operation, name: str, shape: tuple[int, ...], rows: Tensor
) -> list[Operation]:
    """Weights from the input, `[outputs, C + T]`, to a layer of this shape.

    Every position has the same clock, so each may come from the first of a window; windows are
    such that there are as many as the layer has positions.
    """
    bias = rows.new_zeros(len(rows))
    if len(entry.shape) == len(shape) == 1:
        return [Operation(name, "linear", (entry.name,), shape, {}, {"weight": rows, "bias": bias})]
    sizes, places = entry.shape[1:], shape[1:] or (1, 1)
    if len(sizes) != 2 or len(places) != 2 or places[0] > sizes[0] or places[1] > sizes[1]:
        raise UserError(
            "bias=clock reaches layers of vectors, or of no more positions than the sample has: "
            f"{name} has {list(shape)}, the sample {list(entry.shape)}. Take bias=metadata or "
            "another format."
        )
    windows = _windows(sizes, places)
    if windows is None:
        raise UserError(
            f"bias=clock finds no square windows of {list(sizes)} places that are {list(places)}, "
            f"for {name}. Take bias=metadata or another format."
        )
    window, stride = windows
    weight = rows.new_zeros(*rows.shape, window, window)
    weight[:, :, 0, 0] = rows
    set_to = {"stride": stride, "padding": [0, 0], "dilation": [1, 1], "groups": 1}
    tensors = {"weight": weight, "bias": bias}
    if len(shape) > 1:
        return [Operation(name, "conv", (entry.name,), shape, set_to, tensors)]
    spread = Operation(f"{name}_map", "conv", (entry.name,), (*shape, 1, 1), set_to, tensors)
    return [spread, Operation(name, "flatten", (spread.name,), shape)]


def _windows(sizes: tuple[int, ...], places: tuple[int, ...]) -> tuple[int, list[int]] | None:
    """The smallest square window, and strides, of which an image has so many places.

    >>> _windows((4, 9), (2, 7))
    (3, [1, 1])
    """
    for window in range(1, min(sizes) + 1):
        strides = [
            next((s for s in range(1, size + 1) if (size - window) // s + 1 == place), 0)
            for size, place in zip(sizes, places, strict=True)
        ]
        if all(strides):
            return window, strides
    return None
