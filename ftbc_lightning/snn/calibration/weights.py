"""Weights in closed form: ridge regression of each layer on its spiking input."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from ftbc_lightning.snn.calibration.layer import Layer
from ftbc_lightning.snn.network import SpikingNetwork
from ftbc_lightning.snn.operators import is_neuron

Linear = nn.Linear | nn.Conv1d | nn.Conv2d
ADDITIONS = ("add", "add_", "iadd")


@dataclass(frozen=True)
class Regressor:
    """The linear layer that is corrected at a neuron, and what flows into it.

    Attributes:
        module: The layer, whose weights are changed in place.
        inputs: Its spiking input for each micro-batch, `[T * B, C, ...]`.
        preactivations: z of the ANN at the neuron, `[B, C, ...]`.
    """

    module: Linear
    inputs: Sequence[Tensor]
    preactivations: Sequence[Tensor]


def correctable(snn: SpikingNetwork) -> dict[fx.Node, fx.Node]:
    """For each neuron the linear layer right before it, seen through additions alone.

    Of several that are added, the last one to be computed is taken: it can mend the gap on the
    shortcut too. A layer that is used twice, or whose input no spike has reached, is left alone.
    """
    spiking: set[fx.Node] = set()
    uses: dict[str, int] = {}
    found = {}
    for node in snn.layers.graph.nodes:
        if is_neuron(node) or any(source in spiking for source in node.all_input_nodes):
            spiking.add(node)
        if node.op == "call_module":
            uses[str(node.target)] = uses.get(str(node.target), 0) + 1
    order = {node: index for index, node in enumerate(snn.layers.graph.nodes)}
    for node in snn.layers.graph.nodes:
        if is_neuron(node):
            candidates = [
                layer
                for layer in _added(node.all_input_nodes[0])
                if layer.op == "call_module"
                and isinstance(snn.layers.get_submodule(str(layer.target)), Linear)
                and uses[str(layer.target)] == 1
                and layer.all_input_nodes[0] in spiking
            ]
            if candidates:
                found[node] = max(candidates, key=order.__getitem__)
    return found


def _added(node: fx.Node) -> list[fx.Node]:
    """The terms of a sum, or the node itself, where nothing else reads them."""
    if len(node.users) > 1:
        return []
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    if node.op in ("call_function", "call_method") and name in ADDITIONS:
        return [term for source in node.all_input_nodes for term in _added(source)]
    return [node]


def correct_weights(layer: Layer, regressor: Regressor, *, shrinkage: float) -> Layer:
    """Change a layer's weights so that the mean current is nearer to the ANN's pre-activation.

        dW, db = argmin sum | dW r + db - (z' - x') |^2 + lambda * mean(diag(R R^T)) * |dW|^2

    r is the mean over time of the layer's spiking input, z the ANN's pre-activation at the neuron
    (after the residual addition), x the neuron's mean current; z' and x' are clipped to
    [-theta/2, theta], beyond which the neuron is silent or saturated whatever the current. Sums
    over pictures and space make one Gram matrix, which adds over processes; one solve in float64.
    Forward passes only; the bias is not shrunk. Not in the FTBC paper.

    Args:
        layer: The neuron and its currents.
        regressor: What is changed.
        shrinkage: lambda, above 0.

    Returns:
        The layer with the currents of the new weights.
    """
    module, steps = regressor.module, layer.neuron.timesteps
    groups = getattr(module, "groups", 1)
    theta = layer.neuron.threshold
    gram: Tensor | None = None
    for inputs, current, target in zip(
        regressor.inputs, layer.currents, regressor.preactivations, strict=True
    ):
        mean_input = inputs.view(steps, -1, *inputs.shape[1:]).mean(0)
        rows = _rows(module, mean_input, groups)
        gap = _clip(target, theta) - _clip(current.mean(0), theta)
        wanted = gap.movedim(1, -1).reshape(len(rows), groups, -1)
        pairs = torch.cat([rows, wanted], dim=2).transpose(0, 1)
        part = (pairs.mT @ pairs).double()
        gram = part if gram is None else gram + part
    assert gram is not None
    weights, bias = _solve(layer.reduce(gram, "sum"), rows.shape[2], shrinkage)
    weights = weights.reshape(module.weight.shape).to(module.weight.dtype)
    shift = bias.flatten().to(module.weight.dtype)
    module.weight += weights
    if module.bias is not None:
        module.bias += shift
    else:
        shift = torch.zeros_like(shift)
    currents = [
        current + _apply(module, inputs, weights, shift).view(current.shape)
        for inputs, current in zip(regressor.inputs, layer.currents, strict=True)
    ]
    return replace(layer, currents=currents)


def _clip(values: Tensor, theta: Tensor) -> Tensor:
    shaped = theta.view(-1, *(1,) * (values.ndim - 2))
    return torch.minimum(torch.maximum(values, -shaped / 2), shaped)


def _rows(module: Linear, values: Tensor, groups: int) -> Tensor:
    """The input patch of every output position, and a 1, as `[N, groups, inputs + 1]`."""
    if isinstance(module, nn.Linear):
        patches = values.reshape(-1, 1, values.shape[-1])
    else:
        if isinstance(module, nn.Conv1d):
            values = values.unsqueeze(2)
        unfolded = F.unfold(
            values,
            _two_axes(module.kernel_size, 1),
            dilation=_two_axes(module.dilation, 1),
            padding=_two_axes(module.padding, 0),
            stride=_two_axes(module.stride, 1),
        )
        patches = unfolded.mT.reshape(-1, groups, unfolded.shape[1] // groups)
    return F.pad(patches, (0, 1), value=1.0)


def _two_axes(size: tuple[int, ...] | str, missing: int) -> tuple[int, ...]:
    """A setting of a convolution for height and width; Conv1d has a width alone."""
    assert isinstance(size, tuple)
    return (missing, *size) if len(size) == 1 else size


def _solve(gram: Tensor, size: int, shrinkage: float) -> tuple[Tensor, Tensor]:
    """DW `[groups, outputs, inputs]` and db `[groups, outputs]` from the joint Gram matrix."""
    square, right = gram[:, :size, :size], gram[:, :size, size:]
    ridge = torch.ones(size, dtype=gram.dtype, device=gram.device)
    ridge[-1] = 0.0
    strength = shrinkage * square.diagonal(dim1=1, dim2=2)[:, :-1].mean(1)
    strength = strength.clamp_min(torch.finfo(torch.float32).tiny)
    solved = torch.linalg.solve(square + torch.diag(ridge) * strength[:, None, None], right)
    return solved[:, :-1].mT, solved[:, -1]


def _apply(module: Linear, inputs: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    """What a layer with other weights gives for the same input."""
    state = {"weight": weights, **({} if module.bias is None else {"bias": bias})}
    result: Tensor = torch.func.functional_call(module, state, (inputs,))
    return result
