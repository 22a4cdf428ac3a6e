"""Walk through the ANN and the spiking network side by side, once, correcting on the way."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, fx

from ftbc_lightning.snn.calibration.layer import Layer, LayerError
from ftbc_lightning.snn.calibration.weights import Linear, Regressor, correctable
from ftbc_lightning.snn.network import SpikingNetwork
from ftbc_lightning.snn.operators import is_neuron
from ftbc_lightning.snn.propagation import Plan, Propagation
from ftbc_lightning.snn.simulation import chunk_sizes, fastest_layout
from ftbc_lightning.snn.statistics import Reduce

Correct = Callable[[Layer], tuple[list[Tensor], LayerError]]
"""Writes the temporal bias of a layer and returns its output with it, and the errors."""

CorrectWeights = Callable[[Layer, Regressor], Layer]
"""Changes the weights before a neuron and returns the layer with its new currents."""


def sweep(
    reference: fx.GraphModule,
    snn: SpikingNetwork,
    pictures: Sequence[Tensor],
    correct: Correct,
    *,
    correct_weights: CorrectWeights | None = None,
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
        correct_weights: What is done before it, where the layer before it can be changed.
        reduce: Merges sums and counts over processes.
        reached: Told the number of layers that are finished.

    Returns:
        The errors of each layer.
    """
    size, _ = chunk_sizes(snn, pictures[0], snn.timesteps)
    parts = [part for batch in pictures for part in torch.split(fastest_layout(batch), size)]
    ann_plan, plan = Plan(reference), Plan(snn.layers)
    ann = [Propagation(ann_plan, part, steps=1) for part in parts]
    spiking = [Propagation(plan, part, steps=snn.timesteps) for part in parts]
    neurons = snn.neurons()
    before = correctable(snn) if correct_weights is not None else {}
    feeding = {linear: neuron for neuron, linear in before.items()}
    inputs: dict[fx.Node, list[Tensor]] = {}
    errors: dict[str, LayerError] = {}
    for node, original in zip(plan.nodes, ann_plan.nodes, strict=True):
        if node in feeding:
            source = node.all_input_nodes[0]
            inputs[feeding[node]] = [propagation.values[source] for propagation in spiking]
        if node in before:
            source = original.all_input_nodes[0]
            preactivations = [propagation.values[source] for propagation in ann]
        activations = [propagation.advance(original) for propagation in ann]
        if not is_neuron(node):
            for propagation in spiking:
                propagation.advance(node)
            continue
        currents = [propagation.current(node) for propagation in spiking]
        layer = Layer(node.name, neurons[node.name], currents, activations, reduce)
        if correct_weights is not None and node in before:
            module = snn.layers.get_submodule(str(before[node].target))
            assert isinstance(module, Linear)
            regressor = Regressor(module, inputs.pop(node), preactivations)
            layer = correct_weights(layer, regressor)
        outputs, errors[node.name] = correct(layer)
        for propagation, output in zip(spiking, outputs, strict=True):
            propagation.settle(node, output)
        reached(len(errors))
        if len(errors) == len(neurons):
            break
    return errors
