"""What networks are compared by, after every time step, as one metric."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torchmetrics import MeanSquaredError, Metric

from ftbc_lightning.data.dense_classification import IGNORED
from ftbc_lightning.errors import UserError


def step_accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """How many samples are classified rightly after each step.

    Args:
        logits: `[T, B, classes]`.
        labels: `[B]`.

    Returns:
        Counts, int64 `[T]`.

    Raises:
        UserError: There is not one class for each sample.

    >>> step_accuracy(torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]]]), torch.tensor([1])).tolist()
    [1, 0]
    """
    return (logits.argmax(-1) == classes_like(logits[0], labels)).sum(-1)


def classes_like(outputs: Tensor, labels: Tensor) -> Tensor:
    """The class of every sample, once it fits the outputs.

    Args:
        outputs: `[B, classes]`.
        labels: `[B]`.

    Raises:
        UserError: There is not one class for each sample.
    """
    if labels.shape != outputs.shape[:1]:
        raise UserError(
            f"The network returns {list(outputs.shape)}, but the labels are {list(labels.shape)}; "
            "one class for each sample, [B], is needed."
        )
    return labels


def targets_like(outputs: Tensor, targets: Tensor) -> Tensor:
    """Targets, float32, in the shape of the outputs.

    Args:
        outputs: `[B, outputs]`.
        targets: `[B, outputs]`, or `[B]` if there is one output.

    Raises:
        UserError: A sample has more or fewer targets than outputs.

    >>> targets_like(torch.zeros(2, 1), torch.tensor([3, 4])).tolist()
    [[3.0], [4.0]]
    """
    if targets.numel() != outputs.numel():
        raise UserError(
            f"The network returns {list(outputs.shape)}, but the targets are "
            f"{list(targets.shape)}; each sample needs as many targets as outputs."
        )
    return targets.reshape(outputs.shape).float()


def places_like(outputs: Tensor, labels: Tensor) -> Tensor:
    """The class of every place, int64, once it fits the outputs.

    Args:
        outputs: `[B, classes, H, W]`.
        labels: Integers `[B, H, W]`, from 0 to one below the number of classes, or 255 where a
            place is left out.

    Raises:
        UserError: The shapes do not fit, labels are no integers, or one is out of range.

    >>> places_like(torch.zeros(1, 2, 1, 3), torch.tensor([[[0, 1, 255]]], dtype=torch.uint8))
    tensor([[[  0,   1, 255]]])
    """
    fits = outputs.ndim == 4 and labels.shape == (len(outputs), *outputs.shape[2:])
    if not fits or labels.is_floating_point() or labels.is_complex():
        kind = str(labels.dtype).removeprefix("torch.")
        raise UserError(
            f"The network returns {list(outputs.shape)}, but the labels are {kind} "
            f"{list(labels.shape)}; outputs [B, classes, H, W] and an integer for each place, "
            "[B, H, W], are needed."
        )
    wanted, classes = labels.long(), outputs.shape[1]
    wrong = ((wanted < 0) | (wanted >= classes)) & (wanted != IGNORED)
    if wrong.any():
        found = ", ".join(map(str, sorted(set(wanted[wrong].tolist()))[:5]))
        raise UserError(
            f"There are labels {found}, but the network has {classes} classes: labels must run "
            f"from 0 to {classes - 1}, or be {IGNORED} where a place is left out."
        )
    return wanted


class StepMetric(Metric, ABC):
    """A figure after each of T steps; merges over processes by adding sums.

    Attributes:
        samples: Over how many samples of all processes `compute` was taken last.
    """

    full_state_update = False
    samples = 0

    @abstractmethod
    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Add a batch: outputs `[T, B, ...]`, and targets `[B, ...]` that fit the task."""

    @abstractmethod
    def compute(self) -> Tensor:
        """The figure after each step, `[T]`; a scalar if T is 1."""

    def curve(self) -> list[float]:
        """`compute` as T numbers; torchmetrics makes a scalar of one that has a single step."""
        return [float(value) for value in self.compute().reshape(-1)]


class StepAccuracy(StepMetric):
    """Accuracy after each of T steps.

    Args:
        timesteps: T; 1 for an ANN.
    """

    correct: Tensor
    total: Tensor

    def __init__(self, *, timesteps: int) -> None:
        super().__init__()
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


