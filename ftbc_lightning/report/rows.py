"""What a run leaves to be drawn: rows of plain values, each kind in a CSV file of its own."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

PLAIN = "if"
"""The neuron of rows that say nothing else."""


@dataclass(frozen=True)
class Result:
    """One row of `results.csv`; `timesteps` is None for the ANN.

    Attributes:
        split: The samples it was measured on.
        method: Its name in results.
        timesteps: T.
        accuracy: The figure that `measure` names: an accuracy from 0 to 1, or an error.
        n: How many samples.
        seed: Of the calibration draw.
        seconds: What thresholds, calibration and a training after it took; of a network that
            serves every T, the same for each.
        neuron: Which neurons the network has; "if", the paper's, also for the ANN.
        labels: How many labelled samples a training after the calibration has used.
        measure: What `accuracy` holds, by its name in `ftbc_lightning.report.measure`.
    """

    split: str
    method: str
    timesteps: int | None
    accuracy: float
    n: int
    seed: int | None
    seconds: float | None
    neuron: str = PLAIN
    labels: int = 0
    measure: str = "accuracy"


@dataclass(frozen=True)
class StepRow:
    """One network after one of its steps (`steps.csv`), in the measure of `results.csv`."""

    split: str
    method: str
    timesteps: int
    step: int
    accuracy: float


@dataclass(frozen=True)
class LayerRow:
    """One layer after one step (`layers.csv`); errors are shares of the activation's RMS.

    `firing_rate` counts spikes of either sign, `negative_share` is the negative ones among them.
    """

    method: str
    timesteps: int
    layer: str
    step: int
    total: float
    clipping: float
    quantisation: float
    unevenness: float
    offset: float
    firing_rate: float
    added: float
    cause: str
    negative_share: float = 0.0


@dataclass(frozen=True)
class HistogramRow:
    """One bin, in units of theta (`histograms.csv`); `step` is 0 for the ANN's activation."""

    layer: str
    kind: str
    step: int
    left: float
    right: float
    share: float


@dataclass(frozen=True)
class OperationRow:
    """What a sample costs (`operations.csv`); synaptic operations, biases apart.

    `accuracy` is in the measure of the results. `method` is theirs, or `ann`, `ann_dense`,
    `ann_quantized`. Energy in nJ by the cost table; `_once` and `_every_step` say how often the
    analog first layer is computed. The columns behind `table` are those of neurons with a sign,
    several levels or a leak, and of functions that do not spike: their multiplications, which are
    part of the energy, and their evaluations.
    """

    method: str
    timesteps: int
    accuracy: float
    macs_once: float
    macs_every_step: float
    acs: float
    dense_once: float
    bias_adds: float
    shortcut_adds: float
    activation_sparsity: float
    energy_once: float
    energy_every_step: float
    table: str
    firing_rate: float = 0.0
    negative_share: float = 0.0
    spike_bits: int = 0
    spike_products: float = 0.0
    leak_products: float = 0.0
    comparisons: float = 0.0
    counter_adds: float = 0.0
    energy_neurons: float = 0.0
    function_products: float = 0.0
    function_values: float = 0.0


@dataclass(frozen=True)
class BiasRow:
    """Quantiles over channels of bias / theta at one step (drawn, never stored)."""

    layer: str
    step: int
    quantiles: tuple[float, ...]
    channels: tuple[float, ...]


@dataclass
class Measurements:
    """What a run leaves to be drawn besides its results.

    Attributes:
        method: The calibration that stands for all.
        shown: The calibration whose layers are shown: the recommended one, unless that is none.
        timesteps: T of the networks whose layers are shown: the recommended one.
        biases: Of the calibration that stands for all, at its largest T.
        layers: Uncalibrated and calibrated.
        histograms: Of the calibrated network.
        operations: Of the ANN and of each T.
        measure: What networks are compared by.
    """

    method: str
    shown: str
    timesteps: int
    biases: list[BiasRow] = field(default_factory=list)
    layers: list[LayerRow] = field(default_factory=list)
    histograms: list[HistogramRow] = field(default_factory=list)
    operations: list[OperationRow] = field(default_factory=list)
    measure: str = "accuracy"

    def of(self, *, calibrated: bool) -> list[LayerRow]:
        """The layers of one of the two networks."""
        return [row for row in self.layers if (row.method == self.shown) == calibrated]


QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def bias_rows(relative: Mapping[str, Tensor]) -> list[BiasRow]:
    """Quantiles over channels of each layer's bias.

    Args:
        relative: By layer bias / theta, `[T, C]`.
    """
    rows = []
    for name, values in relative.items():
        quantiles = values.float().cpu().quantile(torch.tensor(QUANTILES), dim=1).T.tolist()
        for step, (five, channels) in enumerate(zip(quantiles, values.tolist(), strict=True), 1):
            rows.append(BiasRow(name, step, tuple(five), tuple(channels)))
    return rows
