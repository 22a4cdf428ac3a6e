"""A Trainer with more verbs: inspect, diagnose, calibrate."""

from collections.abc import Iterable
from typing import Any

import lightning
from lightning import LightningDataModule
from rich.console import Console
from torch import Tensor

from ftbc_lightning import report
from ftbc_lightning.ann.weights import read_file
from ftbc_lightning.callbacks import ForwardTemporalBiasCorrection
from ftbc_lightning.checkpoints import ann_state, check_state
from ftbc_lightning.errors import UserError
from ftbc_lightning.module import SpikingClassifier, Variant
from ftbc_lightning.snn.diagnosis import Diagnosis, diagnose
from ftbc_lightning.snn.inspection import Inspection, inspect


class Trainer(lightning.Trainer):
    """Lightning's Trainer, which also converts and calibrates an ANN that is trained already."""

    def inspect(
        self, model: SpikingClassifier, datamodule: LightningDataModule | None = None
    ) -> Inspection:
        """Say of every node of the ANN what it becomes, or why it cannot be converted.

        Args:
            model: Holds the ANN.
            datamodule: Not read.

        Returns:
            The report, which has been printed.

        Raises:
            UserError: The network cannot be traced.
        """
        found = inspect(model.ann)
        console = Console()
        console.print(report.inspection_table(found))
        console.print(found.verdict)
        return found

    def diagnose(
        self,
        model: SpikingClassifier,
        datamodule: LightningDataModule | None = None,
        ckpt_path: str | None = None,
        at: int | None = None,
        pictures: int = 256,
    ) -> Diagnosis:
        """Say in which layer accuracy is lost, by which cause, before and after calibration.

        Args:
            model: Holds the ANN.
            datamodule: Its validation pictures are watched.
            ckpt_path: The file of calibrated networks, `snn.ckpt`.
            at: T of the networks to look at; the largest if not given.
            pictures: How many pictures.

        Returns:
            The diagnosis of the calibrated network, which has been printed.

        Raises:
            UserError: The file is missing, holds no calibrated network or none for that T.
        """
        if ckpt_path is None:
            raise UserError("Give the file of calibrated networks: --ckpt_path runs/NAME/snn.ckpt.")
        checkpoint = read_file(ckpt_path)
        model.on_load_checkpoint(checkpoint)
        model.load_state_dict(checkpoint["state_dict"])
        if model.phase != "calibrated" or datamodule is None:
            raise UserError(f"{ckpt_path} holds no calibrated network; run `ftbc calibrate` first.")
        best = _network_at(model, at)
        plain = [v for v in model.variants.values() if v.timesteps == best.timesteps]
        first = next((v for v in plain if v.method == "none"), best)
        datamodule.prepare_data()
        datamodule.setup("validate")
        batches = _some(datamodule.val_dataloader(), pictures)
        before, after = (diagnose(model.ann, model.network(v), batches) for v in (first, best))
        label = report.label_of(report.method_of(best))
        title = f"{label}, T = {best.timesteps}, {after.pictures} validation pictures"
        console = Console()
        console.print(report.diagnosis_table(before, after, title=title))
        for rank, name in enumerate(after.worst()[:3], start=1):
            console.print(f"{rank}. {name}: {after.advice(name)}", highlight=False)
        return after

    def calibrate(
        self,
        model: SpikingClassifier,
        datamodule: LightningDataModule | None = None,
        ckpt_path: str | None = None,
    ) -> None:
        """Convert a trained ANN, calibrate it and evaluate it on the validation split.

        Args:
            model: Holds the ANN.
            datamodule: Has `calibration_dataloader()`.
            ckpt_path: A checkpoint whose ANN is taken; without it the model's own weights are.

        Raises:
            UserError: The checkpoint cannot be read or holds another network, the network cannot
                be converted, or the callback is missing.
        """
        callbacks = [c for c in self.callbacks if isinstance(c, ForwardTemporalBiasCorrection)]  # type: ignore[attr-defined]
        if not callbacks:
            raise UserError("Add the callback ForwardTemporalBiasCorrection to the trainer.")
        if ckpt_path is not None:
            checkpoint = read_file(ckpt_path)
            check_state(model.ann, checkpoint)
            model.ann.load_state_dict(ann_state(checkpoint))
        model.reset()
        self.datamodule = datamodule
        callbacks[0].convert(self, model)
        self.validate(model, datamodule=datamodule, verbose=False)


def _network_at(model: SpikingClassifier, timesteps: int | None) -> Variant:
    """The calibration that stands for all, at one T."""
    best = model.headline()
    same = {v.timesteps: v for v in model.variants.values() if v.method == best.method}
    wanted = best.timesteps if timesteps is None else timesteps
    if wanted not in same:
        known = ", ".join(map(str, sorted(same)))
        raise UserError(f"The file has no network for T = {wanted}; it has T = {known} (--at).")
    return same[wanted]


def _some(loader: Iterable[Any], pictures: int) -> list[Tensor]:
    """The first pictures of a loader."""
    batches: list[Tensor] = []
    for batch in loader:
        missing = pictures - sum(len(part) for part in batches)
        if missing <= 0:
            break
        batches.append(batch[0][:missing])
    return batches
