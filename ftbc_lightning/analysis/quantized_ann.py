"""The ANN on the grid that T spikes span: what critics put beside a spiking network."""

import copy
import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from ftbc_lightning.calibration.held_out import sorted_by_half
from ftbc_lightning.calibration.places import correctable
from ftbc_lightning.calibration.regression import Linear, Regression
from ftbc_lightning.calibration.settings import CalibrationSettings
from ftbc_lightning.calibration.sweep import number_of
from ftbc_lightning.calibration.weights import correct_weights
from ftbc_lightning.graph.outputs import filled
from ftbc_lightning.graph.propagation import Plan, Propagation
from ftbc_lightning.snn.network import SpikingNetwork
from ftbc_lightning.snn.neurons.integrate_and_fire import IFNeuron
from ftbc_lightning.snn.statistics import Batches, Reduce, identity, present, samples_of

SHRINKAGE = CalibrationSettings().shrinkage


def bits(spikes: int) -> int:
    """How many bits hold the n + 1 levels that n spikes span: ceil(log2(n + 1)).

    Args:
        spikes: n, T * K of a neuron that emits up to K spikes in each of T steps.

    >>> [bits(spikes) for spikes in (1, 2, 3, 4, 7, 8)]
    [1, 2, 2, 3, 3, 4]
    """
    return math.ceil(math.log2(spikes + 1))


def levels_of(snn: SpikingNetwork) -> int:
    """How many levels the widest neuron of a network spans in a step: K, two-sided 2 K."""
    return max(neuron.levels - neuron.lowest for neuron in snn.neurons().values())


def on_grid(activations: Tensor, neuron: IFNeuron, steps: int) -> Tensor:
    """Round activations to what a neuron with a constant current emits on average.

        q(a) = theta/T * clip(floor(a * T / theta + 1/2), 0, T * K)

    from -T * K on where the neuron is two-sided.
    A leak is left out: the levels are those of the neuron without.

    Args:
        activations: a, `[B, C, ...]`.
        neuron: Has theta and K.
        steps: T, at least 1.

    Returns:
        q(a), of the same shape.
    """
    theta = neuron.threshold.view(-1, *(1,) * (activations.ndim - 2))
    counts = (activations * (steps / theta) + 0.5).floor_()
    counts.clamp_(steps * neuron.lowest, steps * neuron.levels)
    return counts * (theta / steps)


@torch.no_grad()
def quantized_logits(ann: nn.Module, snn: SpikingNetwork, images: Tensor) -> Any:
    """The ANN's answer when activations have T * K + 1 levels, the thresholds being the SNN's.

    It needs one pass in place of T, and its neurons always fire as evenly as they can: where a
    spiking network is better or cheaper than this, spikes were worth it.

    Args:
        ann: The network that was converted, or what `corrected_ann` has made of it.
        snn: Its conversion, which has thresholds, T and K.
        images: `[B, ...]`.

    Returns:
        Logits, `[B, classes]`.
    """
    plan = Plan(snn.traced(ann))
    propagation, neurons = Propagation(plan, snn.prepared(images), steps=1), snn.neurons()
    for node in plan.nodes:
        value = advance_quantized(propagation, node, neurons, snn.timesteps)
    values = dict(zip(node.all_input_nodes, value, strict=True))
    return filled(node.args[0], values.__getitem__)


def advance_quantized(
    propagation: Propagation, node: fx.Node, neurons: dict[str, IFNeuron], steps: int
) -> Any:
    """Evaluate a node of the ANN; an activation is rounded to the grid of its neuron."""
    value = propagation.advance(node)
    if node.name in neurons:
        value = propagation.values[node] = on_grid(value, neurons[node.name], steps)
    return value