class StepF1(StepMetric):
    """F1 over all labels together (micro) after each of T steps: 2 hits / (said + true).

    A label is said where its logit is above 0. Where none is said and none is true it is 0.

    Args:
        timesteps: T; 1 for an ANN.

    >>> metric = StepF1(timesteps=2)
    >>> steps = torch.tensor([[[1.0, 1.0, -1.0]], [[1.0, -1.0, -1.0]]])
    >>> metric.update(steps, torch.tensor([[1, 0, 0]]))
    >>> [round(score, 4) for score in metric.curve()]
    [0.6667, 1.0]
    """

    hits: Tensor
    said: Tensor
    true: Tensor
    seen: Tensor

    def __init__(self, *, timesteps: int) -> None:
        super().__init__()
        for name in ("hits", "said"):
            self.add_state(name, torch.zeros(timesteps, dtype=torch.long), dist_reduce_fx="sum")
        for name in ("true", "seen"):
            self.add_state(name, torch.tensor(0), dist_reduce_fx="sum")

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Add a batch: logits `[T, B, labels]`, targets `[B, labels]`, 1 where a label holds."""
        true, said = targets_like(logits[0], targets) > 0.5, logits > 0
        self.hits += (said & true).flatten(1).sum(1)
        self.said += said.flatten(1).sum(1)
        self.true += true.sum()
        self.seen += len(targets)

    def compute(self) -> Tensor:
        """The score after each step, float64 `[T]`."""
        self.samples = int(self.seen)
        return 2 * self.hits.double() / (self.said + self.true).clamp_min(1)


class StepRMSE(StepMetric, MeanSquaredError):
    """Root mean squared error after each of T steps, over all samples and outputs.

    torchmetrics' own for T outputs: the steps stand in their place.

    Args:
        timesteps: T; 1 for an ANN.

    >>> metric = StepRMSE(timesteps=2)
    >>> metric.update(torch.tensor([[[3.0], [4.0]], [[1.0], [1.0]]]), torch.tensor([0.0, 0.0]))
    >>> [round(error, 4) for error in metric.curve()]
    [3.5355, 1.0]
    """

    seen: Tensor

    def __init__(self, *, timesteps: int) -> None:
        super().__init__(squared=False, num_outputs=timesteps)
        self.add_state("seen", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Add a batch: outputs `[T, B, outputs]`, targets `[B, outputs]` or `[B]`."""
        wanted = targets_like(outputs[0], targets).reshape(-1, 1)
        found = outputs.float().flatten(1).T.contiguous()
        MeanSquaredError.update(self, found, wanted.expand_as(found).contiguous())
        self.seen += len(targets)

    def compute(self) -> Tensor:
        """The error after each step, float32 `[T]`; a scalar if T is 1."""
        self.samples = int(self.seen)
        return MeanSquaredError.compute(self)


class StepR2(StepMetric):
    """Coefficient of determination after each of T steps, over all samples and outputs.

        R2 = 1 - sum (y - target)^2 / sum (target - mean of all targets)^2

    In float64, for targets that are large beside their differences. NaN where all targets are the
    same.

    Args:
        timesteps: T; 1 for an ANN.

    >>> metric = StepR2(timesteps=2)
    >>> metric.update(torch.tensor([[[1.0], [3.0]], [[1.0], [2.0]]]), torch.tensor([1.0, 3.0]))
    >>> metric.curve()
    [1.0, 0.5]
    """

    missed: Tensor
    total: Tensor
    squares: Tensor
    count: Tensor
    seen: Tensor

    def __init__(self, *, timesteps: int) -> None:
        super().__init__()
        self.add_state("missed", torch.zeros(timesteps, dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("total", "squares"):
            self.add_state(name, torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("count", "seen"):
            self.add_state(name, torch.tensor(0), dist_reduce_fx="sum")

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Add a batch: outputs `[T, B, outputs]`, targets `[B, outputs]` or `[B]`."""
        wanted = targets_like(outputs[0], targets).double()
        self.missed += (outputs.double() - wanted).square().flatten(1).sum(1)
        self.total += wanted.sum()
        self.squares += wanted.square().sum()
        self.count += wanted.numel()
        self.seen += len(targets)

    def compute(self) -> Tensor:
        """R2 after each step, float64 `[T]`."""
        self.samples = int(self.seen)
        spread = self.squares - self.total.square() / self.count
        return 1 - self.missed / spread.where(spread > 0, torch.nan)


class StepMeanIoU(StepMetric):
    """Mean intersection over union after each of T steps, over all places of all samples.

        IoU[t, k] = |found k and labelled k| / |found k or labelled k|,   mIoU[t] = mean over k

    Places are counted over all samples before anything is divided. A class that is neither found
    nor labelled anywhere does not enter the mean: torchmetrics' `MulticlassJaccardIndex` of each
    step. Its confusion matrix would need the number of classes before the first batch, and would
    wait for the device at each step; here all steps are counted at once.

    Args:
        timesteps: T; 1 for an ANN.

    >>> metric = StepMeanIoU(timesteps=2)
    >>> labels = torch.tensor([[[0, 0, 1, 255]]])
    >>> first, last = torch.tensor([[[0, 1, 1, 1]]]), torch.tensor([[[0, 0, 1, 1]]])
    >>> steps = [torch.nn.functional.one_hot(found).movedim(-1, 1) for found in (first, last)]
    >>> metric.update(torch.stack(steps), labels)
    >>> metric.curve()
    [0.5, 1.0]
    """

    found: Tensor
    labelled: Tensor
    right: Tensor
    seen: Tensor

    def __init__(self, *, timesteps: int) -> None:
        super().__init__()
        by_step = torch.zeros(timesteps, IGNORED + 1, dtype=torch.long)
        self.add_state("found", by_step, dist_reduce_fx="sum")
        self.add_state("labelled", by_step[0].clone(), dist_reduce_fx="sum")
        self.add_state("right", by_step.clone(), dist_reduce_fx="sum")
        self.add_state("seen", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, outputs: Tensor, labels: Tensor) -> None:
        """Add a batch: outputs `[T, B, classes, H, W]`, labels `[B, H, W]`."""
        wanted = places_like(outputs[0], labels).flatten()
        found = outputs.argmax(2).flatten(1)
        found = found.where(wanted != IGNORED, IGNORED)  # the last column is read by nobody
        one = torch.ones_like(found)
        self.found.scatter_add_(1, found, one)
        self.right.scatter_add_(1, found.where(found == wanted, IGNORED), one)
        self.labelled.scatter_add_(0, wanted, one[0])
        self.seen += len(labels)

    def compute(self) -> Tensor:
        """The mean over the classes after each step, float64 `[T]`; NaN without a place."""
        self.samples = int(self.seen)
        union = self.found + self.labelled - self.right
        return (self.right.double() / union)[:, :IGNORED].nanmean(1)
