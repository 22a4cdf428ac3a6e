"""Tables for the terminal."""

from collections.abc import Sequence

from rich.table import Table

from ftbc_lightning.module import Result
from ftbc_lightning.report.style import LABELS
from ftbc_lightning.snn.early_exit import ExitPoint
from ftbc_lightning.snn.inspection import Inspection


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


def exit_table(curve: Sequence[ExitPoint], chosen: ExitPoint) -> Table:
    """Accuracy against mean steps by the confidence at which pictures stop."""
    shown = Table(title="Stopping early, on the calibration pictures")
    for name in ("confidence", "mean steps", "accuracy in %", ""):
        shown.add_column(name, justify="right")
    for point in curve:
        last = "all steps" if point is curve[-1] else ""
        mark = "chosen" if point is chosen else last
        row = (f"{point.confidence:.2f}", f"{point.mean_steps:.2f}", f"{100 * point.accuracy:.2f}")
        shown.add_row(*row, mark)
    return shown
