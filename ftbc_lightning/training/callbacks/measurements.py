"""Measure the networks of a run on a few samples: layers, histograms, operations."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from ftbc_lightning.analysis.diagnosis import Diagnosis, diagnose
from ftbc_lightning.analysis.energy import COST_TABLES, DEFAULT_TABLE, energy, quantized_energy
from ftbc_lightning.analysis.network_variants import Variant, headline
from ftbc_lightning.analysis.observation import watch
from ftbc_lightning.analysis.operation_counts import count_ann_operations, count_operations
from ftbc_lightning.analysis.quantized_ann import levels_of
from ftbc_lightning.analysis.sample_cost import OperationCount
from ftbc_lightning.report.rows import (
    HistogramRow,
    LayerRow,
    Measurements,
    OperationRow,
    Result,
    bias_rows,
)
from ftbc_lightning.report.verdict import recommend
from ftbc_lightning.snn.network import SpikingNetwork
from ftbc_lightning.training.module import SpikingClassifier
from ftbc_lightning.training.result_rows import relative_biases

BINS = 40
ACTIVATION_RANGE, MEMBRANE_RANGE = (0.0, 2.0), (-1.0, 2.0)


@dataclass
class QuantizedANN:
    """An ANN whose activations are rounded to the levels of a spiking network.

    Attributes:
        method: `ann_quantized`, or `ann_quantized_weights` with weights that make up for it.
        graph: The traced ANN.
        network: Has thresholds, T and K.
        accuracy: On the validation split, in the measure of the task.
    """

    method: str
    graph: fx.GraphModule
    network: SpikingNetwork
    accuracy: float = 0.0


def measure(
    module: SpikingClassifier,
    graph: fx.GraphModule,
    images: Tensor,
    quantized: Sequence[QuantizedANN],
) -> Measurements:
    """Measure the uncalibrated networks and the calibrated ones that are shown.

    Args:
        module: Calibrated and evaluated.
        graph: Its traced ANN.
        images: A few samples.
        quantized: Its quantised forms, with their accuracies.
    """
    best = module.headline()
    shown = shown_variant(module.results, module.every_variant())
    found = Measurements(best.name, shown.name, shown.timesteps)
    found.measure = module.task.measure.name
    found.biases = bias_rows(relative_biases(module, best))
    for variant in pair(module, shown):
        network = module.network(variant)
        diagnosis = diagnose(graph, network, [images])
        found.layers += layer_rows(diagnosis, variant.name)
    found.histograms = _histograms(graph, module.network(shown), images)
    methods = {"none", best.method, shown.method}
    methods |= {v.method for v in module.every_variant() if v.stages.weights == "weights"}
    found.operations = _operations(module, graph, methods, images, quantized)
    return found


def shown_variant(results: Sequence[Result], variants: Iterable[Variant]) -> Variant:
    """The one whose layers are shown: the recommended one, calibrated at that T in any case."""
    wanted = recommend(results).chosen
    at = [variant for variant in variants if wanted.timesteps == variant.timesteps]
    calibrated = [variant for variant in at if variant.method != "none"]
    named = [variant for variant in calibrated if variant.name == wanted.method]
    return named[0] if named else headline(calibrated or at)


def pair(module: SpikingClassifier, variant: Variant) -> list[Variant]:
    """The uncalibrated network of the same T, if the file has it, and the variant."""
    return [
        other
        for other in module.every_variant()
        if other.timesteps == variant.timesteps and other.method in ("none", variant.method)
    ]


def layer_rows(diagnosis: Diagnosis, method: str) -> list[LayerRow]:
    """A diagnosis as rows, one for each layer and step."""
    return [
        LayerRow(
            method,
            diagnosis.timesteps,
            name,
            step + 1,
            layer.total[step],
            layer.clipping[step],
            layer.quantisation[step],
            layer.unevenness[step],
            layer.offset[step],
            layer.firing_rate[step],
            layer.added,
            layer.cause,
            layer.negative_share[step],
        )
        for name, layer in diagnosis.layers.items()
        for step in range(diagnosis.timesteps)
    ]


def _histograms(
    graph: fx.GraphModule, network: SpikingNetwork, images: Tensor
) -> list[HistogramRow]:
    """Activations that are not 0 and membranes, in units of theta; end bins hold all beyond."""
    last = network.timesteps
    steps = sorted({1, (last + 1) // 2, last})
    counts: dict[tuple[str, str, int], Tensor] = {}
    for view in watch(graph, network, images):
        theta = view.neuron.threshold.view(-1, *(1,) * (view.activations.ndim - 2))
        relative = view.activations / theta
        found = {("activation", 0): (relative[relative > 0], ACTIVATION_RANGE)}
        membranes = view.membranes()
        found |= {("membrane", t): (membranes[t - 1], MEMBRANE_RANGE) for t in steps}
        for (kind, step), (values, (low, high)) in found.items():
            counted = torch.histc(values.float().clamp(low, high), BINS, low, high).double()
            key = view.name, kind, step
            counts[key] = counts.get(key, torch.zeros_like(counted)) + counted
    rows = []
    everything = torch.stack(list(counts.values())).cpu()
    for (layer, kind, step), counted in zip(counts, everything, strict=True):
        low, high = ACTIVATION_RANGE if kind == "activation" else MEMBRANE_RANGE
        width = (high - low) / BINS
        for place, share in enumerate((counted / counted.sum().clamp_min(1)).tolist()):
            left = low + place * width
            rows.append(HistogramRow(layer, kind, step, left, left + width, share))
    return rows


def _operations(
    module: SpikingClassifier,
    graph: fx.GraphModule,
    methods: Collection[str],
    images: Tensor,
    quantized: Sequence[QuantizedANN],
) -> list[OperationRow]:
    table = COST_TABLES[DEFAULT_TABLE]
    accuracy = {(row.method, row.timesteps): row.accuracy for row in module.results}
    some = module.network(next(iter(module.every_variant())))
    ann = count_ann_operations(graph, some, images)
    of_ann, dense = accuracy["ann", None], ann.dense() + ann.function_products()
    rows = [
        _row("ann", 1, of_ann, ann, energy(ann, table).products),
        _row("ann_dense", 1, of_ann, ann, dense * table.mac / 1000),
    ]
    for one in quantized:
        steps = one.network.timesteps
        count = count_ann_operations(one.graph, one.network, images, quantized=True)
        joules = quantized_energy(count, table, timesteps=steps, levels=levels_of(one.network))
        rows.append(_row(one.method, steps, one.accuracy, count, joules.products))
    for variant in module.every_variant():
        if variant.method in methods:
            count = count_operations(module.network(variant), images)
            method = variant.name
            reached = accuracy[method, variant.timesteps]
            rows.append(_row(method, variant.timesteps, reached, count))
    return rows


def _row(
    method: str,
    timesteps: int,
    accuracy: float,
    count: OperationCount,
    joules: float | None = None,
) -> OperationRow:
    table = COST_TABLES[DEFAULT_TABLE]
    every = energy(count, table, first_layer="every_step").products
    once = energy(count, table).products
    return OperationRow(
        method,
        timesteps,
        accuracy,
        count.macs("once"),
        count.macs("every_step"),
        count.acs(),
        count.dense(),
        count.bias_adds(),
        sum(count.shortcut_adds),
        count.activation_sparsity,
        once if joules is None else joules,
        every if joules is None else joules,
        table.name,
        count.firing_rate,
        count.negative_share,
        count.spike_bits,
        count.spike_products(),
        count.updates.products,
        count.updates.comparisons,
        count.updates.counter_adds,
        energy(count, table).neurons,
        count.function_products(),
        count.function_values(),
    )
