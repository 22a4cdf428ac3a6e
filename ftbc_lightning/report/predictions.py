"""What `ftbc predict` writes: a row for each sample."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from ftbc_lightning.snn.early_exit import stable_step


def names_of(dataset: Dataset[Any], count: int) -> list[str]:
    """The file of each sample, or its number where it comes from no file of its own."""
    if isinstance(dataset, Subset):
        inside = names_of(dataset.dataset, max(dataset.indices, default=-1) + 1)
        return [inside[index] for index in dataset.indices]
    samples = getattr(dataset, "samples", None)
    return [path for path, _ in samples] if samples else [str(n) for n in range(count)]


def join(batches: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The predictions of all batches: `steps` and `target` `[N, ...]`, the others `[T, N, ...]`."""
    axis = {key: 0 if key in ("steps", "target") else 1 for key in batches[0]}
    return {key: torch.cat([b[key].cpu() for b in batches], dim=at) for key, at in axis.items()}


def write_predictions(
    path: Path, predictions: dict[str, Tensor], names: Sequence[str], classes: Sequence[str] | None
) -> None:
    """Write the CSV file.

    Columns: `file`, `class`, `confidence` (at the last step that was run), `stable_from` (the step,
    from 1, from which on the class did not change), `steps` (how many were run), `true_class` where
    it is known, and `confidence_1` to `confidence_T`, empty after the last step that was run.

    Args:
        path: The file.
        predictions: From `join`.
        names: The sample of each.
        classes: Names of the classes; numbers if None.
    """
    labels, confidence, steps = (predictions[key] for key in ("label", "confidence", "steps"))
    stable = stable_step(labels) + 1
    known = "target" in predictions

    def name(label: Tensor) -> str:
        return str(int(label)) if classes is None else classes[int(label)]

    header = ["file", "class", "confidence", "stable_from", "steps"]
    header += ["true_class"] if known else []
    header += [f"confidence_{t + 1}" for t in range(len(labels))]
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for n, sample in enumerate(names):
            run = int(steps[n])
            row = [sample, name(labels[-1, n]), f"{confidence[run - 1, n]:.4f}"]
            row += [str(int(stable[n])), str(run)]
            row += [name(predictions["target"][n])] if known else []
            row += [f"{value:.4f}" for value in confidence[:run, n].tolist()]
            writer.writerow([*row, *[""] * (len(labels) - run)])


def summary(predictions: dict[str, Tensor]) -> str:
    """One line: samples, steps, and accuracy where the classes are known."""
    labels, steps = predictions["label"], predictions["steps"]
    text = f"{len(steps)} samples, {steps.double().mean():.2f} of {len(labels)} steps on average"
    if "target" not in predictions:
        return text
    right = (labels[-1] == predictions["target"]).double().mean()
    return f"{text}, {100 * right:.2f} % classified rightly"
