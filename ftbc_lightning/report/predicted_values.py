"""What `ftbc predict` writes of networks that give no single class: a row for each sample."""

import csv
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor
from torchmetrics.functional import mean_absolute_error, mean_squared_error, r2_score

from ftbc_lightning.report.measure import RMSE


def write_values(
    path: Path,
    predictions: dict[str, Tensor],
    names: Sequence[str],
    *,
    what: str = "value",
    outputs: Sequence[str] | None = None,
) -> None:
    """Write the CSV file.

    Columns: `file`, `value` (after the last step), `target` where it is known, `steps`, and
    `value_1` to `value_T`, the value after each step. Several outputs have a column each:
    `value[0]`, `value[1]`, `target[0]`, `value_1[0]` and so on, or the outputs' names in brackets.

    Args:
        path: The file.
        predictions: `value` `[T, N, outputs]`, `steps` `[N]`, and `target` where it is known.
        names: The sample of each.
        what: What is predicted, in the place of `value`.
        outputs: The name of each output; numbers from 0 if None.
    """
    values, steps = predictions[what], predictions["steps"]
    targets = _targets(predictions, values)
    called = range(values.shape[-1]) if outputs is None else outputs

    def columns(name: str) -> list[str]:
        return [name] if len(called) == 1 else [f"{name}[{output}]" for output in called]

    header = ["file", *columns(what), *(columns("target") if targets is not None else [])]
    header += ["steps", *(name for t in range(len(values)) for name in columns(f"{what}_{t + 1}"))]
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for n, sample in enumerate(names):
            known = [] if targets is None else _texts(targets[n])
            by_step = _texts(values[:, n].flatten())
            writer.writerow([sample, *_texts(values[-1, n]), *known, int(steps[n]), *by_step])


def value_summary(predictions: dict[str, Tensor]) -> str:
    """One line: samples, steps, and how near the values are where targets are known.

    RMSE, the mean absolute error (MAE), and the share of the variance that is explained,
    R2 = 1 - sum (value - target)^2 / sum (target - mean)^2, the mean over the outputs.
    """
    values = predictions["value"]
    targets = _targets(predictions, values)
    text = f"{values.shape[1]} samples, {len(values)} steps"
    if targets is None:
        return text
    found, wanted = values[-1].double(), targets.double()
    errors = {"RMSE": mean_squared_error(found, wanted, squared=False)}
    errors["MAE"] = mean_absolute_error(found, wanted)
    if len(wanted) > 1:
        errors["R2"] = r2_score(found, wanted)
    said = (f"{name} {RMSE.said(float(error))}" for name, error in errors.items())
    return ", ".join([text, *said])


def _targets(predictions: dict[str, Tensor], values: Tensor) -> Tensor | None:
    """The targets, `[N, outputs]`, of values `[T, N, outputs]`."""
    found = predictions.get("target")
    return None if found is None else found.reshape(values.shape[1:])


def _texts(values: Tensor) -> list[str]:
    return [f"{value:.6g}" for value in values.tolist()]
