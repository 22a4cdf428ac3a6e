"""What a task is: all that a module, its subcommands and its files ask of one."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ftbc_lightning.errors import UserError
from ftbc_lightning.graph.propagation import prepared
from ftbc_lightning.report.measure import Measure
from ftbc_lightning.training.metrics import StepMetric

COUNTS = {
    "num_classes": ("classes", "classification"),
    "num_outputs": ("real targets", "regression"),
    "num_labels": ("several labels", "multilabel"),
}
"""By what a data module says how many outputs it asks for: what samples have, and their task."""


class Task(ABC):
    """What a network is trained for and judged by.

    Attributes:
        against_labels: How the figure that networks are compared by is called, written and judged;
            one of `ftbc_lightning.report.measure.MEASURES`.
        against_ann: The same where samples have no labels, and the ANN's answers stand for them.
        labelled: Whether the samples have labels.

    Args:
        ann: The network.
        label_smoothing: Of the cross entropy, 0 to 1.
    """

    against_labels: ClassVar[Measure]
    against_ann: ClassVar[Measure]
    labelled = True

    @abstractmethod
    def __init__(self, ann: nn.Module, *, label_smoothing: float = 0.0) -> None: ...

    @property
    def measure(self) -> Measure:
        """What networks are compared by."""
        return self.against_labels if self.labelled else self.against_ann

    def truth(self, labels: Tensor | None, images: Tensor, ann: nn.Module) -> Tensor:
        """What networks are held to: the labels, or where there are none what the ANN says.

        Args:
            labels: Of a batch, or None.
            images: `[B, ...]`.
            ann: The network; asked only where there are no labels.
        """
        if labels is not None:
            return labels
        with torch.no_grad():
            outputs = ann(prepared(images, next(ann.parameters())))
        return self.answers(outputs, images)

    @abstractmethod
    def answers(self, outputs: Tensor, images: Tensor) -> Tensor:
        """What the ANN says, in the form of labels: what networks are held to without any.

        Args:
            outputs: Of the ANN, `[B, outputs]`.
            images: `[B, ...]`, what the outputs are of.
        """

    @abstractmethod
    def loss(self, outputs: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        """What training lowers."""

    def evaluation_loss(self, outputs: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        """What is logged of an evaluation."""
        return self.loss(outputs, labels, images)

    @abstractmethod
    def divergence(
        self, outputs: Tensor, wanted: Tensor, images: Tensor, *, temperature: float
    ) -> Tensor:
        """How far outputs are from those of the ANN: what fine-tuning lowers without labels."""

    @abstractmethod
    def metric(self, timesteps: int) -> StepMetric:
        """The measure after each of T steps; an ANN has one."""

    def judge(self, metric: StepMetric, outputs: Tensor, labels: Tensor, images: Tensor) -> None:
        """Add a batch to a metric.

        Args:
            metric: From `metric`.
            outputs: `[T, B, outputs]`.
            labels: `[B]` or `[B, outputs]`.
            images: `[B, ...]`, what the outputs are of.
        """
        metric.update(outputs, labels)

    @abstractmethod
    def outputs_of(self, data: Any) -> int | None:
        """How many outputs a data module asks for; None if it does not say.

        Raises:
            UserError: Its samples are for another task.
        """

    @abstractmethod
    def check_outputs(self, shape: Sequence[int], wanted: int | None, *, name: str) -> None:
        """Raise `UserError` unless a network fits the task and the data.

        Args:
            shape: Of the outputs for one input.
            wanted: From `outputs_of`.
            name: Of the network, for the message.
        """

    @abstractmethod
    def predictions(self, outputs: Tensor, images: Tensor) -> dict[str, Tensor]:
        """What is predicted after each step, `[T, B, ...]`, or after the last alone, `[1, B, ...]`.

        Args:
            outputs: `[T, B, outputs]`, or `[T, B, classes, H, W]`.
            images: `[B, ...]`.
        """

    @abstractmethod
    def check_early_exit(self) -> None:
        """Raise `UserError` where a sample cannot stop before the last step."""

    @abstractmethod
    def write(
        self,
        path: Path,
        predictions: dict[str, Tensor],
        names: Sequence[str],
        classes: Sequence[str] | None,
    ) -> None:
        """Write the CSV file of `ftbc predict`.

        Args:
            path: The file.
            predictions: From `ftbc_lightning.report.predictions.join`.
            names: The sample of each.
            classes: Names of the classes, if there are any.
        """

    @abstractmethod
    def summary(self, predictions: dict[str, Tensor]) -> str:
        """One line on predictions: samples, steps, and how good they are where that is known."""


def count_in(data: Any, name: str) -> int | None:
    """How many outputs a data module asks for.

    Args:
        data: The data module.
        name: One of `COUNTS`, the attribute that says it.

    Returns:
        The number, or None if the data module does not say.

    Raises:
        UserError: Its samples are for another task.
    """
    found: int | None = getattr(data, name, None) or None
    others = (other for other in COUNTS if getattr(data, other, None))
    if found is None and (other := next(others, None)) is not None:
        there, task = COUNTS[other]
        raise UserError(
            f"{type(data).__name__} has {there} and no {COUNTS[name][0]}; give --model.task {task}."
        )
    return found


def refuse_early_exit(why: str) -> None:
    """Raise `UserError`: a sample of this task cannot stop before the last step.

    Args:
        why: The second half of the sentence.
    """
    raise UserError(
        f"early_exit stops a sample when the network is sure of its class; {why}. Leave it out, "
        "and choose fewer steps with --at."
    )
