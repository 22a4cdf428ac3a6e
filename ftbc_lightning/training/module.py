"""The LightningModule: trains the ANN, and evaluates it and its spiking networks."""

import os
from collections.abc import Iterable
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.core.mixins.hparams_mixin import _given_hyperparameters
from torch import Tensor, nn

from ftbc_lightning.analysis.network_variants import Variant
from ftbc_lightning.ann.one_output import OneOutput
from ftbc_lightning.errors import UserError, check_choice
from ftbc_lightning.report.rows import Result
from ftbc_lightning.snn.early_exit import simulate_until_sure
from ftbc_lightning.snn.simulation import simulate
from ftbc_lightning.training.metrics import StepMetric
from ftbc_lightning.training.pretrained import load_pretrained
from ftbc_lightning.training.spiking_networks import SpikingNetworks
from ftbc_lightning.training.tasks import TASKS


def _sgd(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=5e-4)


class SpikingClassifier(SpikingNetworks):
    """Train an ANN and keep the spiking networks that it is converted to.

    The networks, their phases and checkpoints are those of `SpikingNetworks`.

    Args:
        network: The ANN: any network with one input tensor that `ftbc_lightning.snn.convert` can
            convert.
        optimizer: Made from the ANN's parameters. SGD, 0.1, momentum 0.9, decay 5e-4 by default.
        lr_scheduler: Made from the optimizer and stepped after each epoch; none by default.
        label_smoothing: Of the cross entropy, 0 to 1.
        task: What the network is trained for and judged by.
        weights: A file with weights of the ANN to begin with: a state dict (`.pt`, `.pth`,
            `.safetensors`), a checkpoint, a file of the Hugging Face Hub
            (`hf://owner/repo/file.safetensors`), or torchvision's name of weights, such as
            `ResNet34_Weights.IMAGENET1K_V1`.
        output: Of a network that returns several tensors the one that is its answer: a key, a
            field or a place, such as `out` (`ftbc_lightning.ann.OneOutput`).
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        optimizer: OptimizerCallable = _sgd,
        lr_scheduler: LRSchedulerCallable | None = None,
        label_smoothing: float = 0.0,
        task: str = "classification",
        weights: str | None = None,
        output: str | None = None,
    ) -> None:
        super().__init__()
        # Objects do not belong into a safe checkpoint. The command line gives their description
        # instead, from which `load_from_checkpoint` builds them; weights are in the file anyway.
        described = _given_hyperparameters.get() is not None
        objects = [] if described else ["network", "optimizer", "lr_scheduler"]
        self.save_hyperparameters(ignore=["weights", *objects])
        if weights is not None:
            load_pretrained(network, weights)
        self.ann = network if output is None else OneOutput(network, output)
        self._optimizer, self._lr_scheduler = optimizer, lr_scheduler
        self.early_exit: float | None = None
        self.chosen: Variant | None = None
        check_choice("task", task, TASKS)
        self.task = TASKS[task](self.ann, label_smoothing=label_smoothing)
        self.reset()

    def setup(self, stage: str) -> None:
        """Judge by what the data has: labels, or without them the ANN's own answers."""
        data = getattr(self.trainer, "datamodule", None)
        self.follow(data)
        if stage == "fit" and not self.task.labelled:
            raise UserError(
                f"fit trains on labels, and {type(data).__name__} leaves them out "
                "(--data.labelled false). `ftbc calibrate --model.weights FILE` needs none."
            )

    # Training

    def configure_optimizers(self) -> Any:
        """The optimizer over the ANN's parameters, and the scheduler if there is one."""
        optimizer = self._optimizer(self.ann.parameters())
        if self._lr_scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": self._lr_scheduler(optimizer)}

    def forward(self, images: Tensor) -> Tensor:
        """What the ANN returns, `[B, classes]`, `[B, classes, H, W]` or `[B, outputs]`."""
        logits: Tensor = self.ann(images)
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The loss of the task, for the ANN."""
        images, labels = batch
        loss = self.task.loss(self(images), labels, images)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(images))
        return loss

    # Evaluation

    def validation_step(self, batch: tuple[Tensor, Tensor | None], batch_idx: int) -> None:
        """Evaluate the ANN and every calibrated network on the same batch."""
        self._evaluate(batch)

    def test_step(self, batch: tuple[Tensor, Tensor | None], batch_idx: int) -> None:
        """Evaluate the ANN and every calibrated network on the same batch."""
        self._evaluate(batch)

    def on_validation_epoch_end(self) -> None:
        """Turn counts into results."""
        self._finish("val")

    def on_test_epoch_end(self) -> None:
        """Turn counts into results."""
        self._finish("test")

    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """What is predicted after each step; by the ANN while there is no network.

        Returns:
            What the task makes of the outputs (`Task.predictions`): of classification `label` and
            `confidence`, `[T, B]`, of dense classification `label`, `[1, B, H, W]`, `share` and
            `confidence`, of regression `value`, of several labels `probability`, `[T, B, outputs]`;
            T = 1 for the ANN. Of the network in `chosen`, or if that is None the one that stands
            for all. `steps`, how many steps each sample ran, `[B]`: T, or fewer where `early_exit`
            is set, a confidence at which a sample stops. `target`, `[B]`, `[B, H, W]` or
            `[B, outputs]`, where it is known.
        """
        images = batch if isinstance(batch, Tensor) else batch[0]
        steps = None
        if self.phase != "calibrated":
            logits = self(images).unsqueeze(0)
        elif self.early_exit is None:
            logits = simulate(self.network(self.classifying()), images)
        else:
            self.task.check_early_exit()
            network = self.network(self.classifying())
            logits, steps = simulate_until_sure(network, images, confidence=self.early_exit)
        if steps is None:
            steps = torch.full((len(images),), len(logits), device=logits.device)
        found = {**self.task.predictions(logits, images), "steps": steps}
        if not isinstance(batch, Tensor) and len(batch) > 1 and batch[1] is not None:
            found["target"] = batch[1]
        return found

    def classifying(self) -> Variant:
        """The variant that `predict_step` runs."""
        return self.chosen or self.headline()

    def _evaluate(self, batch: tuple[Tensor, Tensor | None]) -> None:
        images, given = batch
        if self.phase == "converted":
            raise UserError(
                "The network is converted but not calibrated. Add the callback "
                "ForwardTemporalBiasCorrection and run trainer.validate before anything else."
            )
        logits = self(images)
        if not logits.isfinite().all():
            raise UserError(
                "The ANN's outputs are NaN or infinite; its weights or some of the samples are "
                "broken, or the training diverged. Look at train/loss, or lower the learning rate."
            )
        labels = self.task.answers(logits, images) if given is None else given
        self.task.judge(self.ann_metric, logits.unsqueeze(0), labels, images)
        if self.phase == "ann":
            stage = "val" if self.trainer.validating or self.trainer.training else "test"
            stage = "val" if self.trainer.sanity_checking else stage
            loss = self.task.evaluation_loss(logits, labels, images)
            self.log(f"{stage}/loss", loss, batch_size=len(images), sync_dist=True)
        for key, variant in self.variants.items():
            metric = self.snn_metrics[key]
            assert isinstance(metric, StepMetric)
            self.task.judge(metric, simulate(self.network(variant), images), labels, images)

    def _finish(self, split: str) -> None:
        measure, reached = self.task.measure, self.ann_metric.curve()[-1]
        n, seed = self.ann_metric.samples, _seed()
        of_ann = (split, "ann", None, reached, n, seed, 0.0)
        self.results = [Result(*of_ann, measure=measure.name)]
        self.step_curves: dict[str, list[float]] = {}
        self.log(f"{split}/{measure.key}", reached, prog_bar=True)
        for key, variant in self.variants.items():
            metric = self.snn_metrics[key]
            assert isinstance(metric, StepMetric)
            curve = metric.curve()
            self.step_curves[key] = curve
            self.results += [
                Result(
                    *(split, variant.name, t, curve[t - 1], n, seed, variant.seconds),
                    neuron=variant.neuron,
                    labels=variant.labels,
                    measure=measure.name,
                )
                for t in variant.reported
            ]
            metric.reset()
        self.ann_metric.reset()
        if self.variants:
            best = self.headline()
            self.log(f"{split}/{measure.key}_{best.key}", self.step_curves[best.key][-1])


def _seed() -> int | None:
    value = os.environ.get("PL_GLOBAL_SEED")
    return int(value) if value else None
