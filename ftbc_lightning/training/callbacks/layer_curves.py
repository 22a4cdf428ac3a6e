"""After the validation run, show what each layer does: in files and in every logger."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from ftbc_lightning.analysis.quantized_ann import corrected_ann, quantized_logits
from ftbc_lightning.files.csv_rows import write_rows
from ftbc_lightning.report.rows import Measurements
from ftbc_lightning.report.run_folder import CURVES
from ftbc_lightning.snn.network import SpikingNetwork
from ftbc_lightning.training.callbacks.calibration_samples import (
    calibration_batches,
    reduction_over,
)
from ftbc_lightning.training.callbacks.loggers import log
from ftbc_lightning.training.callbacks.measurements import QuantizedANN, measure
from ftbc_lightning.training.metrics import StepMetric
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
        self.metrics: list[StepMetric] = []
        self.quantized: list[QuantizedANN] = []

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin anew, with the quantised ANNs of the networks that have been calibrated."""
        self._clear()
        self.written = []
        if _shows(trainer, pl_module):
            assert isinstance(pl_module, SpikingClassifier)
            self.quantized = _quantized(trainer, pl_module)
            metric = pl_module.task.metric
            self.metrics = [metric(1).to(pl_module.device) for _ in self.quantized]

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the first samples, and evaluate the quantised ANNs on all of them."""
        if not _shows(trainer, pl_module):
            return
        images, given = batch
        missing = self.samples - sum(len(part) for part in self.kept)
        if missing > 0 and trainer.is_global_zero:
            self.kept.append(images[:missing])
        if not self.quantized:
            return
        assert isinstance(pl_module, SpikingClassifier)
        labels = pl_module.task.truth(given, images, pl_module.ann)
        for one, metric in zip(self.quantized, self.metrics, strict=True):
            found = quantized_logits(one.graph, one.network, images).unsqueeze(0)
            pl_module.task.judge(metric, found, labels, images)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure, write and log."""
        for one, metric in zip(self.quantized, self.metrics, strict=True):
            (one.accuracy,) = metric.curve()
        if not self.kept:
            return
        assert isinstance(pl_module, SpikingClassifier)
        some = next(iter(pl_module.snns.values()))
        assert isinstance(some, SpikingNetwork)
        graph = some.traced(pl_module.ann)
        found = measure(pl_module, graph, torch.cat(self.kept), self.quantized)
        self.written = write(Path(trainer.default_root_dir) / CURVES, found)
        log(trainer.loggers, pl_module, found)
        self._clear()


def _quantized(trainer: Trainer, module: SpikingClassifier) -> list[QuantizedANN]:
    """The ANN on the grid of each T, and with corrected weights if a method corrects them."""
    variants = module.every_variant()
    plain = sorted((v for v in variants if v.method == "none"), key=lambda v: v.timesteps)
    networks = [module.network(variant) for variant in plain]
    if not networks:
        return []
    graph = networks[0].traced(module.ann)
    found = [QuantizedANN("ann_quantized", graph, network) for network in networks]
    there = hasattr(getattr(trainer, "datamodule", None), "calibration_dataloader")
    if there and any(variant.stages.weights for variant in variants):
        batches, reduce = calibration_batches(trainer), reduction_over(trainer)
        for network in networks:
            corrected = corrected_ann(graph, network, batches, reduce=reduce)
            found.append(QuantizedANN("ann_quantized_weights", corrected, network))
    return found


def write(folder: Path, found: Measurements) -> list[Path]:
    """Write the rows into a folder; returns their paths."""
    rows: dict[str, Sequence[Any]] = {
        "layers.csv": found.layers,
        "histograms.csv": found.histograms,
        "operations.csv": found.operations,
    }
    return [write_rows(folder / name, kind) for name, kind in rows.items()]


def _shows(trainer: Trainer, module: LightningModule) -> bool:
    calibrated = isinstance(module, SpikingClassifier) and module.phase == "calibrated"
    return calibrated and not trainer.sanity_checking
