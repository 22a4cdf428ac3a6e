"""After the validation run, show what each layer does: in files and in every logger."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, fx

from ftbc_lightning.analysis.quantized_ann import quantized_logits
from ftbc_lightning.files.csv_rows import write_rows
from ftbc_lightning.graph.tracing import trace
from ftbc_lightning.report.rows import Measurements
from ftbc_lightning.report.run_folder import CURVES
from ftbc_lightning.snn.network import SpikingNetwork
from ftbc_lightning.training.callbacks.loggers import log
from ftbc_lightning.training.callbacks.measurements import measure
from ftbc_lightning.training.module import SpikingClassifier


class LayerCurves(Callback):
    """Measure layers, operations and energy on a few validation samples, and log them.

    Leaves `curves/layers.csv`, `histograms.csv` and `operations.csv` in the run's folder, from
    which `ftbc report` draws, and the curves in every logger of the trainer.

    Args:
        samples: How many validation samples are watched layer by layer.
    """

    def __init__(self, *, samples: int = 32) -> None:
        self.samples = samples
        self.written: list[Path] = []
        self._clear()

    def _clear(self) -> None:
        self.kept: list[Tensor] = []
        self.right: dict[int, int] = {}
        self.total = 0
        self.graph: fx.GraphModule | None = None
        self.plain: dict[int, SpikingNetwork] = {}

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin anew."""
        self._clear()
        self.written = []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the first samples, and evaluate the quantised ANN on all of them."""
        if not _applies(trainer, pl_module):
            return
        assert isinstance(pl_module, SpikingClassifier)
        images, labels = batch
        missing = self.samples - sum(len(part) for part in self.kept)
        if missing > 0:
            self.kept.append(images[:missing])
        self.total += len(labels)
        if self.graph is None:
            self.graph = trace(pl_module.ann, images)
            plain = [v for v in pl_module.every_variant() if v.method == "none"]
            self.plain = {v.timesteps: pl_module.network(v) for v in plain}
        for timesteps, network in self.plain.items():
            logits = quantized_logits(self.graph, network, images)
            right = int((logits.argmax(-1) == labels).sum())
            self.right[timesteps] = self.right.get(timesteps, 0) + right

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure, write and log."""
        if not _applies(trainer, pl_module) or not self.kept:
            return
        assert isinstance(pl_module, SpikingClassifier)
        shares = {timesteps: right / self.total for timesteps, right in self.right.items()}
        assert self.graph is not None
        found = measure(pl_module, self.graph, torch.cat(self.kept), shares)
        self.written = write(Path(trainer.default_root_dir) / CURVES, found)
        log(trainer.loggers, pl_module, found)
        self._clear()


def write(folder: Path, found: Measurements) -> list[Path]:
    """Write the rows into a folder; returns their paths."""
    rows: dict[str, Sequence[Any]] = {
        "layers.csv": found.layers,
        "histograms.csv": found.histograms,
        "operations.csv": found.operations,
    }
    return [write_rows(folder / name, kind) for name, kind in rows.items()]


def _applies(trainer: Trainer, module: LightningModule) -> bool:
    return (
        isinstance(module, SpikingClassifier)
        and module.phase == "calibrated"
        and trainer.is_global_zero
        and not trainer.sanity_checking
    )
