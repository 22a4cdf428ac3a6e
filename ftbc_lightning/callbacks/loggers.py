"""Give what was measured to every logger: Weights & Biases, TensorBoard, CSV and others."""

import io
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from matplotlib.figure import Figure

from ftbc_lightning import report
from ftbc_lightning.module import SpikingClassifier
from ftbc_lightning.report.gallery import draw
from ftbc_lightning.report.rows import Measurements

AXES = {
    "timesteps": ("acc_by_T/*",),
    "timestep": ("acc_by_step/*", "bias/*", "error/*", "firing_rate/*"),
}
"""For each axis the curves that are drawn over it: T of a network, and the steps of one."""


def log(
    loggers: Sequence[Logger],
    module: SpikingClassifier,
    found: Measurements,
) -> None:
    """Log summary, curves, histograms and figures; figures are drawn only for who shows them.

    Args:
        loggers: Of the trainer.
        module: Calibrated and evaluated.
        found: What was measured.
    """
    curves = [*by_timesteps(module), *by_timestep(module, found)]
    figures: dict[str, Figure] = {}
    if any(isinstance(logger, WandbLogger | TensorBoardLogger) for logger in loggers):
        figures = draw(found)
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            _to_wandb(logger, module, found, curves, figures)
        elif isinstance(logger, TensorBoardLogger):
            _to_tensorboard(logger, module, found, curves, figures)
        else:
            for row in curves:
                # Layers have a file of their own; a row in this one stays short.
                kept = {key: value for key, value in row.items() if "/" not in key or "acc" in key}
                logger.log_metrics(kept)
            logger.log_metrics(summary(module, found))
            logger.save()


def summary(module: SpikingClassifier, found: Measurements) -> dict[str, float]:
    """One number each, so that runs can be compared in a table.

    `acc/snn_ftbc/T4` is the calibration that stands for all, `gain/T4` what it adds to the
    uncalibrated network, in points of 100.
    """
    numbers: dict[str, float] = {}
    for row in module.results:
        place = f"/T{row.timesteps}" if row.timesteps else ""
        numbers[f"acc/{row.method}{place}"] = row.accuracy
        if row.method == found.method:
            numbers[f"acc/snn_ftbc{place}"] = row.accuracy
    for key in [key for key in numbers if key.startswith("acc/snn_ftbc/")]:
        place = key.rpartition("/")[2]
        base = numbers.get(f"acc/snn_uncalibrated/{place}")
        if base is not None:
            numbers[f"gain/{place}"] = 100 * (numbers[key] - base)
    for cost in found.operations:
        place = "" if cost.method in ("ann", "ann_dense") else f"/T{cost.timesteps}"
        name = "snn_ftbc" if cost.method == found.method else cost.method
        numbers[f"energy_nJ/{name}{place}"] = cost.energy_once
    return numbers


def by_timesteps(module: SpikingClassifier) -> Iterator[dict[str, float]]:
    """For each T a row with the accuracy of the ANN and of every network."""
    steps = sorted({row.timesteps for row in module.results if row.timesteps})
    for number in steps:
        rows = [row for row in module.results if row.timesteps in (None, number)]
        curve = {f"acc_by_T/{row.method}": row.accuracy for row in rows}
        yield {"timesteps": number, **curve}


def by_timestep(module: SpikingClassifier, found: Measurements) -> Iterator[dict[str, float]]:
    """For each time step a row with accuracies, biases, errors and firing rates."""
    rows: dict[int, dict[str, float]] = {}
    largest = module.headline().timesteps
    ann = next(row.accuracy for row in module.results if row.method == "ann")
    for point in report.step_rows(module, split="val"):
        if point.timesteps == largest:
            row = rows.setdefault(point.step, {"acc_by_step/ann": ann})
            row[f"acc_by_step/{point.method}"] = point.accuracy
    for bias in found.biases:
        for name, value in zip(("q05", "q25", "q50", "q75", "q95"), bias.quantiles, strict=True):
            rows[bias.step][f"bias/{bias.layer}/{name}"] = value
    for layer in found.layers:
        when = "after" if layer.method == found.method else "before"
        rows[layer.step][f"error/{layer.layer}/{when}"] = layer.total
        if when == "after":
            rows[layer.step][f"firing_rate/{layer.layer}"] = layer.firing_rate
    for step, row in rows.items():
        yield {"timestep": step, **row}


def _to_wandb(
    logger: WandbLogger,
    module: SpikingClassifier,
    found: Measurements,
    curves: Sequence[Mapping[str, float]],
    figures: Mapping[str, Figure],
) -> None:
    import wandb
    from PIL import Image

    run = logger.experiment
    for axis, names in AXES.items():
        run.define_metric(axis, hidden=True)
        for name in names:
            run.define_metric(name, step_metric=axis, summary="none")
    for row in curves:
        run.log(dict(row))
    methods = list(dict.fromkeys(row.method for row in module.results))
    by_t = [row for row in curves if "timesteps" in row]
    chart = wandb.plot.line_series(
        xs=[row["timesteps"] for row in by_t],
        ys=[[row[f"acc_by_T/{method}"] for row in by_t] for method in methods],
        keys=methods,
        title="Accuracy by time steps T",
        xname="time steps T",
    )
    columns: list[str | int] = ["method", "T", "accuracy", "n", "seconds"]
    cells = [[r.method, r.timesteps, r.accuracy, r.n, r.seconds] for r in module.results]
    pictures = {}
    for name, figure in figures.items():
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=100)
        pictures[f"figures/{name}"] = wandb.Image(Image.open(file))
    histograms = {
        name: wandb.Histogram(np_histogram=(np.asarray(shares), np.asarray(edges)))
        for name, (shares, edges) in _histograms(found).items()
    }
    table = wandb.Table(columns=columns, data=cells)
    run.log({"acc_by_T_chart": chart, "results": table, **pictures, **histograms})
    run.summary.update(summary(module, found))


def _histograms(found: Measurements) -> dict[str, tuple[list[float], list[float]]]:
    """Shares and edges by name: `activation/<layer>`, `membrane/<layer>/t4`."""
    collected: dict[str, tuple[list[float], list[float]]] = {}
    for row in found.histograms:
        name = f"{row.kind}/{row.layer}" + (f"/t{row.step}" if row.step else "")
        shares, edges = collected.setdefault(name, ([], [row.left]))
        shares.append(row.share)
        edges.append(row.right)
    return collected


def _to_tensorboard(
    logger: TensorBoardLogger,
    module: SpikingClassifier,
    found: Measurements,
    curves: Sequence[Mapping[str, float]],
    figures: Mapping[str, Figure],
) -> None:
    writer = logger.experiment
    for row in curves:
        step = int(row.get("timestep", row.get("timesteps", 0)))
        for name, value in row.items():
            if "/" in name:
                writer.add_scalar(name, value, step)
    for name, value in summary(module, found).items():
        writer.add_scalar(f"summary/{name}", value)
    for name, figure in figures.items():
        writer.add_figure(f"figures/{name}", figure, close=False)
    writer.flush()
