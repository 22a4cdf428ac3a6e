"""Several labels for each sample: binary cross entropy, and micro F1."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ftbc_lightning.errors import UserError
from ftbc_lightning.graph.ending import ClassScores
from ftbc_lightning.report.measure import F1, F1_TO_ANN
from ftbc_lightning.report.predicted_values import write_values
from ftbc_lightning.training.metrics import StepF1, StepMetric, targets_like
from ftbc_lightning.training.tasks.task import Task, count_in, refuse_early_exit


class Multilabel(Task):
    """Any number of labels for each sample, each of which holds or not.

    A label is said where its probability is above one half. Networks are compared by the F1 over
    all labels together (micro),

        F1 = 2 hits / (said + true),

    in which labels that rightly are not said do not count: most labels of most samples do not hold,
    and a network that never says one is right on those. It needs three counts for each step, which
    add up over batches and processes. The mean of the F1 of each label (macro) needs counts for
    each label, and the mean average precision every probability, or a histogram of them.

    Args:
        ann: The network; it returns logits `[B, labels]`, or probabilities if it ends in sigmoid.
        label_smoothing: s of the cross entropy, 0 to 1: targets are y (1 - s) + s / 2.
    """

    against_labels, against_ann = F1, F1_TO_ANN

    def __init__(self, ann: nn.Module, *, label_smoothing: float = 0.0) -> None:
        self.scores, self.label_smoothing = ClassScores(ann), label_smoothing

    def answers(self, outputs: Tensor, images: Tensor) -> Tensor:
        """1 for each label that is said."""
        return (self._logits(outputs, images) > 0).long()

    def loss(self, outputs: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        """What training lowers: the mean binary cross entropy, with smoothed labels."""
        return self._cross_entropy(outputs, labels, images, self.label_smoothing)

    def evaluation_loss(self, outputs: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        """What is logged of an evaluation: the mean binary cross entropy."""
        return self._cross_entropy(outputs, labels, images, 0.0)

    def divergence(
        self, outputs: Tensor, wanted: Tensor, images: Tensor, *, temperature: float
    ) -> Tensor:
        """temperature^2 * KL(p || q), the mean over samples and labels.

        Of each label KL(p || q) = p log(p / q) + (1 - p) log((1 - p) / (1 - q)), with
        p = sigmoid(wanted / temperature) and q = sigmoid(outputs / temperature).
        """
        found, target = (self._logits(x, images).float() / temperature for x in (outputs, wanted))
        cross, own = (
            F.binary_cross_entropy_with_logits(logits, target.sigmoid())
            for logits in (found, target)
        )
        return (cross - own) * temperature**2

    def metric(self, timesteps: int) -> StepF1:
        """Micro F1 after each of T steps; an ANN has one."""
        return StepF1(timesteps=timesteps)

    def judge(self, metric: StepMetric, outputs: Tensor, labels: Tensor, images: Tensor) -> None:
        """Add the logits of a batch to a metric."""
        metric.update(self._logits(outputs, images), labels)

    def outputs_of(self, data: Any) -> int | None:
        """How many labels a data module has; None if it does not say."""
        return count_in(data, "num_labels")

    def check_outputs(self, shape: Sequence[int], wanted: int | None, *, name: str) -> None:
        """Raise `UserError` unless there is one output for each label."""
        if len(shape) != 2:
            raise UserError(f"{name} returns {list(shape)} for one input; [1, labels] is needed.")
        if wanted is not None and shape[1] != wanted:
            raise UserError(
                f"{name} has {shape[1]} outputs, but the data has {wanted} labels; both must be "
                "the same."
            )

    def predictions(self, outputs: Tensor, images: Tensor) -> dict[str, Tensor]:
        """`probability` of each label after each step, `[T, B, labels]`."""
        return {"probability": self._logits(outputs, images).float().sigmoid()}

    def check_early_exit(self) -> None:
        """Refuse: there is no one class to be sure of."""
        refuse_early_exit("a sample of several labels has no one class")

    def write(
        self,
        path: Path,
        predictions: dict[str, Tensor],
        names: Sequence[str],
        classes: Sequence[str] | None,
    ) -> None:
        """Write a probability for each label, see `write_values`."""
        write_values(path, predictions, names, what="probability", outputs=classes)

    def summary(self, predictions: dict[str, Tensor]) -> str:
        """Samples, steps, and micro F1 where the labels are known."""
        probability = predictions["probability"]
        text = f"{probability.shape[1]} samples, {len(probability)} steps"
        if "target" not in predictions:
            return text
        metric = self.metric(1)
        metric.update(probability[-1:] - 0.5, predictions["target"])
        return f"{text}, {F1.label} {F1.said(metric.curve()[-1])}"

    def _cross_entropy(
        self, outputs: Tensor, labels: Tensor, images: Tensor, smoothing: float
    ) -> Tensor:
        targets = targets_like(outputs, labels) * (1 - smoothing) + smoothing / 2
        return F.binary_cross_entropy_with_logits(self._logits(outputs, images).float(), targets)

    def _logits(self, outputs: Tensor, images: Tensor) -> Tensor:
        """What sigmoid makes the probabilities of, `[..., labels]`."""
        found = self.scores(outputs, images)
        if self.scores.found == "softmax":
            raise UserError(
                "The network ends in softmax, of which one label takes from the others; leave it "
                "out, or end in sigmoid."
            )
        return found
