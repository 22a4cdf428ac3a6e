"""What an evaluated module says of its networks, as rows, and the files of a run."""

from functools import partial
from pathlib import Path

from torch import Tensor

from ftbc_lightning.analysis.network_variants import Variant
from ftbc_lightning.errors import UserError
from ftbc_lightning.files.csv_rows import Row, read_rows, write_rows
from ftbc_lightning.files.whole_file import write_whole
from ftbc_lightning.report.figures import bias_figure, steps_figure
from ftbc_lightning.report.rows import Result, StepRow, bias_rows
from ftbc_lightning.report.style import label_of, save_png
from ftbc_lightning.training.module import SpikingClassifier


def write_results(folder: Path, module: SpikingClassifier, *, split: str, new: bool) -> list[Path]:
    """Write `results.csv`, `steps.csv` and the figures of one split; returns their paths.

    Args:
        folder: Of the run.
        module: Evaluated on the split.
        split: "val" or "test".
        new: Whether the networks are new; rows of another split are then those of earlier ones,
            and go.
    """
    path, steps_path = folder / "results.csv", folder / "steps.csv"
    rows = [*([] if new else _others(path, Result, split)), *module.results]
    steps = [] if new else _others(steps_path, StepRow, split)
    steps += step_rows(module, split=split)
    written = [write_rows(path, rows), write_rows(steps_path, steps)]
    if split == "val":
        best = module.headline()
        title = f"{label_of(best.name)}, T = {best.timesteps}: bias over channels"
        biases = bias_rows(relative_biases(module, best))
        figures = {
            f"{module.task.measure.name}_by_step.png": steps_figure(rows, steps, split=split),
            "bias_curves.png": bias_figure(biases, title=title),
        }
        for name, figure in figures.items():
            written.append(write_whole(folder / name, partial(save_png, figure)))
    return written


def _others(path: Path, kind: type[Row], split: str) -> list[Row]:
    """What the file holds of other splits; a file that is no such file is written anew."""
    try:
        return [row for row in read_rows(path, kind) if row.split != split]  # type: ignore[attr-defined]
    except UserError:
        return []


def step_rows(module: SpikingClassifier, *, split: str) -> list[StepRow]:
    """Every network after each of its steps."""
    return [
        StepRow(split, variant.name, variant.timesteps, step, value)
        for key, variant in module.variants.items()
        for step, value in enumerate(module.step_curves[key], start=1)
    ]


def relative_biases(module: SpikingClassifier, variant: Variant) -> dict[str, Tensor]:
    """The temporal bias of each layer in units of theta, `[T, C]`."""
    neurons = module.network(variant).neurons()
    return {name: neuron.temporal_bias / neuron.threshold for name, neuron in neurons.items()}
