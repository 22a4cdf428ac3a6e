"""The LightningModule that trains a calibrated spiking network over its steps."""

import math
import time
from typing import Any, Literal, get_args

import torch
from lightning import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from ftbc_lightning.errors import UserError, check_choice
from ftbc_lightning.files.checkpoint import FINETUNING_KEY
from ftbc_lightning.graph.propagation import prepared
from ftbc_lightning.snn.network import SpikingNetwork
from ftbc_lightning.snn.simulation import simulate
from ftbc_lightning.snn.surrogates import Surrogate
from ftbc_lightning.snn.trainable import TrainableNetwork
from ftbc_lightning.training.metrics import StepMetric
from ftbc_lightning.training.relative_adam import RelativeAdam, rise_and_fall
from ftbc_lightning.training.tasks import Task

Loss = Literal["kl", "labels", "both"]


class FineTuning(LightningModule):
    """Train a spiking network by the error signal, through surrogates for its spikes.

        L = temperature^2 * KL(softmax(ann / temperature) || softmax(snn[T] / temperature))
        or the loss of the task on labels, or the sum of both

    Of regression, the mean squared distance to the ANN's outputs stands in the place of KL. snn[T]
    is what the network says after its last step, ann what the ANN says of the same sample,
    which needs no labels. Back-propagation: this is no part of FTBC, which is its start.

    Args:
        ann: The network that was converted; it stays as it is.
        snn: Its calibrated conversion; a copy is trained.
        task: Its loss on labels, and what the network is judged by.
        optimizer: Made from the parameters.
        lr_scheduler: Made from the optimizer and stepped after each epoch; if None the learning
            rate rises for a tenth of all steps and falls to zero along a cosine.
        surrogate: In the place of a spike's derivative.
        loss: "kl", "labels" or "both".
        temperature: Of the softened probabilities, above 0.
        thresholds: Train them too.
        checkpointing: See `TrainableNetwork`.

    Raises:
        UserError: A setting is out of range.
    """

    def __init__(
        self,
        ann: nn.Module,
        snn: SpikingNetwork,
        *,
        task: Task,
        optimizer: OptimizerCallable = RelativeAdam,
        lr_scheduler: LRSchedulerCallable | None = None,
        surrogate: Surrogate | None = None,
        loss: Loss = "kl",
        temperature: float = 1.0,
        thresholds: bool = False,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        check_choice("loss", loss, get_args(Loss))
        if not 0 < temperature < math.inf:
            raise UserError(f"temperature is {temperature}; it must be above 0.")
        self.trained = TrainableNetwork(
            snn, surrogate=surrogate, thresholds=thresholds, checkpointing=checkpointing
        )
        self.reference = [ann]  # in a list: it is no part of what is trained and saved
        self.task, self.loss, self.temperature = task, loss, temperature
        self._optimizer, self._lr_scheduler = optimizer, lr_scheduler
        self.metric = task.metric(snn.timesteps)
        self.source: dict[str, Any] = {}
        self.began, self.seconds_before = time.perf_counter(), 0.0

    @property
    def uses_labels(self) -> bool:
        """Whether the loss reads labels."""
        return self.loss != "kl"

    def configure_optimizers(self) -> Any:
        """The optimizer over weights, biases and if asked thresholds, and the scheduler."""
        optimizer = self._optimizer(self.trained.parameters())
        if self._lr_scheduler is not None:
            return {"optimizer": optimizer, "lr_scheduler": self._lr_scheduler(optimizer)}
        steps = int(self.trainer.estimated_stepping_batches)
        scheduler = rise_and_fall(optimizer, steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def on_fit_start(self) -> None:
        """Bring the ANN to where the training is."""
        self.reference[0].to(self.device).eval()

    def training_step(self, batch: tuple[Tensor, Tensor | None], batch_idx: int) -> Tensor:
        """The loss after the last step."""
        images, labels = batch
        outputs = self.trained(images)[-1]
        loss: Tensor = outputs.new_zeros(())
        if self.loss != "labels":
            loss = loss + self._divergence(outputs, images)
        if self.uses_labels:
            assert labels is not None  # `ftbc finetune` refuses data without any
            loss = loss + self.task.loss(outputs, labels, images)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(images))
        return loss

    def _divergence(self, outputs: Tensor, images: Tensor) -> Tensor:
        with torch.no_grad():
            like = next(self.reference[0].parameters())
            wanted = self.reference[0](prepared(images, like)).to(outputs.dtype)
        return self.task.divergence(outputs, wanted, images, temperature=self.temperature)

    def validation_step(self, batch: tuple[Tensor, Tensor | None], batch_idx: int) -> None:
        """What the network says after each step."""
        images, given = batch
        labels = self.task.truth(given, images, self.reference[0])
        assert isinstance(self.metric, StepMetric)
        outputs = simulate(self.trained.snn, images)
        self.task.judge(self.metric, outputs, labels, images)
        loss = self.task.evaluation_loss(outputs[-1], labels, images)
        self.log("val/loss", loss, batch_size=len(images), sync_dist=True)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """What reads the network next reads the thresholds of now."""
        self.trained.keep_thresholds()

    def on_validation_epoch_end(self) -> None:
        """Log the measure after the last step."""
        self.log(f"val/{self.task.measure.key}", self.metric.curve()[-1], prog_bar=True)
        self.metric.reset()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write down on what this training rests, so that it can be gone on with."""
        data = getattr(self._trainer, "datamodule", None)
        seed = getattr(data, "division_seed", None)
        seconds = self.seconds_before + time.perf_counter() - self.began
        checkpoint[FINETUNING_KEY] = {**self.source, "seconds": seconds, "data_seed": seed}
