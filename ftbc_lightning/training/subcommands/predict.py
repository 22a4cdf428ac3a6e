"""`ftbc predict`: a row for each sample, and early exit."""

from collections.abc import Iterator, Mapping, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import lightning
import torch
from lightning import LightningDataModule, LightningModule
from rich.console import Console
from torch import Tensor
from torch.utils.data import DataLoader

from ftbc_lightning import report
from ftbc_lightning.data.image_file import listed
from ftbc_lightning.data.unlabelled_folder import readable, unlabelled_folder
from ftbc_lightning.errors import UserError
from ftbc_lightning.files.csv_rows import write_rows
from ftbc_lightning.files.whole_file import write_whole
from ftbc_lightning.graph.ending import class_scores, ending
from ftbc_lightning.report.predictions import join, names_of
from ftbc_lightning.report.style import label_of
from ftbc_lightning.snn.early_exit import (
    ExitPoint,
    check_confidence,
    choose_confidence,
    exit_curve,
)
from ftbc_lightning.snn.simulation import simulate
from ftbc_lightning.training.finished_networks import choose
from ftbc_lightning.training.module import SpikingClassifier
from ftbc_lightning.training.reload import fill


@dataclass(frozen=True)
class UnreadableRow:
    """A sample that could not be read, and why."""

    file: str
    reason: str


