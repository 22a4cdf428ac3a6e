"""From results to a table, a CSV file and figures. Reads, never computes."""

import csv
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich.table import Table

from ftbc_lightning.module import METHOD_NAMES, Result, SpikingClassifier
from ftbc_lightning.snn.inspection import Inspection

COLUMNS = [field.name for field in fields(Result)]

LABELS = {
    "ann": "ANN",
    "snn_uncalibrated": "SNN uncalibrated",
    "snn_static": "SNN + static bias",
    "snn_ftbc_iterative": "SNN + FTBC iterative",
    "snn_ftbc_exact": "SNN + FTBC exact",
}

# Okabe and Ito's colours, told apart by colour-blind readers; markers and dashes do it in grey.
STYLES: dict[str, dict[str, Any]] = {
    "ann": {"color": "black", "linestyle": "--"},
    "snn_uncalibrated": {"color": "#999999", "marker": "o", "linestyle": ":"},
    "snn_static": {"color": "#E69F00", "marker": "s", "linestyle": "-."},
    "snn_ftbc_iterative": {"color": "#0072B2", "marker": "^", "linestyle": "--"},
    "snn_ftbc_exact": {"color": "#D55E00", "marker": "D", "linestyle": "-"},
}


def write_whole(path: Path, write: Callable[[Path], object]) -> Path:
    """Write a file beside its place and rename it, so that no half of it is ever there."""
    beside = path.with_name(f".{path.name}.{os.getpid()}{path.suffix}")
    try:
        write(beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return path


def write(folder: Path, module: SpikingClassifier, *, split: str) -> list[Path]:
    """Write `results.csv` and the figures of one split into a folder; returns their paths."""
    path = folder / "results.csv"
    rows = [*(row for row in read_results(path) if row.split != split), *module.results]
    written = [write_whole(path, lambda beside: write_results(beside, rows))]
    if split == "val":
        figures = {
            "accuracy_by_step.png": accuracy_figure(module, split=split),
            "bias_curves.png": bias_figure(module),
        }
        for name, figure in figures.items():
            written.append(write_whole(folder / name, figure.savefig))
    return written


def write_results(path: Path, rows: Sequence[Result]) -> None:
    """Write rows as CSV; the ANN has an empty `timesteps`."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({**asdict(row), "seconds": round(row.seconds, 3)})


def read_results(path: Path) -> list[Result]:
    """Read what `write_results` wrote; nothing where there is no file or another one."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames != COLUMNS:
            return []
        return [
            Result(
                row["split"],
                row["method"],
                int(row["timesteps"]) if row["timesteps"] else None,
                float(row["accuracy"]),
                int(row["n"]),
                int(row["seed"]) if row["seed"] else None,
                float(row["seconds"]),
            )
            for row in reader
        ]


def table(results: Sequence[Result], *, split: str) -> Table:
    """Methods by T, accuracy in percent."""
    steps = sorted({row.timesteps for row in results if row.timesteps is not None})
    names = {"val": "validation", "test": "test"}
    shown = Table(title=f"Accuracy in % on {results[0].n} {names.get(split, split)} pictures")
    shown.add_column("", no_wrap=True)
    for number in steps:
        shown.add_column(f"T={number}", justify="right")
    for method, label in LABELS.items():
        rows = {row.timesteps: row.accuracy for row in results if row.method == method}
        cells = [rows.get(number, rows.get(None)) for number in steps]
        if rows:
            shown.add_row(label, *("" if c is None else f"{100 * c:.2f}" for c in cells))
    return shown


def inspection_table(found: Inspection) -> Table:
    """The pre-flight report on a network, a row for each node."""
    shown = Table(title=f"What {found.network} becomes")
    for name in ("node", "type", "becomes"):
        shown.add_column(name, overflow="fold")
    for row in found.rows:
        becomes = row.becomes or f"NOT CONVERTED: {row.way_out}"
        threshold = f", threshold per {row.threshold}" if row.threshold else ""
        shared = f" (module used {row.calls} times)" if row.calls > 1 else ""
        shown.add_row(row.node, row.kind, f"{becomes}{threshold}{shared}")
    return shown


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def accuracy_figure(module: SpikingClassifier, *, split: str) -> Figure:
    """Left: accuracy by T, each T converted for itself. Right: after each step of the largest."""
    figure = _figure(10, 4.2)
    left, right = figure.subplots(1, 2, sharey=True)
    ann = next(row.accuracy for row in module.results if row.method == "ann")
    largest = max(variant.timesteps for variant in module.variants.values())
    for axes in (left, right):
        axes.axhline(100 * ann, label=f"ANN {100 * ann:.1f} %", **STYLES["ann"])
        axes.grid(alpha=0.3)
    for method, name in METHOD_NAMES.items():
        rows = [row for row in module.results if row.method == name and row.timesteps]
        if not rows:
            continue
        style = {"label": LABELS[name], "markersize": 4, **STYLES[name]}
        left.plot([r.timesteps for r in rows], [100 * r.accuracy for r in rows], **style)
        for variant in module.variants.values():
            if variant.method == method and variant.timesteps == largest:
                curve = [100 * share for share in module.step_curves[variant.key]]
                right.plot(range(1, largest + 1), curve, **style)
    steps = sorted({row.timesteps for row in module.results if row.timesteps})
    left.set_xscale("log", base=2)
    left.set_xticks(steps, [str(number) for number in steps])
    left.set(xlabel="time steps T", ylabel=f"accuracy in % ({split}, n = {module.results[0].n})")
    left.set_title("converted for each T", fontsize=10)
    right.set(xlabel="time step")
    right.set_title(f"after each step of the networks for T = {largest}", fontsize=10)
    left.legend(fontsize=8, loc="lower right")
    return figure


def bias_figure(module: SpikingClassifier) -> Figure:
    """The temporal bias of each layer over the steps, as quantile bands over channels."""
    variant = module.headline()
    neurons = module.network(variant).neurons()
    columns = min(4, len(neurons))
    rows = -(-len(neurons) // columns)
    figure = _figure(3 * columns + 0.5, 2.2 * rows + 0.6)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True)
    for axes in grid.flat[len(neurons) :]:
        axes.set_visible(False)
    for axes, (name, neuron) in zip(grid.flat, neurons.items(), strict=False):
        relative = (neuron.temporal_bias / neuron.threshold).float().cpu()
        steps = range(1, variant.timesteps + 1)
        low, first, middle, third, high = (
            relative.quantile(q, dim=1).tolist() for q in (0.05, 0.25, 0.5, 0.75, 0.95)
        )
        color = STYLES["snn_ftbc_exact"]["color"]
        axes.fill_between(steps, low, high, color=color, alpha=0.2, label="5 to 95 %")
        axes.fill_between(steps, first, third, color=color, alpha=0.4, label="25 to 75 %")
        axes.plot(steps, middle, color=color, label="median")
        axes.axhline(0, color="black", linewidth=0.6)
        axes.set_title(name, fontsize=8)
        axes.tick_params(labelsize=7)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    grid.flat[0].legend(fontsize=6)
    figure.supxlabel("time step", fontsize=9)
    figure.supylabel("bias / threshold", fontsize=9)
    label = LABELS[METHOD_NAMES[variant.method]]
    figure.suptitle(f"{label}, T = {variant.timesteps}: bias over channels", fontsize=10)
    return figure
