"""What `ftbc predict` writes of a class for each place: a row for each sample, or the maps."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy
from torch import Tensor
from torchmetrics.functional.classification import multiclass_jaccard_index

from ftbc_lightning.data.dense_classification import IGNORED
from ftbc_lightning.report.measure import MIOU


def write_maps(
    path: Path, predictions: dict[str, Tensor], names: Sequence[str], classes: Sequence[str] | None
) -> None:
    """Write a CSV file, or the maps where the name of the file ends in `.npz`.

    Columns: `file`, `confidence` (after the last step), `steps`, `share[CLASS]` for each class (of
    the places, after the last step), `right` (the share of the labelled places that are classified
    rightly) where the labels are known, and `confidence_1` to `confidence_T`. A confidence is the
    largest softmax probability, averaged over places.

    Arrays of the archive: `sample` (as in `file`, `[N]`), `label` (the class of each place after
    the last step, uint8 `[N, H, W]`), `classes` (their names, or numbers).

    Args:
        path: The file.
        predictions: `label` `[1, N, H, W]`, `share` `[1, N, classes]`, `confidence` `[T, N]`,
            `steps` `[N]`, and `target` `[N, H, W]` where it is known.
        names: The sample of each.
        classes: Names of the classes; numbers if None.
    """
    count = predictions["share"].shape[-1]
    called = [str(number) for number in range(count)] if classes is None else list(classes)
    if path.suffix == ".npz":
        label = predictions["label"][-1].numpy()
        numpy.savez_compressed(path, sample=list(names), label=label, classes=called)
    else:
        _write_rows(path, predictions, names, called)


def _write_rows(
    path: Path, predictions: dict[str, Tensor], names: Sequence[str], classes: Sequence[str]
) -> None:
    confidence, share = predictions["confidence"], predictions["share"][-1]
    right = _right(predictions)
    header = ["file", "confidence", "steps", *(f"share[{name}]" for name in classes)]
    header += ["right"] if right is not None else []
    header += [f"confidence_{t + 1}" for t in range(len(confidence))]
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for n, sample in enumerate(names):
            by_step = _texts(confidence[:, n])
            known = [] if right is None else _texts(right[n : n + 1])
            steps = int(predictions["steps"][n])
            writer.writerow([sample, by_step[-1], steps, *_texts(share[n]), *known, *by_step])


def map_summary(predictions: dict[str, Tensor]) -> str:
    """One line: samples, steps, and where labels are known how good the maps are."""
    confidence = predictions["confidence"]
    text = f"{confidence.shape[1]} samples, {len(confidence)} steps"
    if "target" not in predictions:
        return text
    found, wanted = predictions["label"][-1].long(), predictions["target"].long()
    reached = multiclass_jaccard_index(
        found, wanted, num_classes=IGNORED + 1, ignore_index=IGNORED, validate_args=False
    )
    hits, judged = _counts(predictions)
    right = hits.sum() / judged.sum()
    return (
        f"{text}, {MIOU.label} {MIOU.exactly(float(reached))}, "
        f"{100 * right:.2f} % of the places classified rightly"
    )


def _right(predictions: dict[str, Tensor]) -> Tensor | None:
    """The share of the labelled places of each sample that are right; NaN without any."""
    if "target" not in predictions:
        return None
    hits, judged = _counts(predictions)
    return hits / judged


def _counts(predictions: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """How many places of each sample are right, and how many are labelled, each `[N]`."""
    wanted = predictions["target"].long()
    judged = wanted != IGNORED
    hits = judged & (predictions["label"][-1].long() == wanted)
    return hits.sum((1, 2)), judged.sum((1, 2))


def _texts(values: Tensor) -> list[str]:
    return [f"{value:.4f}" for value in values.tolist()]
