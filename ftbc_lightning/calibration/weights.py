"""Weights in closed form: ridge regression of each layer on its spiking input."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ftbc_lightning.calibration.held_out import held_out_ridge
from ftbc_lightning.calibration.regression import Linear, Regression
from ftbc_lightning.calibration.settings import CalibrationSettings
from ftbc_lightning.calibration.stage import Stage


def correct_weights(regression: Regression, *, shrinkage: float) -> None:
    """Change a layer's weights so that the mean current is nearer to the ANN's pre-activation.

        W <- W + share * dW
        dW, db = argmin sum | dW r + db - (z' - x') |^2 + lambda * mean(diag(R R^T)) * |dW|^2

    r is the mean over time of the layer's spiking input, z the ANN's pre-activation at the neuron
    (after the residual addition), x the neuron's mean current; z' and x' are clipped to
    [-theta/2, theta], beyond which the neuron is silent or saturated whatever the current. Sums
    over samples and space make a Gram matrix for each half of the samples, which add over
    micro-batches and processes; three solves in float64. The bias is not shrunk, and a layer
    without one keeps none. Forward passes only.

    `share`, one number for each output, is how much of dW holds on samples that it was not found
    from (`ftbc_lightning.calibration.held_out`): with few samples the correction of a layer with
    many weights follows their chance, and is taken back as far as it does. Where nothing of it
    holds, the weights stay.

    Not in the FTBC paper; SNN Calibration (Li et al., ICML 2021) trains the same weights by
    back-propagation, see `backpropagation`.

    Args:
        regression: The layer, changed in place, and what it is found from.
        shrinkage: lambda, above 0.
    """
    module = regression.module
    halves, inputs = _grams(regression), module.weight[0].numel()
    both = halves.sum(0)
    change = held_out_ridge(halves, inputs, shrinkage)
    module.weight += change.mT.reshape(module.weight.shape).to(module.weight.dtype)
    if module.bias is not None:
        ones = both[:, inputs:, :]
        missing = ones[:, :, inputs + 1 :] - ones[:, :, :inputs] @ change
        module.bias += (missing / ones[:, :, inputs, None]).flatten().to(module.bias.dtype)


def _grams(regression: Regression) -> Tensor:
    """Of each half, products of inputs, the constant 1 and what is wanted.

    Returns:
        `[2, groups, size, size + outputs]`.
    """
    module = regression.module
    groups, outputs = getattr(module, "groups", 1), module.weight.shape[0]
    size = module.weight[0].numel() + (module.bias is not None)
    shape = (2, groups, size, size + outputs // groups)
    grams = module.weight.new_zeros(shape, dtype=torch.float64)
    for first, (r, x, z) in zip(regression.first_half, regression.samples(), strict=True):
        gap = regression.clip(z) - regression.clip(x)
        for gram, half in zip(grams, (slice(first), slice(first, None)), strict=True):
            if not len(r[half]):
                continue
            rows = patches(module, r[half])
            if module.bias is not None:
                rows = F.pad(rows, (0, 1), value=1.0)
            last = gap[half] if isinstance(module, nn.Linear) else gap[half].movedim(1, -1)
            wanted = last.reshape(len(rows), groups, -1)
            rows, wanted = rows.transpose(0, 1), wanted.transpose(0, 1)
            gram += (rows.mT @ torch.cat([rows, wanted], dim=2)).double()
    return regression.reduce(grams, "sum")


def patches(module: Linear, values: Tensor) -> Tensor:
    """The inputs of every output position, `[N, groups, inputs]`.

    Args:
        module: A linear layer or convolution.
        values: Its input, `[B, C, ...]`.
    """
    if isinstance(module, nn.Linear):
        return values.reshape(-1, 1, values.shape[-1])
    kernel, stride = module.kernel_size, module.stride
    dilation, padding = module.dilation, _padding(module)
    if isinstance(module, nn.Conv1d):
        values = values.unsqueeze(2)
        kernel, stride, dilation, padding = (1, *kernel), (1, *stride), (1, *dilation), padding
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    padded = F.pad(values, padding, mode=mode) if any(padding) else values
    unfolded = F.unfold(padded, kernel, dilation=dilation, stride=stride).mT
    return unfolded.reshape(-1, module.groups, unfolded.shape[2] // module.groups)


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


def _make(settings: CalibrationSettings) -> Callable[[Regression], None]:
    return partial(correct_weights, shrinkage=settings.shrinkage)


STAGE = Stage("weights", "weights", "weights", _make)
