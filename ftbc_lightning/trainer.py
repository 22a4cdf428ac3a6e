"""A Trainer with one more verb: calibrate."""

import lightning
from lightning import LightningDataModule
from rich.console import Console

from ftbc_lightning import report
from ftbc_lightning.callbacks import ForwardTemporalBiasCorrection
from ftbc_lightning.checkpoints import ann_state, check_state, read_checkpoint
from ftbc_lightning.errors import UserError
from ftbc_lightning.module import SpikingClassifier
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
            checkpoint = read_checkpoint(ckpt_path)
            check_state(model.ann, checkpoint)
            model.ann.load_state_dict(ann_state(checkpoint))
        model.reset()
        self.datamodule = datamodule
        callbacks[0].convert(self, model)
        self.validate(model, datamodule=datamodule)
