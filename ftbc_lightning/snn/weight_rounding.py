"""Round weights to integers of a few bits, on a grid for each output channel: what chips hold."""

import copy
from collections.abc import Collection, Iterator

import torch
from torch import Tensor, fx, nn

from ftbc_lightning.errors import UserError
from ftbc_lightning.graph.batch_norm import Convolution, Transposed
from ftbc_lightning.snn.network import SpikingNetwork
from ftbc_lightning.snn.threshold_folding import folded_layers, is_transparent, scale_inputs

FEWEST_BITS, MOST_BITS = 2, 16
ADDITIONS = ("add", "add_", "iadd", "sub", "sub_", "isub")
KINDS = Convolution | Transposed | nn.Linear
Layers = list[tuple[nn.Module, Tensor | None]]
"""The layers of one sum, each with the thresholds that its weights will be multiplied by."""


def check_bits(bits: int) -> None:
    """Raise `UserError` unless weights can have so many bits."""
    if not FEWEST_BITS <= bits <= MOST_BITS:
        raise UserError(
            f"Weights of {bits} bits cannot be had; choose {FEWEST_BITS} to {MOST_BITS} bits."
        )


def largest(bits: int) -> int:
    """The largest integer of a symmetric grid.

    >>> largest(8), largest(2)
    (127, 1)
    """
    return int(2 ** (bits - 1) - 1)


def quantize_weights(snn: SpikingNetwork, bits: int) -> SpikingNetwork:
    """The same network with rounded weights, thresholds and biases as they are.

    What a calibration found for the weights as they were is kept; `calibrate` with `weight_bits`
    finds the biases for the rounded ones. A calibration without it gives the network the ANN's
    weights again.

    Args:
        snn: A network with thresholds set; left as it is.
        bits: Of a weight, its sign included, 2 to 16; see `WeightRounding`.

    Returns:
        A network that shares nothing with `snn`.

    Raises:
        UserError: The number of bits is out of range, or thresholds are not set.

    >>> from ftbc_lightning import convert
    >>> ann = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> samples = torch.rand(8, 2)
    >>> snn = quantize_weights(convert(ann, samples[:1], [samples], timesteps=4), 4)
    >>> weight = snn.layers.get_submodule("0").weight
    >>> steps = weight / weight.abs().amax(1, keepdim=True) * 7
    >>> torch.allclose(steps, steps.round(), atol=1e-5)
    True
    """
    check_bits(bits)
    snn.check_thresholds()
    rounded = copy.deepcopy(snn)
    WeightRounding(rounded, bits).everything()
    return rounded


class WeightRounding:
    """Rounds the weights of a network's linear layers in place, each output channel on its grid.

        q[o, i] = round(W[o, i] theta[i] / unit[o]),   unit[o] = max |W[o, i] theta[i]| / q_max
        W[o, i] <- unit[o] q[o, i] / theta[i],         q_max = 2^(bits - 1) - 1

    theta are the thresholds that are folded into the layer (`ftbc_lightning.snn.threshold_folding`,
    1 where none are), so that the folded weights, those of a chip, are integers times `unit`, which
    has the unit of the current. Layers whose outputs are added, as a convolution and that of the
    shortcut, share the units of their sum; all channels one, where some have fewer channels.
    Rounding rounded weights changes nothing, because the largest weight stays what it is. Biases
    are not rounded: they are added to the membrane, which has more bits than a weight.

    Error of a weight: at most unit / 2.

    Args:
        snn: A network with thresholds set, and linear layers of its own.
        bits: Of a weight, its sign included, 2 to 16.

    Raises:
        UserError: The number of bits is out of range.
    """

    def __init__(self, snn: SpikingNetwork, bits: int) -> None:
        check_bits(bits)
        self.sums, self.largest = list(layers_by_sum(snn)), largest(bits)

    @torch.no_grad()
    def everything(self, *, but: Collection[nn.Module] = ()) -> None:
        """Round all layers but those whose sum has one of `but` in it."""
        for layers in self.sums:
            if not any(module in but for module, _ in layers):
                self._round(layers)

    @torch.no_grad()
    def of(self, module: nn.Module) -> None:
        """Round a layer, and those whose outputs are added to its own."""
        for layers in self.sums:
            if any(layer is module for layer, _ in layers):
                self._round(layers)

    def _round(self, layers: Layers) -> None:
        for module, theta in layers:
            if theta is not None:
                scale_inputs(module, theta)
        rows = [by_output(module) for module, _ in layers]
        tops = [weight.abs().amax((1, 3)).flatten() for weight in rows]
        alike = len({len(top) for top in tops}) == 1
        top = (
            torch.stack(tops).amax(0) if alike else torch.cat(tops).amax()
        )  # a sum that broadcasts
        unit = unit_of(top, self.largest)
        for weight, top in zip(rows, tops, strict=True):
            each = unit.expand_as(top).view(weight.shape[0], 1, weight.shape[2], 1)
            weight.div_(each).round_().mul_(each)
        for module, theta in layers:
            if theta is not None:
                scale_inputs(module, 1 / theta)


def unit_of(top: Tensor, most: int) -> Tensor:
    """The unit of each output channel; 1 for one without weights.

    Args:
        top: The largest magnitude of its weights, `[O]`.
        most: The largest integer.

    >>> unit_of(torch.tensor([14.0, 0.0]), 7)
    tensor([2., 1.])
    """
    return torch.where(top > 0, top / most, 1.0)


def by_output(module: nn.Module) -> Tensor:
    """The weights of a layer as `[A, inputs, B, places]` with A * B output channels, not copied."""
    assert isinstance(module, KINDS)
    weight = module.weight.detach()
    if isinstance(module, Transposed):
        groups, outputs = module.groups, weight.shape[1]
        return weight.view(groups, weight.shape[0] // groups, outputs, -1)
    return weight.view(weight.shape[0], weight.shape[1], 1, -1)


def layers_by_sum(snn: SpikingNetwork) -> Iterator[Layers]:
    """The linear layers, those together whose outputs are added; a layer used twice once."""
    thetas = folded_layers(snn)
    found: dict[fx.Node, Layers] = {}
    seen: set[nn.Module] = set()
    for node in snn.layers.graph.nodes:
        if node.op != "call_module":
            continue
        module = snn.layers.get_submodule(str(node.target))
        if isinstance(module, KINDS) and module not in seen:
            seen.add(module)
            layers = found.setdefault(sum_of(node, snn.layers), [])
            layers.append((module, thetas.get(str(node.target))))
    yield from found.values()


def sum_of(node: fx.Node, graph: fx.GraphModule) -> fx.Node:
    """The last sum that a value enters, if nothing else reads it; or the value."""
    last = node
    while len(node.users) == 1:
        (node,) = node.users
        if _adds(node):
            last = node
        elif not is_transparent(node, graph):
            break
    return last


def _adds(node: fx.Node) -> bool:
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return node.op in ("call_function", "call_method") and name in ADDITIONS
