"""What `ftbc predict` writes of networks that return real numbers: a row for each sample."""

import csv
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from ftbc_lightning.report.measure import RMSE


def write_values(path: Path, predictions: dict[str, Tensor], names: Sequence[str]) -> None:
    """Write the CSV file.

    Columns: `file`, `value` (after the last step), `target` where it is known, `steps`, and
    `value_1` to `value_T`, the value after each step. Several outputs have a column each:
    `value[0]`, `value[1]`, `target[0]`, `value_1[0]` and so on.

    Args:
        path: The file.
        predictions: `value` `[T, N, outputs]`, `steps` `[N]`, and `target` where it is known.
        names: The sample of each.
    """
    values, steps = predictions["value"], predictions["steps"]
    targets = _targets(predictions)
    count = values.shape[-1]

    def columns(name: str) -> list[str]:
        return [name] if count == 1 else [f"{name}[{output}]" for output in range(count)]

    header = ["file", *columns("value"), *(columns("target") if targets is not None else [])]
    header += ["steps", *(name for t in range(len(values)) for name in columns(f"value_{t + 1}"))]
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for n, sample in enumerate(names):
            known = [] if targets is None else _texts(targets[n])
            by_step = _texts(values[:, n].flatten())
            writer.writerow([sample, *_texts(values[-1, n]), *known, int(steps[n]), *by_step])


def value_summary(predictions: dict[str, Tensor]) -> str:
    """One line: samples, steps, and the root mean squared error where targets are known."""
    values, targets = predictions["value"], _targets(predictions)
    text = f"{values.shape[1]} samples, {len(values)} steps"
    if targets is None:
        return text
    error = float((values[-1].double() - targets).square().mean().sqrt())
    return f"{text}, {RMSE.label} {RMSE.said(error)}"


def _targets(predictions: dict[str, Tensor]) -> Tensor | None:
    """The targets, `[N, outputs]`."""
    found = predictions.get("target")
    return None if found is None else found.reshape(predictions["value"].shape[1:])


def _texts(values: Tensor) -> list[str]:
    return [f"{value:.6g}" for value in values.tolist()]
