"""Accuracy after every time step, as one metric."""

import torch
from torch import Tensor
from torchmetrics import Metric


def step_accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """How many samples are classified rightly after each step.

    Args:
        logits: `[T, B, classes]`.
        labels: `[B]`.

    Returns:
        Counts, int64 `[T]`.

    >>> step_accuracy(torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]]]), torch.tensor([1])).tolist()
    [1, 0]
    """
    return (logits.argmax(-1) == labels).sum(-1)


class StepAccuracy(Metric):
    """Accuracy after each of T steps; merges over processes by adding counts.

    Attributes:
        samples: Over how many samples of all processes `compute` was taken last.

    Args:
        timesteps: T; 1 for an ANN.
    """

    full_state_update = False
    correct: Tensor
    total: Tensor

    def __init__(self, *, timesteps: int) -> None:
        super().__init__()
        self.samples = 0
        self.add_state("correct", torch.zeros(timesteps, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("total", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: logits `[T, B, classes]`, labels `[B]`."""
        self.correct += step_accuracy(logits, labels)
        self.total += labels.numel()

    def compute(self) -> Tensor:
        """The share of samples classified rightly after each step, float64 `[T]`."""
        self.samples = int(self.total)
        return self.correct.double() / self.total

    def curve(self) -> list[float]:
        """`compute` as T numbers; torchmetrics makes a scalar of one that has a single step."""
        return [float(share) for share in self.compute().reshape(-1)]
