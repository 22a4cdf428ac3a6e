"""`ftbc calibrate`: convert and calibrate an ANN that is trained already."""

import lightning
from lightning import LightningDataModule

from ftbc_lightning.errors import UserError
from ftbc_lightning.files.checkpoint import read_checkpoint
from ftbc_lightning.training.callbacks import ForwardTemporalBiasCorrection
from ftbc_lightning.training.module import SpikingClassifier
from ftbc_lightning.training.saved_state import ann_state, check_state


class CalibrateTrainer(lightning.Trainer):
    """A Trainer that converts and calibrates without a fit."""

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
        callback = self.ftbc()
        if ckpt_path is not None:
            take_ann(model, ckpt_path)
        model.reset()
        self.datamodule = datamodule
        callback.convert(self, model)
        self.validate(model, datamodule=datamodule, verbose=False)

    def ftbc(self) -> ForwardTemporalBiasCorrection:
        """The callback that knows what to calibrate and how."""
        for callback in self.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, ForwardTemporalBiasCorrection):
                return callback
        raise UserError("Add the callback ForwardTemporalBiasCorrection to the trainer.")


def take_ann(model: SpikingClassifier, ckpt_path: str) -> None:
    """Put the ANN of a checkpoint into the model."""
    checkpoint = read_checkpoint(ckpt_path)
    check_state(model.ann, checkpoint)
    model.ann.load_state_dict(ann_state(checkpoint))
