"""Where is it lost: the error of each layer and step, split by its cause."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from ftbc_lightning.analysis.observation import LayerView, watch
from ftbc_lightning.analysis.quantized_ann import on_grid
from ftbc_lightning.calibration.by_channel import by_channel
from ftbc_lightning.snn.network import SpikingNetwork
from ftbc_lightning.snn.neurons.integrate_and_fire import IFNeuron
from ftbc_lightning.snn.statistics import Batches, samples_of

Cause = Literal["clipping", "quantisation", "offset", "scatter", "bias", "leak"]

ADVICE: dict[Cause, str] = {
    "clipping": "raise the threshold (threshold_rule percentile with a higher percent, or max)",
    "leak": "its input is even, so its spikes would be without a leak: a leak nearer to 1",
    "quantisation": "the grid theta/T is too coarse: more time steps (or threshold_rule mse)",
    "offset": "unevenness that has a mean: calibrate the temporal bias",
    "bias": "its input is even, so its spikes were until their mean was corrected: more time steps",
    "scatter": "unevenness that no bias removes: calibrate the weights too, or more time steps",
}
SMALL = 0.05
"""A layer that adds less than this share of its signal needs no advice."""


def advice_on(cause: Cause, added: float, *, bias: bool = False, weights: bool = False) -> str:
    """What to do about a layer.

    Args:
        cause: The largest part of its error.
        added: What it adds, as a share of its signal.
        bias: Whether temporal biases are calibrated already.
        weights: Whether weights are.

    >>> advice_on("scatter", 0.2, weights=True)
    'unevenness that no bias removes: more time steps, or more calibration samples'
    """
    if added <= SMALL:
        return f"adds little (under {SMALL:.0%})"
    words = ADVICE[cause]
    if (cause == "offset" and bias) or (cause == "scatter" and weights):
        return words.partition(":")[0] + ": more time steps, or more calibration samples"
    return words


@dataclass(frozen=True)
class LayerDiagnosis:
    """Root mean squares over samples, channels and space, as shares of the ANN's activation.

    phi[t] = mean of theta * s over the steps 0..t is compared with a, K being how many spikes a
    neuron emits in one step at most:

        phi - a = [min(a, K theta) - a] + [q(a) - min(a, K theta)] + [phi - q(a)]
                  clipping                quantisation               unevenness

    q(a) is the nearest of the (t + 1) K + 1 levels that t + 1 steps reach without a leak. With one
    phi is the weighted mean (`ftbc_lightning.graph.step_weights`), and what the leak makes coarser
    is part of the third, as is what earlier layers got wrong. A negative spike takes from phi.
    FTBC removes the mean of phi - a in each channel, the offset.

    Attributes:
        total: Of phi - a after each step, `[T]`.
        clipping: Of the first term, `[T]`.
        quantisation: Of the second, `[T]`.
        unevenness: Of the third, `[T]`.
        offset: Of the mean of phi - a in each channel, `[T]`.
        added: How much larger the total is at the last step than in the layers that feed this one.
        firing_rate: Spikes of either sign, |s|, for each neuron at each step, `[T]`.
        reads_samples: Whether no other layer feeds it: its current is the same at each step.
        leaky: Whether its membrane has a leak.
        negative_share: The share of negative spikes among those of a step, `[T]`.
    """

    total: tuple[float, ...]
    clipping: tuple[float, ...]
    quantisation: tuple[float, ...]
    unevenness: tuple[float, ...]
    offset: tuple[float, ...]
    added: float
    firing_rate: tuple[float, ...]
    reads_samples: bool = False
    leaky: bool = False
    negative_share: tuple[float, ...] = ()

    @property
    def cause(self) -> Cause:
        """The largest of the three at the last step; unevenness is told apart by its mean.

        A layer that reads the sample fires evenly unless it has a leak or a calibrated bias.
        """
        clipping, quantisation = self.clipping[-1], self.quantisation[-1]
        if self.unevenness[-1] > max(clipping, quantisation):
            if 2 * self.offset[-1] ** 2 > self.unevenness[-1] ** 2:
                return "offset"
            if self.reads_samples:
                return "leak" if self.leaky else "bias"
            return "scatter"
        return "clipping" if clipping > quantisation else "quantisation"


@dataclass(frozen=True)
class Diagnosis:
    """The layers of one network.

    Attributes:
        timesteps: T.
        samples: How many were watched.
        layers: By name, from the input to the output.
    """

    timesteps: int
    samples: int
    layers: dict[str, LayerDiagnosis]

    def worst(self) -> list[str]:
        """The names of the layers, first the one that adds most error to what reached it."""
        return sorted(self.layers, key=lambda name: -self.layers[name].added)

    def advice(self, name: str, *, bias: bool = False, weights: bool = False) -> str:
        """What to do about a layer, see `advice_on`."""
        layer = self.layers[name]
        return advice_on(layer.cause, layer.added, bias=bias, weights=weights)


class _Sums:
    """Sums of squares of one layer, on the device of its network."""

    def __init__(self, neuron: IFNeuron) -> None:
        steps, channels = neuron.timesteps, neuron.channels
        zeros = partial(torch.zeros, dtype=torch.float64, device=neuron.threshold.device)
        self.parts, self.errors = zeros(4, steps), zeros(steps, channels)
        self.signal, self.fired, self.taken_back = zeros(()), zeros(steps), zeros(steps)
        self.count, self.leaky = 0, neuron.leak != 1
        self.sources: tuple[str, ...] = ()

    def add(self, view: LayerView) -> None:
        self.sources = view.sources
        a = view.activations
        leak, weight = view.neuron.leak, 0.0
        clipped = view.neuron.limited(a)
        emitted = torch.zeros_like(a)
        for t in range(len(view.output)):
            if leak != 1:
                emitted *= leak
            emitted += view.output[t]
            weight = leak * weight + 1
            phi = emitted / weight
            grid = on_grid(a, view.neuron, t + 1)
            terms = (phi - a, clipped - a, grid - clipped, phi - grid)
            self.parts[:, t] += torch.stack([_square(term) for term in terms])
            self.errors[t] += by_channel(phi - a).sum(1, dtype=torch.float64)
        spikes = view.spikes().flatten(1)
        self.fired += spikes.abs().sum(1, dtype=torch.float64)
        if view.neuron.remembers:
            self.taken_back -= spikes.clamp_max(0).sum(1, dtype=torch.float64)
        self.signal += _square(a)
        self.count += a.numel()

    def result(self) -> Tensor:
        """`[7, T]`, on the device.

        Root mean squares of the four terms and the offset over that of the activation, the firing
        rate and the share of negative spikes.
        """
        places = self.count / self.errors.shape[1]
        offset = (self.errors / places).square().sum(1) * places
        signal = self.signal.where(self.signal != 0, math.inf)
        relative = (torch.stack([*self.parts, offset]) / signal).sqrt()
        negative = self.taken_back / self.fired.clamp_min(1)
        return torch.stack([*relative, self.fired / self.count, negative])


def _square(values: Tensor) -> Tensor:
    return values.double().square().sum()


def diagnose(ann: nn.Module, snn: SpikingNetwork, batches: Batches) -> Diagnosis:
    """Split the error of every layer and step into clipping, quantisation and unevenness.

    Args:
        ann: The network that was converted.
        snn: Its conversion, calibrated or not.
        batches: Samples `[B, ...]`, or tuples that begin with them.

    Returns:
        The layers from the input to the output.

    Raises:
        UserError: There is no sample, or the thresholds are not set.
    """
    reference = snn.traced(ann)
    sums = {name: _Sums(n) for name, n in snn.neurons().items()}
    like = next(iter(snn.neurons().values())).threshold
    samples = samples_of(batches, like=like)
    for batch in samples:
        for view in watch(reference, snn, batch):
            sums[view.name].add(view)
    return Diagnosis(snn.timesteps, sum(len(batch) for batch in samples), _layers(sums))


def _layers(sums: dict[str, _Sums]) -> dict[str, LayerDiagnosis]:
    layers: dict[str, LayerDiagnosis] = {}
    found = torch.stack([gathered.result() for gathered in sums.values()]).tolist()
    for (name, gathered), rows in zip(sums.items(), found, strict=True):
        total, clipping, quantisation, unevenness, offset, rate, negative = map(tuple, rows)
        inherited = max(_last(layers, gathered.sources), default=0.0)
        layers[name] = LayerDiagnosis(
            *(total, clipping, quantisation, unevenness, offset, total[-1] - inherited, rate),
            reads_samples=not gathered.sources,
            leaky=gathered.leaky,
            negative_share=negative,
        )
    return layers


def _last(layers: dict[str, LayerDiagnosis], names: Iterable[str]) -> list[float]:
    return [layers[name].total[-1] for name in names]
