"""Read the folder of a finished run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftbc_lightning.analysis.network_variants import Variant, headline, saved_networks
from ftbc_lightning.errors import UserError
from ftbc_lightning.files.checkpoint import read_checkpoint
from ftbc_lightning.files.csv_rows import read_rows
from ftbc_lightning.files.run_configuration import read_configuration, run_configuration
from ftbc_lightning.report.measure import measure_of
from ftbc_lightning.report.rows import (
    BiasRow,
    HistogramRow,
    LayerRow,
    Measurements,
    OperationRow,
    Result,
    StepRow,
    bias_rows,
)

CURVES = "curves"
"""The folder of what is measured layer by layer, inside a run's folder."""

LOGS = "logs"
"""The folder of the plain logger, inside a run's folder; a folder in it for each command."""


@dataclass(frozen=True)
class FinishedRun:
    """What a run left.

    Attributes:
        folder: Where.
        results: Of all splits.
        steps: The measure after each step.
        measured: Layers, biases, operations; empty where the files are missing.
        config: The configuration, or nothing where there is none.
        config_file: Its path.
        variants: The networks of `snn.ckpt`, one for each T that has a result.
        reads_images: Whether an input has the shape of an image, as far as the file tells.
    """

    folder: Path
    results: list[Result]
    steps: list[StepRow]
    measured: Measurements
    config: dict[str, Any]
    config_file: Path | None
    variants: list[Variant]
    reads_images: bool

    def split(self, name: str) -> list[Result]:
        """The results of one split."""
        return [row for row in self.results if row.split == name]


def read_run(folder: Path) -> FinishedRun:
    """Read the files of a run.

    Raises:
        UserError: The folder is missing or holds no results, or a file is damaged.
    """
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}; give the folder of a run (runs/NAME).")
    results = read_rows(folder / "results.csv", Result)
    if not any(row.split == "val" for row in results):
        raise UserError(
            f"{folder} has no results.csv with validation results; give the folder that `ftbc "
            "fit` or `ftbc calibrate` wrote."
        )
    layers = read_rows(folder / CURVES / "layers.csv", LayerRow)
    calibrated = (row.method for row in layers if row.method != "snn_uncalibrated")
    path = folder / "snn.ckpt"
    content = read_checkpoint(path) if path.is_file() else {}
    saved = saved_networks(content)[1] if content else []
    networks = {Variant.of(entry): entry["map"] for entry in saved}
    method = headline(networks).name if networks else results[-1].method
    measured = Measurements(
        method,
        next(calibrated, method),
        layers[-1].timesteps if layers else 0,
        _biases(content, networks),
        layers,
        read_rows(folder / CURVES / "histograms.csv", HistogramRow),
        read_rows(folder / CURVES / "operations.csv", OperationRow),
        measure_of(results).name,
    )
    config_file = run_configuration(path)
    config = {} if config_file is None else read_configuration(config_file)
    steps = read_rows(folder / "steps.csv", StepRow)
    variants = [one for variant in networks for one in variant.each]
    shapes = [each.get("input") for each in networks.values()]
    images = all(shape is None or len(shape) == 3 for shape in shapes)
    return FinishedRun(folder, results, steps, measured, config, config_file, variants, images)


def _biases(
    content: Mapping[str, Any], networks: Mapping[Variant, Mapping[str, Any]]
) -> list[BiasRow]:
    """Of the network of a file that stands for all; each has its conversion map."""
    if not networks:
        return []
    variant = headline(networks)
    state, prefix = content["state_dict"], f"snns.{variant.key}.layers.neurons"
    return bias_rows(
        {
            name: state[f"{prefix}.{name}.temporal_bias"] / state[f"{prefix}.{name}.threshold"]
            for name in networks[variant]["neurons"]
        }
    )
