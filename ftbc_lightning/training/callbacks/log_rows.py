"""What is logged: rows of curves, numbers that compare runs, histograms."""

from collections.abc import Iterator

import torch

from ftbc_lightning.analysis.network_variants import Variant
from ftbc_lightning.calibration import CalibrationTrace
from ftbc_lightning.report.measure import MEASURES
from ftbc_lightning.report.rows import Measurements
from ftbc_lightning.snn.network import SpikingNetwork
from ftbc_lightning.training.module import SpikingClassifier
from ftbc_lightning.training.result_rows import step_rows

AXES = {
    "timesteps": tuple(f"{measure.key}_by_T/*" for measure in MEASURES.values()),
    "timestep": (
        *(f"{measure.key}_by_step/*" for measure in MEASURES.values()),
        *("bias/*", "error/*", "firing_rate/*"),
    ),
    "calibration_layer": ("calibration/*",),
}
"""For each axis the curves that are drawn over it: T of a network, the steps of one, and the layers
in the order in which they were calibrated, once a round."""


def summary(module: SpikingClassifier, found: Measurements) -> dict[str, float]:
    """One number each, so that runs can be compared in a table.

    `acc/snn_ftbc/T4` is the calibration that stands for all, `gain/T4` what it adds to the
    uncalibrated network: above 0 where it is better, in points of 100 of an accuracy. Of
    regression `rmse/` stands in the place of `acc/`.
    """
    measure = module.task.measure
    key = measure.key
    numbers: dict[str, float] = {}
    for row in module.results:
        place = f"/T{row.timesteps}" if row.timesteps else ""
        numbers[f"{key}/{row.method}{place}"] = row.accuracy
        if row.method == found.method:
            numbers[f"{key}/snn_ftbc{place}"] = row.accuracy
    for name in [name for name in numbers if name.startswith(f"{key}/snn_ftbc/")]:
        place = name.rpartition("/")[2]
        base = numbers.get(f"{key}/snn_uncalibrated/{place}")
        if base is not None:
            numbers[f"gain/{place}"] = measure.drawn(measure.gain(numbers[name], base))
    for cost in found.operations:
        place = "" if cost.method in ("ann", "ann_dense") else f"/T{cost.timesteps}"
        name = "snn_ftbc" if cost.method == found.method else cost.method
        numbers[f"energy_nJ/{name}{place}"] = cost.energy_once
    return numbers


def by_calibration(
    variant: Variant, network: SpikingNetwork, outcome: CalibrationTrace
) -> Iterator[dict[str, float]]:
    """For each layer in turn, in each round, a row with the error met and the error left.

    Errors are |E[theta s[t]] - E[a]| in thresholds, averaged over steps and channels.
    """
    neurons = network.neurons()
    name = f"calibration/{variant.name}/T{variant.timesteps}"
    means = [
        torch.stack([error.before.mean(), error.after.mean()]) / neurons[layer].threshold.mean()
        for errors in outcome.by_round()
        for layer, error in errors.items()
    ]
    found = torch.stack(means).tolist() if means else []
    for place, (before, after) in enumerate(found, start=1):
        yield {"calibration_layer": place, f"{name}/before": before, f"{name}/after": after}


def by_timesteps(module: SpikingClassifier) -> Iterator[dict[str, float]]:
    """For each T a row with the ANN and every network, in the measure of the task."""
    key = module.task.measure.key
    steps = sorted({row.timesteps for row in module.results if row.timesteps})
    for number in steps:
        rows = [row for row in module.results if row.timesteps in (None, number)]
        curve = {f"{key}_by_T/{row.method}": row.accuracy for row in rows}
        yield {"timesteps": number, **curve}


def by_timestep(module: SpikingClassifier, found: Measurements) -> Iterator[dict[str, float]]:
    """For each time step a row with the measure, biases, errors and firing rates."""
    key = module.task.measure.key
    rows: dict[int, dict[str, float]] = {}
    largest = module.headline().timesteps
    ann = next(row.accuracy for row in module.results if row.method == "ann")
    for point in step_rows(module, split="val"):
        if point.timesteps == largest:
            row = rows.setdefault(point.step, {f"{key}_by_step/ann": ann})
            row[f"{key}_by_step/{point.method}"] = point.accuracy
    for bias in found.biases:
        for name, value in zip(("q05", "q25", "q50", "q75", "q95"), bias.quantiles, strict=True):
            rows[bias.step][f"bias/{bias.layer}/{name}"] = value
    for layer in found.layers:
        when = "after" if layer.method == found.shown else "before"
        rows[layer.step][f"error/{layer.layer}/{when}"] = layer.total
        if when == "after":
            rows[layer.step][f"firing_rate/{layer.layer}"] = layer.firing_rate
    for step, row in rows.items():
        yield {"timestep": step, **row}


def histograms(found: Measurements) -> dict[str, tuple[list[float], list[float]]]:
    """Shares and edges by name: `activation/<layer>`, `membrane/<layer>/t4`."""
    collected: dict[str, tuple[list[float], list[float]]] = {}
    for row in found.histograms:
        name = f"{row.kind}/{row.layer}" + (f"/t{row.step}" if row.step else "")
        shares, edges = collected.setdefault(name, ([], [row.left]))
        shares.append(row.share)
        edges.append(row.right)
    return collected