@torch.inference_mode(False)
@torch.no_grad()
def corrected_ann(
    ann: nn.Module,
    snn: SpikingNetwork,
    batches: Batches,
    *,
    shrinkage: float = SHRINKAGE,
    reduce: Reduce = identity,
) -> fx.GraphModule:
    """The ANN with weights that make up for its rounded activations.

    The regression of `ftbc_lightning.calibration.weights`, layer by layer from the input on, with
    rounded activations in the place of spikes: r is q(a) of the layers below with their corrected
    weights, x the pre-activation that it gives, z the ANN's. The same layers are corrected. So
    `quantized_logits(corrected_ann(ann, snn, batches), snn, images)` is what a spiking network
    with corrected weights has to beat.

    Args:
        ann: The network that was converted; left as it is.
        snn: Its conversion, which has thresholds, T and K.
        batches: Calibration samples `[B, ...]`, or tuples that begin with them.
        shrinkage: lambda, above 0.
        reduce: Merges sums over processes.

    Returns:
        The traced ANN with corrected weights.

    Raises:
        UserError: There is no sample, or the thresholds are not set.

    >>> from ftbc_lightning import convert
    >>> _ = torch.manual_seed(0)
    >>> ann = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 3), nn.ReLU())
    >>> samples = torch.rand(64, 2)
    >>> snn = convert(ann, samples[:1], [samples], timesteps=4)
    >>> corrected = corrected_ann(ann, snn, [samples])
    >>> [torch.equal(corrected.get_parameter(f"{i}.weight"), ann[i].weight) for i in (0, 2)]
    [True, False]
    """
    snn.check_thresholds()
    neurons = snn.neurons()
    like = next(iter(neurons.values())).threshold
    images, reduce = present(samples_of(batches, like=like, reduce=reduce), reduce)
    reference = snn.traced(ann)
    corrected = copy.deepcopy(reference)
    number = number_of(images, reduce)
    images, first_half = sorted_by_half(images)
    plans = Plan(reference), Plan(corrected)
    pairs = [_Pair(*plans, snn.prepared(batch)) for batch in images]
    places = [place for several in correctable(snn).values() for place in several]
    behind = {place.target.name: place for place in places}
    read = {place.node.name for place in places}
    for original, node in zip(plans[0].nodes, plans[1].nodes, strict=True):
        for pair in pairs:
            pair.advance(original, node, neurons, snn.timesteps, keep=node.name in read)
        if node.name in behind:
            place = behind[node.name]
            module = corrected.get_submodule(str(place.node.target))
            assert isinstance(module, Linear)
            _correct(
                module,
                place.neuron,
                place.node.name,
                node,
                pairs,
                first_half,
                number,
                shrinkage,
                reduce,
            )
    return corrected


class _Pair:
    """One batch on its way through the ANN and through the one that is rounded and corrected.

    Attributes:
        wanted: What the ANN has at the node that was evaluated last.
        inputs: What each layer that is still to be corrected reads, by its name.
    """

    def __init__(self, reference: Plan, corrected: Plan, images: Tensor) -> None:
        self.reference = Propagation(reference, images, steps=1)
        self.rounded = Propagation(corrected, images, steps=1)
        self.inputs: dict[str, Tensor] = {}

    def advance(
        self,
        original: fx.Node,
        node: fx.Node,
        neurons: dict[str, IFNeuron],
        steps: int,
        *,
        keep: bool,
    ) -> None:
        if keep:
            self.inputs[node.name] = self.rounded.values[node.all_input_nodes[0]]
        self.wanted = self.reference.advance(original)
        advance_quantized(self.rounded, node, neurons, steps)


def _correct(
    module: Linear,
    neuron: IFNeuron | None,
    layer: str,
    target: fx.Node,
    pairs: list[_Pair],
    first_half: list[int],
    number: int,
    shrinkage: float,
    reduce: Reduce,
) -> None:
    """Correct a layer, and the sums before its neuron, which are linear in what it gives."""

    def means(pair: _Pair) -> tuple[Tensor, Tensor]:
        return pair.inputs[layer], pair.rounded.values[target]

    if module(pairs[0].inputs[layer]).shape != pairs[0].wanted.shape:
        return  # the sum has more axes or places than the layer
    found = [partial(means, pair) for pair in pairs]
    before = copy.deepcopy(module)
    wanted = [pair.wanted for pair in pairs]
    regression = Regression(module, neuron, found, wanted, first_half, number, reduce)
    correct_weights(regression, shrinkage=shrinkage)
    for pair in pairs:
        r = pair.inputs.pop(layer)
        pair.rounded.values[target] = pair.rounded.values[target] + module(r) - before(r)
