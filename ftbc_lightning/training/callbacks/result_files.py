"""Writes what an evaluation found: files beside the checkpoint, and the table on the screen."""

from pathlib import Path

from lightning import Callback, LightningModule, Trainer
from rich.console import Console

from ftbc_lightning import report
from ftbc_lightning.training.callbacks.ftbc import makes_networks
from ftbc_lightning.training.callbacks.layer_curves import LayerCurves
from ftbc_lightning.training.callbacks.progress import CalibrationProgress
from ftbc_lightning.training.module import SpikingClassifier
from ftbc_lightning.training.result_rows import write_results


class ResultFiles(Callback):
    """After an evaluation of spiking networks, save them and write table, CSV and figures.

    A validation run leaves `snn.ckpt`, `results.csv`, `accuracy_by_step.png` (named after
    the measure) and `bias_curves.png` in the folder; a test run adds its rows to `results.csv`.

    Args:
        folder: Where the files go; the trainer's `default_root_dir` if None.
    """

    def __init__(self, *, folder: str | None = None) -> None:
        self.folder = folder
        self.written: list[Path] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Note whether this run calibrates or evaluates a file."""
        self.calibrates = makes_networks(pl_module, stage)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the calibrated networks and report the validation split."""
        if trainer.sanity_checking or not _has_networks(pl_module):
            return
        if self.calibrates:
            trainer.save_checkpoint(self._path(trainer) / "snn.ckpt", weights_only=True)
            assert isinstance(pl_module, SpikingClassifier)
            pl_module.unsaved = False
        self._write(trainer, pl_module, split="val")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the test split."""
        if _has_networks(pl_module):
            self._write(trainer, pl_module, split="test")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Show the table, once Lightning's progress bars are off the screen."""
        if self.written:
            if trainer.progress_bar_callback is not None:
                trainer.progress_bar_callback.teardown(trainer, pl_module, stage)
            console = Console()
            console.print(self.table)
            curves = [c for c in trainer.callbacks if isinstance(c, LayerCurves)]  # type: ignore[attr-defined]
            written = [*self.written, *(path for each in curves for path in each.written)]
            for path in () if CalibrationProgress.quiet else written:
                console.print(f"  {path}", highlight=False, soft_wrap=True)
        self.written = []

    def _path(self, trainer: Trainer) -> Path:
        return Path(self.folder or trainer.default_root_dir)

    def _write(self, trainer: Trainer, module: LightningModule, *, split: str) -> None:
        assert isinstance(module, SpikingClassifier)
        if not trainer.is_global_zero:
            return
        folder = self._path(trainer)
        folder.mkdir(parents=True, exist_ok=True)
        files = write_results(folder, module, split=split, new=self.calibrates)
        names = ["ann.ckpt", "snn.ckpt"] if split == "val" else []
        there = [path for path in (folder / name for name in names) if path.is_file()]
        self.table = report.table(module.results, split=split)
        self.written = [*there, *files]


def _has_networks(module: LightningModule) -> bool:
    return isinstance(module, SpikingClassifier) and module.phase == "calibrated"
