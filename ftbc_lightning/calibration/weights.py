"""Weights in closed form: ridge regression of each layer on its spiking input."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ftbc_lightning.calibration.regression import Linear, Regression
from ftbc_lightning.calibration.settings import CalibrationSettings
from ftbc_lightning.calibration.stage import Stage


def correct_weights(regression: Regression, *, shrinkage: float) -> None:
    """Change a layer's weights so that the mean current is nearer to the ANN's pre-activation.

        dW, db = argmin sum | dW r + db - (z' - x') |^2 + lambda * mean(diag(R R^T)) * |dW|^2

    r is the mean over time of the layer's spiking input, z the ANN's pre-activation at the neuron
    (after the residual addition), x the neuron's mean current; z' and x' are clipped to
    [-theta/2, theta], beyond which the neuron is silent or saturated whatever the current. Sums
    over samples and space make one Gram matrix, which adds over micro-batches and processes; one
    solve in float64. The bias is not shrunk, and a layer without one keeps none. Forward passes
    only.

    Not in the FTBC paper; SNN Calibration (Li et al., ICML 2021) trains the same weights by
    back-propagation, see `backpropagation`.

    Args:
        regression: The layer, changed in place, and what it is found from.
        shrinkage: lambda, above 0.
    """
    module = regression.module
    groups = getattr(module, "groups", 1)
    gram: Tensor | None = None
    for r, x, z in regression.samples():
        rows = patches(module, r)
        if module.bias is not None:
            rows = F.pad(rows, (0, 1), value=1.0)
        gap = regression.clip(z) - regression.clip(x)
        wanted = gap.movedim(1, -1).reshape(len(rows), groups, -1)
        rows, wanted = rows.transpose(0, 1), wanted.transpose(0, 1)
        part = (rows.mT @ torch.cat([rows, wanted], dim=2)).double()
        gram = part if gram is None else gram + part
    assert gram is not None
    inputs = module.weight[0].numel()
    size = inputs + (module.bias is not None)
    found = _solve(regression.reduce(gram, "sum"), size, inputs, shrinkage)
    module.weight += found[:, :inputs].mT.reshape(module.weight.shape).to(module.weight.dtype)
    if module.bias is not None:
        module.bias += found[:, inputs].flatten().to(module.bias.dtype)


def patches(module: Linear, values: Tensor) -> Tensor:
    """The inputs of every output position, `[N, groups, inputs]`.

    Args:
        module: A linear layer or convolution.
        values: Its input, `[B, C, ...]`.
    """
    if isinstance(module, nn.Linear):
        return values.unsqueeze(1)
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


def _solve(gram: Tensor, size: int, inputs: int, shrinkage: float) -> Tensor:
    """DW and db of each group, `[groups, size, outputs]`, from the Gram matrix of both sides."""
    square, right = gram[:, :, :size], gram[:, :, size:]
    ridge = torch.zeros(size, dtype=gram.dtype, device=gram.device)
    ridge[:inputs] = 1.0
    strength = shrinkage * square.diagonal(dim1=1, dim2=2)[:, :inputs].mean(1)
    strength = strength.clamp_min(torch.finfo(torch.float32).tiny)
    solved: Tensor = torch.linalg.solve(square + torch.diag(ridge) * strength[:, None, None], right)
    return solved


def _make(settings: CalibrationSettings) -> Callable[[Regression], None]:
    return partial(correct_weights, shrinkage=settings.shrinkage)


STAGE = Stage("weights", "weights", "weights", _make)
