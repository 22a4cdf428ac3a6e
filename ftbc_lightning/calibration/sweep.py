"""Walk through the ANN and the spiking network side by side, once, correcting on the way."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, fx

from ftbc_lightning.calibration.between_neurons import read_later, stretch_before
from ftbc_lightning.calibration.expected import Expected, expected_activations, pieces_of
from ftbc_lightning.calibration.held_out import sorted_by_half
from ftbc_lightning.calibration.layer import Corrected, Layer, LayerError
from ftbc_lightning.calibration.micro_batch import MicroBatch, Room
from ftbc_lightning.calibration.places import Place, correctable
from ftbc_lightning.calibration.regression import Regression
from ftbc_lightning.graph.operators import is_neuron
from ftbc_lightning.graph.propagation import Plan, Propagation
from ftbc_lightning.snn import device_bounds
from ftbc_lightning.snn.memory_layout import fastest_layout, lay_out_weights
from ftbc_lightning.snn.network import SpikingNetwork
from ftbc_lightning.snn.simulation import chunk_sizes
from ftbc_lightning.snn.statistics import Reduce, identity

Correct = Callable[[Layer], Corrected]
"""Writes the temporal bias of a layer and returns its spikes with it, and the errors."""

CorrectWeights = Callable[[Regression], None]
"""Changes the weights before a neuron."""


def sweep(
    reference: fx.GraphModule,
    snn: SpikingNetwork,
    samples: Sequence[Tensor],
    correct: Correct,
    *,
    correct_weights: CorrectWeights | None = None,
    passes: int = 1,
    waiting_bytes: int | None = None,
    expected: dict[fx.Node, Expected] | None = None,
    reduce: Reduce,
    reached: Callable[[int], None],
) -> dict[str, LayerError]:
    """One pass of the ANN and one T-step pass of the spiking network over `samples`.

    The ANN goes first, a micro-batch at a time, and leaves the mean of each activation alone.
    Where more of it is read it goes along, a layer at a time, and its activations wait too.

    When a neuron is reached, all that lies before it is corrected already, so its currents are
    those of the corrected network: no second pass is needed (method 2.2). All samples wait at
    each node for each other, because a correction reads them all: their spikes as bits, and
    their membranes at the neuron that is being corrected. Currents are computed from the bits for
    one micro-batch at a time; on a CPU for one step, elsewhere for several.

    Nothing is approximated. Sums, counts and Gram matrices add over micro-batches and processes;
    the order statistic of the exact solver is taken over the membranes of all samples at one
    step, by selection in one process and by bisection on counts over several
    (`ftbc_lightning.calibration.order_statistic`). Values in time that several layers read
    without a neuron in between, and the currents of a method that needs them twice, are kept
    while they take less than `waiting_bytes`, and are computed again where they take more: to the
    same bits, but for the rounding of means that a weight stage reads.

    Args:
        reference: The traced ANN.
        snn: The network whose biases are written.
        samples: Batches `[B, ...]` that are corrected together.
        correct: What is done at each neuron.
        correct_weights: What is done before it, where the layer before it can be changed.
        passes: How often `correct` goes through the steps of a layer.
        waiting_bytes: How much may be kept; `device_bounds.waiting_bytes` if None.
        expected: What an earlier sweep over the same samples has found of the ANN, filled if empty;
            not read where weights are corrected.
        reduce: Merges sums and counts over processes.
        reached: Told the number of layers that are finished.

    Returns:
        The errors of each layer.
    """
    if waiting_bytes is None:
        waiting_bytes = device_bounds.waiting_bytes(samples[0].device)
    on_cpu = samples[0].device.type == "cpu"
    size, steps = chunk_sizes(snn, samples[0], 1 if on_cpu else snn.timesteps)
    images = [part for batch in samples for part in torch.split(fastest_layout(batch), size)]
    first_half: list[int] = []
    if correct_weights is not None:
        images, first_half = sorted_by_half(images)
    ann_plan, plan = Plan(reference), Plan(snn.layers)
    for network in (ann_plan, plan):
        lay_out_weights(network.modules.values(), samples[0])
    originals = dict(zip(plan.nodes, ann_plan.nodes, strict=True))
    neurons = snn.neurons()
    places = {} if correct_weights is None else correctable(snn)
    watched = {originals[n] for here in places.values() for p in here for n in (p.node, p.target)}
    ann = [Forward(ann_plan, part, watched) for part in images]
    parts = [MicroBatch(plan, part, timesteps=snn.timesteps, steps=steps) for part in images]
    later = [node for node in plan.nodes if is_neuron(node)]
    known: set[fx.Node] = set()
    errors: dict[str, LayerError] = {}
    count = number_of(images, reduce)
    expected = {} if expected is None else expected
    if correct_weights is None and not expected:
        activations = [originals[node] for node in later]
        expected |= expected_activations(ann_plan, activations, images, count, reduce)
    while later:
        node = later.pop(0)
        neuron = neurons[node.name]
        stretch = stretch_before(node, plan, known=known, later=later)
        values = partial(_activations, ann, originals[node])
        found = None if correct_weights is None else values()
        for place in places.get(node, ()):
            assert correct_weights is not None
            target, wanted = _wanted(place, originals, ann)
            means = [partial(part.means, stretch, place.source, target) for part in parts]
            # the neuron limits the sum; what a layer adds to it has no limits of its own
            reader = place.neuron if target is place.target else None
            correct_weights(
                Regression(place.module, reader, means, wanted, first_half, count, reduce)
            )
        room = Room(waiting_bytes - _kept(parts), snn.timesteps * sum(map(len, images)))
        currents = [partial(part.current, stretch, room, passes > 1) for part in parts]
        if found is None:
            here = expected[originals[node]]
            layer = Layer(node.name, neuron, currents, here, values, count, reduce)
        else:
            layer = Layer.of(node.name, neuron, currents, found, count, reduce)
        trains, errors[node.name] = correct(layer)
        apart = trains if len(trains) == len(parts) else trains[0].split(list(map(len, images)))
        for part, train in zip(parts, apart, strict=True):
            part.spikes[node] = train
        known |= parts[0].analog.keys()
        needed = read_later(plan, known=known, later=later)
        for part in parts:
            part.forget(needed)
        reached(len(errors))
    return errors


def _wanted(
    place: Place, originals: Mapping[fx.Node, fx.Node], ann: Sequence["Forward"]
) -> tuple[fx.Node, list[Tensor]]:
    """Where a layer is compared with the ANN, and what the ANN has there.

    In the sum that it enters; at the layer itself where the sum has another shape.
    """
    nodes = {place.node, place.target}
    seen = {node: [forward.seen.pop(originals[node]) for forward in ann] for node in nodes}
    same = seen[place.node][0].shape == seen[place.target][0].shape
    target = place.target if same else place.node
    return target, seen[target]


def _activations(ann: Sequence["Forward"], node: fx.Node) -> list[Tensor]:
    """The activations of a node, in pieces."""
    found = [forward.activation(node) for forward in ann]
    return pieces_of(found, found[0].device)


def number_of(images: Sequence[Tensor], reduce: Reduce) -> int:
    """How many samples there are over all processes."""
    own = sum(map(len, images))
    if reduce is identity:
        return own
    return int(reduce(torch.tensor([own], device=images[0].device), "sum"))


class Forward:
    """One micro-batch on its way through the ANN, an activation at a time.

    Attributes:
        seen: The values of the nodes that are watched, as far as they have been passed.
    """

    def __init__(self, plan: Plan, images: Tensor, watched: Collection[fx.Node]) -> None:
        self.propagation = Propagation(plan, images, steps=1)
        self.nodes, self.watched = iter(plan.nodes), watched
        self.seen: dict[fx.Node, Tensor] = {}

    def activation(self, wanted: fx.Node) -> Tensor:
        """The value of an activation that has not been passed."""
        for node in self.nodes:
            value: Tensor = self.propagation.advance(node)
            if node in self.watched:
                self.seen[node] = value
            if node is wanted:
                return value
        raise AssertionError(f"{wanted} has been passed")


def _kept(parts: Sequence[MicroBatch]) -> int:
    """How many bytes of floats wait for later layers."""
    steps = [step for part in parts for value in part.analog.values() for step in value]
    return sum(step.numel() * step.element_size() for step in steps)
