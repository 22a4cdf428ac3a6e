"""Classification: cross entropy, and the share of samples that are classified rightly."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ftbc_lightning.errors import UserError
from ftbc_lightning.graph.ending import ClassScores
from ftbc_lightning.report.measure import ACCURACY, AGREEMENT
from ftbc_lightning.report.predictions import summary, write_predictions
from ftbc_lightning.snn.early_exit import confidence_of
from ftbc_lightning.training.metrics import StepAccuracy, StepMetric, classes_like
from ftbc_lightning.training.tasks.task import Task, count_in


class Classification(Task):
    """One class for each sample.

    Args:
        ann: The network; it returns logits, log-probabilities or probabilities `[B, classes]`.
        label_smoothing: Of the cross entropy, 0 to 1.
    """

    against_labels, against_ann = ACCURACY, AGREEMENT

    def __init__(self, ann: nn.Module, *, label_smoothing: float = 0.0) -> None:
        self.scores, self.label_smoothing = ClassScores(ann), label_smoothing

    def answers(self, outputs: Tensor, images: Tensor) -> Tensor:
        """The class of the largest output."""
        return outputs.argmax(-1)

    def loss(self, outputs: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        """What training lowers: cross entropy with smoothed labels."""
        scores, labels = self.scores(outputs, images), _fitting(outputs, labels)
        return F.cross_entropy(scores, labels, label_smoothing=self.label_smoothing)

    def evaluation_loss(self, outputs: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        """What is logged of an evaluation: cross entropy."""
        return F.cross_entropy(self.scores(outputs, images), _fitting(outputs, labels))

    def divergence(
        self, outputs: Tensor, wanted: Tensor, images: Tensor, *, temperature: float
    ) -> Tensor:
        """temperature^2 * KL(softmax(wanted / temperature) || softmax(outputs / temperature))."""
        found, target = (self.scores(each, images) / temperature for each in (outputs, wanted))
        divergence = F.kl_div(
            *(found.log_softmax(-1), target.log_softmax(-1)),
            reduction="batchmean",
            log_target=True,
        )
        return divergence * temperature**2

    def metric(self, timesteps: int) -> StepMetric:
        """Accuracy after each of T steps; an ANN has one."""
        return StepAccuracy(timesteps=timesteps)

    def outputs_of(self, data: Any) -> int | None:
        """How many classes a data module has; None if it does not say."""
        return count_in(data, "num_classes")

    def check_outputs(self, shape: Sequence[int], wanted: int | None, *, name: str) -> None:
        """Raise `UserError` unless there is one output for each class."""
        if len(shape) != 2:
            dense = " For a class at each place give --model.task dense_classification."
            raise UserError(
                f"{name} returns {list(shape)} for one input; [1, classes] is needed."
                f"{dense if len(shape) == 4 else ''}"
            )
        if wanted is not None and shape[1] != wanted:
            raise UserError(
                f"{name} has {shape[1]} outputs, but the data has {wanted} classes; set "
                f"model.network.init_args.num_classes to {wanted}."
            )

    def predictions(self, outputs: Tensor, images: Tensor) -> dict[str, Tensor]:
        """`label` and `confidence` after each step, `[T, B]`."""
        confidence, label = confidence_of(self.scores(outputs, images))
        return {"label": label, "confidence": confidence}

    def check_early_exit(self) -> None:
        """A sample may stop when the network is sure of its class."""

    def write(
        self,
        path: Path,
        predictions: dict[str, Tensor],
        names: Sequence[str],
        classes: Sequence[str] | None,
    ) -> None:
        """Write classes and confidences, see `write_predictions`."""
        write_predictions(path, predictions, names, classes)

    def summary(self, predictions: dict[str, Tensor]) -> str:
        """Samples, steps, and accuracy where the classes are known."""
        return summary(predictions)


def _fitting(outputs: Tensor, labels: Tensor) -> Tensor:
    """A class for each sample, or a share of each class to train with, `[B, classes]`."""
    return labels if labels.is_floating_point() else classes_like(outputs, labels)
