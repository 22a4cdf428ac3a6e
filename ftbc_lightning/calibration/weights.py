"""Weights in closed form: ridge regression of each layer on its spiking input."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ftbc_lightning.calibration.gram import add_products, complete
from ftbc_lightning.calibration.held_out import held_out_ridge
from ftbc_lightning.calibration.patches import by_weight, pieces
from ftbc_lightning.calibration.places import correctable
from ftbc_lightning.calibration.regression import Linear, Regression
from ftbc_lightning.calibration.row_space import COPIES, directions, in_directions, row_space
from ftbc_lightning.calibration.settings import CalibrationSettings
from ftbc_lightning.calibration.stage import Stage
from ftbc_lightning.snn.network import SpikingNetwork


def correct_weights(regression: Regression, *, shrinkage: float) -> None:
    """Change a layer's weights so that the mean current is nearer to the ANN's pre-activation.

        W <- W + share * dW
        dW, db = argmin sum | dW r + db - (z' - x') |^2 + lambda * mean(diag(R R^T)) * |dW|^2

    r is the mean over time of the layer's spiking input, z the ANN's pre-activation at the neuron
    (after the residual addition), x the neuron's mean current; z' and x' are clipped to
    [-theta/2, theta], beyond which the neuron is silent or saturated whatever the current, and left
    as they are where a function or an encoder reads them. Sums
    over samples and space make a Gram matrix for each half of the samples, which add over
    micro-batches and processes; three solves in float64. The bias is not shrunk, and a layer
    without one keeps none. Forward passes only.

    A layer with more than twice as many inputs as rows (samples times positions), such as the
    first linear layer of a VGG, is solved in the space of its rows, with the same result
    (`ftbc_lightning.calibration.row_space`); so is one of more than 9,216 inputs with more rows
    than 4,608, of which that many random mixtures are taken.

    `share`, one number for each output, is how much of dW holds on samples that it was not found
    from (`ftbc_lightning.calibration.held_out`): with few samples the correction of a layer with
    many weights follows their chance, and is taken back as far as it does. Where nothing of it
    holds, the weights stay.

    Not in the FTBC paper; SNN Calibration (Li et al., ICML 2021) trains the same weights by
    back-propagation, see `backpropagation`.

    Args:
        regression: The layer, changed in place, and what it is found from.
        shrinkage: lambda, above 0.

    Raises:
        UserError: lambda is so small that the products cannot be factored.
    """
    with _full_precision(regression.module.weight.device):
        _correct(regression, shrinkage)


def _full_precision(device: torch.device) -> AbstractContextManager[Any]:
    """Keep `torch.autocast` from rounding products that are solved for."""
    rounds = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if rounds else nullcontext()


def _correct(regression: Regression, shrinkage: float) -> None:
    module, inputs = regression.module, regression.module.weight[0].numel()
    number, basis = directions(inputs, regression.rows()), None
    if number is not None:
        basis = row_space(regression, number)
        shrinkage *= number / inputs  # the mean of the diagonal is that of all inputs
        inputs = number
    halves = _grams(regression, inputs, basis)
    change = held_out_ridge(halves, inputs, shrinkage)
    if module.bias is not None:
        ones = halves[:, :, inputs:].sum(0)
        missing = ones[..., inputs + 1 :] - ones[..., :inputs] @ change
        module.bias += (missing / ones[..., inputs, None]).flatten().to(module.bias.dtype)
    del halves
    change = change.to(module.weight.dtype)
    if basis is not None:
        change = basis.to(change.dtype) @ change
    module.weight += by_weight(change, module)


def _grams(regression: Regression, inputs: int, basis: Tensor | None) -> Tensor:
    """Of each half, products of inputs, the constant 1 and what is wanted.

    Args:
        regression: The layer, and what it is found from.
        inputs: How many inputs a group has, or directions.
        basis: The directions, as from `row_space`, or None.

    Returns:
        `[2, groups, size, size + outputs]`.
    """
    module = regression.module
    groups, outputs = getattr(module, "groups", 1), module.weight.shape[0]
    size = inputs + (module.bias is not None)
    shape = (2, groups, size, size + outputs // groups)
    grams = module.weight.new_zeros(shape, dtype=torch.float64)
    elements = None if basis is None else COPIES * basis.shape[1]
    for half, read, wanted in pieces(regression, elements):
        used = read if basis is None else in_directions(read, basis)
        add_products(grams[half], used, wanted)
    complete(grams, used)
    return regression.reduce(grams, "sum")


def bytes_needed(snn: SpikingNetwork, samples: int) -> int:
    """What the regression of the largest layer takes at least, beside the network and its spikes.

        8 * groups * (5 n^2 + 3 n * outputs + inputs * n)

    for n inputs or directions, and outputs of a group: a Gram matrix for each half and for both,
    one without means and one factor, and the basis of the directions, if these are fewer than
    the inputs.

    Args:
        snn: The spiking network; its thresholds need not be set.
        samples: Of the calibration, over all processes.

    Returns:
        Bytes; 0 where no layer is corrected.
    """
    needed = [0]
    for neuron, places in correctable(snn).items():
        rows = samples * math.prod(snn.shapes[neuron.name][1:])
        needed += [_bytes_of(place.module, rows) for place in places]
    return max(needed)


def _bytes_of(module: Linear, rows: int) -> int:
    inputs, groups = module.weight[0].numel(), int(getattr(module, "groups", 1))
    outputs, number = module.weight.shape[0] // groups, directions(inputs, rows)
    n, basis = number or inputs, inputs * (number or 0)
    return 8 * groups * (5 * n**2 + 3 * n * outputs + basis)


def _make(settings: CalibrationSettings) -> Callable[[Regression], None]:
    return partial(correct_weights, shrinkage=settings.shrinkage)


STAGE = Stage("weights", "weights", "weights", _make)
