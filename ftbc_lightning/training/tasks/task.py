"""What a task is: all that a module, its subcommands and its files ask of one."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from ftbc_lightning.report.measure import Measure
from ftbc_lightning.training.metrics import StepMetric


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

    def truth(self, labels: Tensor | None, outputs: Tensor) -> Tensor:
        """What networks are held to: the labels, or without any the ANN's answers.

        Args:
            labels: Of a batch; None where it has none.
            outputs: Of the ANN, `[B, ...]`.
        """
        return self.answers(outputs) if labels is None else labels

    @abstractmethod
    def answers(self, outputs: Tensor) -> Tensor:
        """What outputs `[B, ...]` say, in the form of labels."""

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
        """What is predicted after each step, each `[T, B, ...]`.

        Args:
            outputs: `[T, B, outputs]`.
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
