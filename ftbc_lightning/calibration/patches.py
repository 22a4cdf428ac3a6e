"""The inputs of every output position of a layer, unfolded as little as is needed."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ftbc_lightning.calibration.regression import Linear, Regression, channels_first
from ftbc_lightning.snn.device_bounds import carried_elements


@dataclass(frozen=True)
class Unfolded:
    """A layer's input with the last axis unfolded: what the kernel's columns read.

    A linear layer has one row, and a one-dimensional convolution one column.

    Attributes:
        values: `[groups, rows, N, columns]`, N over samples and output columns, `columns` over the
            kernel's columns and a group's input channels.
        kernel: How many rows the kernel has.
        stride: From one output row to the next.
        dilation: From one row of the kernel to the next.
    """

    values: Tensor
    kernel: int
    stride: int
    dilation: int

    @property
    def outputs(self) -> int:
        """How many rows the output has."""
        return (self.values.shape[1] - 1 - self.dilation * (self.kernel - 1)) // self.stride + 1

    def windows(self) -> Tensor:
        """What each row of the kernel reads, `[groups, kernel, outputs * N, columns]`.

        A view where the stride is 1.
        """
        length = (self.outputs - 1) * self.stride + 1
        rows = self.values.unfold(1, length, self.dilation)[:, : self.kernel, ..., :: self.stride]
        return rows.permute(0, 1, 4, 2, 3).flatten(2, 3)

    def patches(self) -> Tensor:
        """What the whole kernel reads, `[groups, outputs * N, inputs]`: by row, column, channel."""
        return self.windows().transpose(1, 2).flatten(2)


def unfolded(module: Linear, values: Tensor) -> Unfolded:
    """Unfold along the last axis alone.

    Args:
        module: A linear layer or convolution.
        values: Its input, `[B, C, ...]`.
    """
    if isinstance(module, nn.Linear):
        rows = values.reshape(*values.shape[:2], -1).permute(2, 0, 1)
        return Unfolded(rows.reshape(1, 1, -1, values.shape[1]), 1, 1, 1)
    padding = _padding(module)
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    padded = F.pad(values, padding, mode=mode) if any(padding) else values
    if isinstance(module, nn.Conv1d):
        padded = padded.unsqueeze(3)
    kernel, stride, dilation = (
        (*axes, 1)[:2] for axes in (module.kernel_size, module.stride, module.dilation)
    )
    by_row = padded.permute(2, 0, 3, 1)  # rows, B, columns, C
    last = by_row.shape[2] - dilation[1] * (kernel[1] - 1)
    starts = range(0, dilation[1] * kernel[1], dilation[1])
    shifted = [by_row[:, :, start : start + last : stride[1]] for start in starts]
    shape = (*shifted[0].shape[:3], module.groups, -1)
    grouped = torch.stack([part.reshape(shape) for part in shifted], dim=4)
    rows = grouped.permute(3, 0, 1, 2, 4, 5).flatten(4).flatten(2, 3)
    return Unfolded(rows, kernel[0], stride[0], dilation[0])


def by_output_row(values: Tensor, groups: int) -> Tensor:
    """Outputs `[B, C, ...]` in the order of windows, `[groups, outputs * N, C / groups]`."""
    spread = values.reshape(*values.shape[:3], -1) if values.ndim > 2 else values[:, :, None, None]
    rows = spread.permute(2, 0, 3, 1).reshape(-1, groups, values.shape[1] // groups)
    return rows.transpose(0, 1)


def by_weight(change: Tensor, module: Linear) -> Tensor:
    """Bring `[groups, inputs, C / groups]`, inputs as in `patches`, to the shape of the weights."""
    kernel = (*module.weight.shape[2:], 1, 1)[:2]
    parts = change.reshape(len(change), *kernel, module.weight.shape[1], -1)
    return parts.permute(0, 4, 3, 1, 2).reshape(module.weight.shape)


def pieces(
    regression: Regression, elements: int | None = None
) -> Iterator[tuple[int, Unfolded, Tensor]]:
    """Of each half, 0 or 1, a few samples at a time: what the layer reads, and what it lacks.

    Args:
        regression: The layer, and what it is found from.
        elements: How many values are held for each output position; those of `Unfolded` if None.

    Yields:
        The half, the input, and z' - x' in the order of windows.
    """
    module = regression.module
    groups = getattr(module, "groups", 1)
    for first, found in zip(regression.first_half, regression.samples(), strict=True):
        r, x, z = (values.to(module.weight.dtype) for values in found)  # halves under autocast
        gap = channels_first(module, regression.clip(z) - regression.clip(x))
        r = channels_first(module, r)
        held = gap[0, 0].numel() * elements if elements else _columns(module) * r[0].numel()
        size = max(1, carried_elements(r.device) // held)
        for half, part in enumerate((slice(first), slice(first, None))):
            if not len(r[part]):
                continue
            few = torch.split(r[part], size), torch.split(gap[part], size)
            for inputs, wanted in zip(*few, strict=True):
                yield half, unfolded(module, inputs), by_output_row(wanted, groups)


def _columns(module: Linear) -> int:
    """How many columns a kernel has."""
    return module.kernel_size[-1] if isinstance(module, nn.Conv2d) else 1


def _padding(module: nn.Conv1d | nn.Conv2d) -> list[int]:
    """What `F.pad` takes: before and behind, the last axis first."""
    sides: list[int] = []
    for axis in reversed(range(len(module.kernel_size))):
        if module.padding == "same":
            total = module.dilation[axis] * (module.kernel_size[axis] - 1)
            sides += [total // 2, total - total // 2]
        else:
            side = 0 if isinstance(module.padding, str) else module.padding[axis]
            sides += [side, side]
    return sides
