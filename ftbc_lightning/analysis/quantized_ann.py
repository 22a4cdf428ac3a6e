"""The ANN on the grid that T spikes span: what critics put beside a spiking network."""

import math

import torch
from torch import Tensor, fx, nn

from ftbc_lightning.graph.propagation import Plan, Propagation
from ftbc_lightning.graph.tracing import trace
from ftbc_lightning.snn.network import SpikingNetwork
from ftbc_lightning.snn.neurons.integrate_and_fire import IFNeuron


def bits(timesteps: int) -> int:
    """How many bits hold the T + 1 levels that T spikes span: ceil(log2(T + 1)).

    >>> [bits(timesteps) for timesteps in (1, 2, 3, 4, 7, 8)]
    [1, 2, 2, 3, 3, 4]
    """
    return math.ceil(math.log2(timesteps + 1))


def on_grid(activations: Tensor, neuron: IFNeuron, steps: int) -> Tensor:
    """Round activations to what a neuron with a constant current emits on average.

        q(a) = theta/T * clip(floor(a * T / theta + 1/2), 0, T)

    Args:
        activations: a, `[B, C, ...]`.
        neuron: Has theta.
        steps: T, at least 1.

    Returns:
        q(a), of the same shape.
    """
    theta = neuron.threshold.view(-1, *(1,) * (activations.ndim - 2))
    return (activations * (steps / theta) + 0.5).floor_().clamp_(0, steps) * (theta / steps)


@torch.no_grad()
def quantized_logits(ann: nn.Module, snn: SpikingNetwork, images: Tensor) -> Tensor:
    """The ANN's answer when every activation has T + 1 levels, the thresholds being the SNN's.

    It needs one pass in place of T, and its neurons always fire as evenly as they can: where a
    spiking network is better or cheaper than this, spikes were worth it.

    Args:
        ann: The network that was converted.
        snn: Its conversion, which has thresholds and T.
        images: `[B, ...]`.

    Returns:
        Logits, `[B, classes]`.
    """
    plan = Plan(trace(ann, snn.example_input))
    propagation, neurons = Propagation(plan, snn.prepared(images), steps=1), snn.neurons()
    for node in plan.nodes:
        value = advance_quantized(propagation, node, neurons, snn.timesteps)
    return torch.as_tensor(value)


def advance_quantized(
    propagation: Propagation, node: fx.Node, neurons: dict[str, IFNeuron], steps: int
) -> Tensor:
    """Evaluate a node of the ANN; an activation is rounded to the grid of its neuron."""
    value: Tensor = propagation.advance(node)
    if node.name in neurons:
        value = propagation.values[node] = on_grid(value, neurons[node.name], steps)
    return value
