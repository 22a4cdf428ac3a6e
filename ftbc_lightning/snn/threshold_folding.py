"""Fold thresholds into the weights behind them, so that spikes on the wire are 0 and 1."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from ftbc_lightning.graph.batch_norm import Convolution, Transposed
from ftbc_lightning.graph.channels import last_channels
from ftbc_lightning.graph.max_pooling import is_window, pooled_axes
from ftbc_lightning.graph.shapes import is_number
from ftbc_lightning.snn.network import SpikingNetwork

TRANSPARENT_MODULES = (
    *(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.Identity, nn.Upsample),
)
TRANSPARENT_FUNCTIONS = {
    *(F.dropout, F.avg_pool1d, F.avg_pool2d, F.avg_pool3d, F.interpolate),
    *(F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d),
}
"""What a factor for each channel may pass through unchanged."""


class EdgeScale(nn.Module):
    """theta for each channel on an edge whose end cannot take it into weights.

    Args:
        scale: theta, `[C]`.
    """

    scale: Tensor

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale.clone())

    def forward(self, spikes: Tensor) -> Tensor:
        """`[B, C, ...]` of 0 and 1 to theta times that."""
        return spikes * self.scale.view(-1, *(1,) * (spikes.ndim - 2))


@dataclass(frozen=True)
class Edge:
    """One way that spikes leave a neuron.

    Attributes:
        neuron: Name of the neuron.
        reader: Name of the node that reads its spikes.
        folded_into: The linear layers that took theta; empty where a scale stays on the edge.
    """

    neuron: str
    reader: str
    folded_into: tuple[str, ...]


@torch.inference_mode(False)
@torch.no_grad()
def fold_thresholds(snn: SpikingNetwork) -> tuple[SpikingNetwork, list[Edge]]:
    """Make every neuron emit 0 and 1 and take theta into the weights of the next layers.

        W (theta * s) = (W diag(theta)) s

    Where what reads the spikes is not a linear layer of its own, as in a residual sum of two
    scales, theta stays on that edge as an `EdgeScale`. The logits are the same but for rounding.

    Args:
        snn: A network with thresholds set; left as it is.

    Returns:
        A new network that shares nothing with `snn`, for simulation, counting and export, not for
        calibration; and what became of each edge.
    """
    folded = copy.deepcopy(snn)
    neurons = folded.neurons()
    edges = []
    for node, reader, ends in list(_edges(folded)):
        theta = neurons[node.name].amplitude
        for end in ends or ():
            scale_inputs(folded.layers.get_submodule(str(end.target)), theta)
        if ends is None:
            _insert_scale(folded.layers, node, reader, theta)
        edges.append(Edge(node.name, reader.name, tuple(end.name for end in ends or ())))
    for neuron in neurons.values():
        neuron.amplitude.fill_(1.0)
    if not all(edge.folded_into for edge in edges):
        folded.layers.recompile()
    return folded, edges


def folded_layers(snn: SpikingNetwork) -> dict[str, Tensor]:
    """The linear layers that `fold_thresholds` multiplies, each with the theta of its inputs."""
    neurons = snn.neurons()
    return {
        str(end.target): neurons[node.name].amplitude
        for node, _, ends in _edges(snn)
        for end in ends or ()
    }


def _edges(snn: SpikingNetwork) -> Iterator[tuple[fx.Node, fx.Node, Sequence[fx.Node] | None]]:
    """Each neuron with each node that reads its spikes, and the layers that can take theta."""
    neurons = snn.neurons()
    for node in snn.layers.graph.nodes:
        if node.name in neurons:
            for reader in [user for user in node.users if not is_number(user)]:
                axes = len(snn.shapes[node.name])
                yield node, reader, weights_behind(reader, snn.layers, axes=axes)


def weights_behind(
    node: fx.Node, graph: fx.GraphModule, *, axes: int | None = None
) -> Sequence[fx.Node] | None:
    """The linear layers that a factor reaches from `node` on, or None if it meets anything else.

    Args:
        node: What reads the spikes of a neuron.
        graph: The graph it stands in.
        axes: Of the spikes of one sample; where they are not known, an `nn.Linear` is taken to
            read vectors.
    """
    if node.op == "call_module":
        module = graph.get_submodule(str(node.target))
        if isinstance(module, Convolution | Transposed | nn.Linear):
            # over the last of several axes it does not see the channels, which are the first
            fits = not isinstance(module, nn.Linear) or axes in (1, None)
            calls = (other for other in graph.graph.nodes if other.op == "call_module")
            uses = sum(other.target == node.target for other in calls)
            return [node] if uses == 1 and fits else None
    flattens = node.target is last_channels or _flattens(node, graph, axes)
    if not (flattens or is_transparent(node, graph, axes=axes)):
        return None
    ends: list[fx.Node] = []
    for user in node.users:
        if is_number(user):
            continue
        reached = weights_behind(user, graph, axes=1 if flattens else axes)
        if reached is None:
            return None
        ends += reached
    return ends or None


def is_transparent(node: fx.Node, graph: fx.GraphModule, *, axes: int | None = None) -> bool:
    """Say whether a factor for each channel may pass through a node unchanged.

    Args:
        node: Any node.
        graph: The graph it stands in.
        axes: Of one sample of what it reads; where they are not known, a pooling is taken to run
            over all of them but the channels.
    """
    called = graph.get_submodule(str(node.target)) if node.op == "call_module" else node.target
    pooled = pooled_axes(called)
    if pooled and axes not in (pooled + 1, None):
        return False  # it runs over the channels
    if is_window(node, graph):
        return True
    if node.op == "call_module":
        return isinstance(called, TRANSPARENT_MODULES)
    if node.op == "call_method":
        return called == "contiguous" or _is_spatial_mean(node, axes)
    return called in TRANSPARENT_FUNCTIONS or _is_spatial_mean(node, axes)


def _flattens(node: fx.Node, graph: fx.GraphModule, axes: int | None) -> bool:
    """Say whether a node makes a vector of all that belongs to a sample, channel by channel."""
    if node.op == "call_module":
        module = graph.get_submodule(str(node.target))
        return isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1)
    if node.target in ("view", "reshape"):
        return node.args[2:] == (-1,)
    if node.target in ("flatten", torch.flatten):
        given = dict(zip(("start_dim", "end_dim"), node.args[1:], strict=False)) | node.kwargs
        return (given.get("start_dim", 0), given.get("end_dim", -1)) == (1, -1)
    return _is_spatial_mean(node, axes) and not (node.args[2:] or node.kwargs.get("keepdim"))


def _is_spatial_mean(node: fx.Node, axes: int | None) -> bool:
    """Say whether a node averages over the last two axes of samples that have three."""
    if node.target not in ("mean", torch.mean) or axes not in (3, None):
        return False
    over = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    return isinstance(over, list | tuple) and set(over) in ({2, 3}, {-1, -2})


def scale_inputs(layer: nn.Module, theta: Tensor) -> None:
    """Multiply the weights of each input channel by its theta."""
    assert isinstance(layer, Convolution | Transposed | nn.Linear)
    weight = layer.weight
    if isinstance(layer, nn.Linear):
        pixels = weight.shape[1] // len(theta)
        weight *= theta.repeat_interleave(pixels)
        return
    if isinstance(layer, Transposed):
        weight *= theta.view(-1, *(1,) * (weight.ndim - 1))
        return
    inputs = theta.view(layer.groups, 1, -1, *(1,) * (weight.ndim - 2))
    grouped = weight.view(layer.groups, -1, *weight.shape[1:])
    grouped *= inputs


def _insert_scale(graph: fx.GraphModule, node: fx.Node, reader: fx.Node, theta: Tensor) -> None:
    name = f"scale_{node.name}"
    if not hasattr(graph, name):
        graph.add_submodule(name, EdgeScale(theta))
    with graph.graph.inserting_after(node):
        scale = graph.graph.call_module(name, (node,))
    reader.replace_input_with(node, scale)