class PredictTrainer(lightning.Trainer):
    """A Trainer that writes what it predicts.

    Attributes:
        unreadable: The samples of the last prediction that could not be read, and why.
    """

    unreadable: Mapping[str, str] = MappingProxyType({})

    def predict(  # type: ignore[override]
        self,
        model: LightningModule | None = None,
        dataloaders: Any = None,
        datamodule: LightningDataModule | None = None,
        return_predictions: bool | None = None,
        ckpt_path: str | None = None,
        weights_only: bool | None = None,
        *,
        folder: str | None = None,
        early_exit: float | str | None = None,
        output: str | None = None,
        at: int | None = None,
        method: str | None = None,
    ) -> Any:
        """Classify samples and write a row for each: class or values, step by step.

        With none of the last five arguments it is Lightning's own. Samples whose files cannot be
        read are left out, and listed with the reason in a second file.

        Args:
            model: The network, or what its checkpoint is loaded into.
            dataloaders: See Lightning.
            datamodule: Its samples are classified where no folder is given, and it tells how
                samples are prepared.
            return_predictions: See Lightning.
            ckpt_path: The snn.ckpt of a run.
            weights_only: See Lightning.
            folder: Samples to classify, those in its folders too. `--data.folder` is the same.
            early_exit: Confidence, 0 to 1, at which a sample takes no more steps; "auto" takes
                the one with the fewest steps at the accuracy of all steps on the calibration
                samples.
            output: The CSV file; on the command line predictions.csv in the run's folder.
            at: T of the network that classifies; the largest if not given.
            method: Whose calibration is taken; exact, or the last in the file, if not given.

        Returns:
            The predictions of each batch, see `SpikingClassifier.predict_step`.

        Raises:
            UserError: The checkpoint, the folder or every sample cannot be read, or a setting is
                out of range.
        """
        if all(given is None for given in (folder, early_exit, output, at, method)):
            return super().predict(
                model, dataloaders, datamodule, return_predictions, ckpt_path, weights_only
            )
        assert isinstance(model, SpikingClassifier)
        if self.world_size > 1:
            raise UserError("Samples are classified on one device: give --trainer.devices 1.")
        if datamodule is None:
            raise UserError("A data module tells how samples are prepared; give one.")
        if ckpt_path is not None:
            fill(model, ckpt_path)
        datamodule.prepare_data()
        datamodule.setup("predict")
        loader = self._samples(datamodule, folder)
        with _settings_of(model):
            if at is not None or method is not None:
                model.chosen = choose(model, method=method, timesteps=at)
            if early_exit is not None:
                model.early_exit = self._confidence(model, datamodule, early_exit)
            batches: Any = super().predict(model, dataloaders=loader, return_predictions=True)
            network = _network_of(model)
        found = join(batches)
        if folder is not None:
            found.pop("target", None)
        console = Console()
        console.print(f"{network}: {model.task.summary(found)}", highlight=False, soft_wrap=True)
        if output is not None:
            self._write(Path(output), found, loader, model, datamodule)
            console.print(f"  {output}", highlight=False, soft_wrap=True)
        self._tell(len(found["steps"]), None if output is None else Path(output))
        return batches

    def _tell(self, read: int, output: Path | None) -> None:
        """List what could not be read: the first few on the screen, all in a file."""
        beside = None if output is None else output.with_name(f"{output.stem}_unreadable.csv")
        if beside is not None:
            beside.unlink(missing_ok=True)  # of an earlier prediction
        if not self.unreadable:
            return
        count = len(self.unreadable)
        line = f"{count} of {read + count} images could not be read: {listed(self.unreadable)}."
        if beside is not None:
            write_rows(beside, [UnreadableRow(*row) for row in self.unreadable.items()])
            line += f" {beside}"
        Console(stderr=True).print(line, highlight=False, markup=False, soft_wrap=True)

    def _write(
        self,
        path: Path,
        found: dict[str, Tensor],
        loader: DataLoader[Any],
        model: SpikingClassifier,
        datamodule: LightningDataModule,
    ) -> None:
        classes = getattr(datamodule, "class_names", None)
        names = names_of(loader.dataset, len(found["steps"]))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda beside: model.task.write(beside, found, names, classes))

    def _samples(self, datamodule: LightningDataModule, folder: str | None) -> DataLoader[Any]:
        """What is to be classified, in a fixed order."""
        given: Any = datamodule.predict_dataloader()
        samples = given.dataset if folder is None else unlabelled_folder(folder, datamodule)
        kept, self.unreadable = readable(samples)
        if folder is None and not self.unreadable:
            assert isinstance(given, DataLoader)
            return given
        if len(cast(Sized, kept)) == 0:
            raise UserError(
                f"None of {len(self.unreadable)} images can be read: {listed(self.unreadable)}."
            )
        return DataLoader(
            kept,
            batch_size=given.batch_size,
            num_workers=given.num_workers,
            collate_fn=given.collate_fn,
        )

    def _confidence(
        self, model: SpikingClassifier, datamodule: LightningDataModule, asked: float | str
    ) -> float:
        """The threshold of confidence: as asked, or chosen on the calibration samples."""
        model.task.check_early_exit()
        if model.phase != "calibrated":
            raise UserError("early_exit needs spiking networks; give --ckpt_path snn.ckpt.")
        if asked != "auto":
            if isinstance(asked, str):
                raise UserError(
                    f"early_exit is {asked!r}; give a confidence from 0 to 1, such as 0.9, or auto."
                )
            check_confidence(asked)
            return asked
        curve = calibration_curve(model, datamodule)
        chosen = choose_confidence(curve)
        console = Console()
        console.print(report.exit_table(curve, chosen))
        return chosen.confidence


@contextmanager
def _settings_of(model: SpikingClassifier) -> Iterator[None]:
    """Leave a model's settings of prediction as they were."""
    before = model.early_exit, model.chosen
    try:
        yield
    finally:
        model.early_exit, model.chosen = before


def _network_of(model: SpikingClassifier) -> str:
    """What classifies, for people."""
    if model.phase != "calibrated":
        return "ANN"
    variant = model.classifying()
    return f"{label_of(variant.name)}, T = {variant.timesteps}"


def calibration_curve(model: SpikingClassifier, datamodule: LightningDataModule) -> list[ExitPoint]:
    """Accuracy against mean steps on the calibration samples, of the network that classifies.

    Args:
        model: A calibrated classifier.
        datamodule: Has `calibration_dataloader()`.
    """
    network = model.network(model.classifying())
    loader: Any = datamodule
    parts = []
    for batch, given in loader.calibration_dataloader():
        images = batch.to(model.device)
        labels = model.task.truth(given, images, model.ann)
        parts.append((simulate(network, images).cpu(), labels.cpu()))
    logits = torch.cat([part for part, _ in parts], dim=1)
    labels = torch.cat([labels for _, labels in parts])
    return exit_curve(class_scores(logits, ending(network.layers)), labels)
