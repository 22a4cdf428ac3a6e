"""Watch the ANN and the spiking network side by side on the same samples."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from ftbc_lightning.graph.operators import is_neuron
from ftbc_lightning.graph.propagation import Plan, Propagation
from ftbc_lightning.graph.step_weights import leaky_sums
from ftbc_lightning.snn.network import SpikingNetwork
from ftbc_lightning.snn.neurons.integrate_and_fire import IFNeuron
from ftbc_lightning.snn.simulation import chunk_sizes


@dataclass(frozen=True)
class LayerView:
    """One layer of neurons on some samples.

    Attributes:
        name: The node's name.
        neuron: The neuron.
        activations: a of the ANN, `[B, C, ...]`.
        current: x[t], `[T, B, C, ...]`.
        output: theta * s[t], `[T, B, C, ...]`; negative where a spike is.
        sources: Names of the layers of neurons whose spikes reach this one first.
    """

    name: str
    neuron: IFNeuron
    activations: Tensor
    current: Tensor
    output: Tensor
    sources: tuple[str, ...]

    def membranes(self) -> Tensor:
        """v[t] after each step, in units of theta, `[T, B, C, ...]`.

        v[t] = leak * (v[t-1] + x[t] + d + b[t] - theta * s[t]),   v[-1] = v0
        """
        neuron = self.neuron
        bias = (neuron.temporal_bias + neuron.step_charge).unsqueeze(1)
        bias = neuron.per_channel(bias, self.current)
        growth = self.current + bias - self.output
        if neuron.leak != 1:
            growth *= neuron.leak
        theta = neuron.per_channel(neuron.threshold, self.current)
        return leaky_sums(growth, neuron.leak, neuron.rest(self.current)) / theta

    def spikes(self) -> Tensor:
        """s[t], whole numbers, `[T, B, C, ...]`."""
        return (self.output / self.neuron.per_channel(self.neuron.amplitude, self.output)).round()


@torch.no_grad()
def watch(reference: fx.GraphModule, snn: SpikingNetwork, images: Tensor) -> Iterator[LayerView]:
    """Carry samples through both networks and show each layer of neurons as it is reached.

    Args:
        reference: The traced ANN.
        snn: Its conversion, with thresholds set.
        images: `[B, ...]`; a few at a time are carried, so that one layer comes several times.
    """
    snn.check_thresholds()
    images = snn.prepared(images)
    size, _ = chunk_sizes(snn, images, snn.timesteps)
    ann_plan, plan = Plan(reference), Plan(snn.layers)
    sources = neurons_before(plan)
    neurons = snn.neurons()
    for part in torch.split(images, size):
        ann = Propagation(ann_plan, part, steps=1)
        spiking = Propagation(plan, part, steps=snn.timesteps)
        for node, original in zip(plan.nodes, ann_plan.nodes, strict=True):
            activations = ann.advance(original)
            if not is_neuron(node):
                spiking.advance(node)
                continue
            current = spiking.current(node)
            output, _ = neurons[node.name](current)
            yield LayerView(
                node.name, neurons[node.name], activations, current, output, sources[node.name]
            )
            spiking.settle(node, output)


def neurons_before(plan: Plan) -> dict[str, tuple[str, ...]]:
    """For each layer of neurons those that feed it with none between."""
    found: dict[fx.Node, set[str]] = {}
    for node in plan.nodes:
        reached = [
            {source.name} if is_neuron(source) else found[source] for source in node.all_input_nodes
        ]
        found[node] = set().union(*reached)
    return {node.name: tuple(sorted(found[node])) for node in plan.nodes if is_neuron(node)}
