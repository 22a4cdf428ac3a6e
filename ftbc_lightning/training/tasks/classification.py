"""Classification: cross entropy, and the share of samples that are classified rightly."""

import torch.nn.functional as F
from torch import Tensor, nn

from ftbc_lightning.graph.ending import ClassScores
from ftbc_lightning.training.metrics import StepAccuracy


class Classification:
    """One class for each sample.

    Args:
        ann: The network; it returns logits, log-probabilities or probabilities `[B, classes]`.
        label_smoothing: Of the cross entropy, 0 to 1.
    """

    def __init__(self, ann: nn.Module, *, label_smoothing: float = 0.0) -> None:
        self.scores, self.label_smoothing = ClassScores(ann), label_smoothing

    def loss(self, outputs: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        """What training lowers: cross entropy with smoothed labels."""
        scores = self.scores(outputs, images)
        return F.cross_entropy(scores, labels, label_smoothing=self.label_smoothing)

    def evaluation_loss(self, outputs: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        """What is logged of an evaluation: cross entropy."""
        return F.cross_entropy(self.scores(outputs, images), labels)

    def metric(self, timesteps: int) -> StepAccuracy:
        """What networks are compared by after each of T steps; an ANN has one."""
        return StepAccuracy(timesteps=timesteps)
