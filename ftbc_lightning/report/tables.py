"""Tables for the terminal."""

from collections.abc import Sequence

from rich.table import Table

from ftbc_lightning.analysis.diagnosis import Diagnosis
from ftbc_lightning.analysis.inspection import Inspection
from ftbc_lightning.report.measure import measure_of
from ftbc_lightning.report.rows import PLAIN, Result
from ftbc_lightning.report.style import label_of, stages_of
from ftbc_lightning.snn.early_exit import ExitPoint

DIAGNOSIS_CAPTION = (
    "errors in % of the activation (root mean squares), before and after calibration; then parts: "
    "clipping, quantisation grid, unevenness, of which offset (they can cancel, so they do not add "
    "up); adds: beyond what reached the layer, by which the layers are ranked"
)


def table(results: Sequence[Result], *, split: str) -> Table:
    """Methods by T, in the measure of the results."""
    steps = sorted({row.timesteps for row in results if row.timesteps is not None})
    names = {"val": "validation", "test": "test"}
    others = dict.fromkeys(row.neuron for row in results if row.neuron != PLAIN)
    neuron = "".join(f"\nneuron: {name}" for name in others)
    measure = measure_of(results)
    title = f"{measure.title} on {results[0].n} {names.get(split, split)} samples{neuron}"
    shown = Table(title=title, caption=training_note(results) or None)
    shown.add_column("", no_wrap=True)
    for number in steps:
        shown.add_column(f"T={number}", justify="right")
    for method in dict.fromkeys(row.method for row in results):
        rows = {row.timesteps: row.accuracy for row in results if row.method == method}
        cells = [rows.get(number, rows.get(None)) for number in steps]
        shown.add_row(label_of(method), *("" if c is None else measure.cell(c) for c in cells))
    return shown


def training_note(results: Sequence[Result]) -> str:
    """What fine-tuned networks have used beside the calibration, or nothing.

    >>> tuned = Result("val", "snn_ftbc_exact_finetuned", 4, 0.9, 100, 0, 61.2, labels=500)
    >>> training_note([tuned])
    'fine-tuned: trained by back-propagation after the calibration, T = 4 in 61 seconds, 500 labels'
    """
    tuned = {
        (row.method, row.timesteps): row
        for row in results
        if any(stage.kind == "training" for stage in stages_of(row.method))
    }
    if not tuned:
        return ""
    several = len({method for method, _ in tuned}) > 1
    used = "; ".join(
        f"{f'{label_of(method)}, ' * several}T = {steps} in {row.seconds:.0f} seconds, "
        f"{row.labels or 'no'} labels"
        for (method, steps), row in tuned.items()
    )
    return f"fine-tuned: trained by back-propagation after the calibration, {used}"


def diagnosis_table(before: Diagnosis, after: Diagnosis, *, title: str) -> Table:
    """Layers from the input on: error before and after, its parts, and its rank."""
    worst = after.worst()
    shown = Table(title=title, caption=DIAGNOSIS_CAPTION)
    shown.add_column("layer", overflow="fold")
    for name in ("before", "after", "clip", "grid", "uneven", "offset", "adds", "rank"):
        shown.add_column(name, justify="right", no_wrap=True)
    for name, layer in after.layers.items():
        errors = (
            *(before.layers[name].total, layer.total, layer.clipping, layer.quantisation),
            *(layer.unevenness, layer.offset),
        )
        cells = [f"{100 * error[-1]:.1f}" for error in errors]
        rank = worst.index(name) + 1
        style = "bold" if rank == 1 else None
        shown.add_row(name, *cells, f"{100 * layer.added:+.1f}", str(rank), style=style)
    return shown


def inspection_table(found: Inspection) -> Table:
    """The pre-flight report on a network, a row for each node."""
    shown = Table(title=f"What {found.network} becomes")
    for name in ("node", "type", "becomes"):
        shown.add_column(name, overflow="fold")
    for row in found.rows:
        becomes = row.becomes or f"NOT CONVERTED: {row.way_out}"
        threshold = f", threshold per {row.threshold}; spikes: {row.spikes}" if row.spikes else ""
        shared = f" (module used {row.calls} times)" if row.calls > 1 else ""
        shown.add_row(row.node, row.kind, f"{becomes}{threshold}{shared}")
    return shown


def exit_table(curve: Sequence[ExitPoint], chosen: ExitPoint) -> Table:
    """Accuracy against mean steps by the confidence at which samples stop."""
    shown = Table(title="Stopping early, on the calibration samples")
    for name in ("confidence", "mean steps", "accuracy in %", ""):
        shown.add_column(name, justify="right")
    for point in curve:
        last = "all steps" if point is curve[-1] else ""
        mark = "chosen" if point is chosen else last
        row = (f"{point.confidence:.2f}", f"{point.mean_steps:.2f}", f"{100 * point.accuracy:.2f}")
        shown.add_row(*row, mark)
    return shown
