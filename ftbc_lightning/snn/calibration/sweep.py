"""Walk through the ANN and the spiking network side by side, once, correcting on the way."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, fx

from ftbc_lightning.snn.calibration.layer import Layer, LayerError
from ftbc_lightning.snn.network import SpikingNetwork
from ftbc_lightning.snn.operators import is_neuron
from ftbc_lightning.snn.propagation import Plan, Propagation
from ftbc_lightning.snn.simulation import chunk_sizes
from ftbc_lightning.snn.statistics import Reduce

Correct = Callable[[Layer], tuple[list[Tensor], LayerError]]
"""Writes the temporal bias of a layer and returns its output with it, and the errors."""


def sweep(
    reference: fx.GraphModule,
    snn: SpikingNetwork,
    pictures: Sequence[Tensor],
    correct: Correct,
    *,
    reduce: Reduce,
    reached: Callable[[int], None],
) -> dict[str, LayerError]:
    """One pass of the ANN and one T-step pass of the spiking network over `pictures`.

    When a neuron is reached, all that lies before it is corrected already, so its currents are
    those of the corrected network: no second pass is needed (method 2.2). All pictures wait at
    each node for each other, because a correction reads them all.

    Args:
        reference: The traced ANN.
        snn: The network whose biases are written.
        pictures: Batches `[B, ...]` that are corrected together.
        correct: What is done at each neuron.
        reduce: Merges sums and counts over processes.
        reached: Told the number of layers that are finished.

    Returns:
        The errors of each layer.
    """
    size, _ = chunk_sizes(snn, pictures[0], snn.timesteps)
    parts = [part for batch in pictures for part in torch.split(batch, size)]
    ann_plan, plan = Plan(reference), Plan(snn.layers)
    ann = [Propagation(ann_plan, part, steps=1) for part in parts]
    spiking = [Propagation(plan, part, steps=snn.timesteps) for part in parts]
    neurons = snn.neurons()
    errors: dict[str, LayerError] = {}
    for node, original in zip(plan.nodes, ann_plan.nodes, strict=True):
        activations = [propagation.advance(original) for propagation in ann]
        if not is_neuron(node):
            for propagation in spiking:
                propagation.advance(node)
            continue
        currents = [propagation.current(node) for propagation in spiking]
        layer = Layer(node.name, neurons[node.name], currents, activations, reduce)
        outputs, errors[node.name] = correct(layer)
        for propagation, output in zip(spiking, outputs, strict=True):
            propagation.settle(node, output)
        reached(len(errors))
        if len(errors) == len(neurons):
            break
    return errors
