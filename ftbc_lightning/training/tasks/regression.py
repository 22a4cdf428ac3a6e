"""Regression: squared error, and its root over all samples and outputs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ftbc_lightning.errors import UserError
from ftbc_lightning.report.measure import R2, RMSE
from ftbc_lightning.report.predicted_values import value_summary, write_values
from ftbc_lightning.training.metrics import StepMetric, StepR2, StepRMSE, targets_like
from ftbc_lightning.training.tasks.task import Task, count_in, refuse_early_exit


class Regression(Task):
    """Real numbers for each sample: one, several, or the next values of a series.

    Args:
        ann: The network; it returns `[B, outputs]`.
        label_smoothing: Nothing else than 0.

    Raises:
        UserError: Labels should be smoothed.
    """

    against_labels, against_ann = RMSE, R2

    def __init__(self, ann: nn.Module, *, label_smoothing: float = 0.0) -> None:
        if label_smoothing:
            raise UserError(
                f"label_smoothing is {label_smoothing}, but regression has no classes to smooth; "
                "leave it out."
            )

    def answers(self, outputs: Tensor, images: Tensor) -> Tensor:
        """The outputs themselves."""
        return outputs

    def loss(self, outputs: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        """What training lowers: the mean squared error."""
        return F.mse_loss(outputs.float(), targets_like(outputs, labels))

    def divergence(
        self, outputs: Tensor, wanted: Tensor, images: Tensor, *, temperature: float
    ) -> Tensor:
        """The mean squared distance to the ANN's outputs, whatever the temperature."""
        return F.mse_loss(outputs.float(), wanted.float())

    def metric(self, timesteps: int) -> StepMetric:
        """RMSE, or without targets R2 against the ANN, after each of T steps; an ANN has one."""
        return (StepRMSE if self.labelled else StepR2)(timesteps=timesteps)

    def outputs_of(self, data: Any) -> int | None:
        """How many targets a sample of a data module has; None if it does not say."""
        return count_in(data, "num_outputs")

    def check_outputs(self, shape: Sequence[int], wanted: int | None, *, name: str) -> None:
        """Raise `UserError` unless there is one output for each target of a sample."""
        if len(shape) != 2:
            raise UserError(f"{name} returns {list(shape)} for one input; [1, outputs] is needed.")
        if wanted is not None and shape[1] != wanted:
            raise UserError(
                f"{name} has {shape[1]} outputs, but a sample of the data has {wanted} targets; "
                "both must be the same."
            )

    def predictions(self, outputs: Tensor, images: Tensor) -> dict[str, Tensor]:
        """`value`, the outputs after each step, `[T, B, outputs]`."""
        return {"value": outputs.float()}

    def check_early_exit(self) -> None:
        """Refuse: no confidence says when a value is good enough."""
        refuse_early_exit("regression has no classes")

    def write(
        self,
        path: Path,
        predictions: dict[str, Tensor],
        names: Sequence[str],
        classes: Sequence[str] | None,
    ) -> None:
        """Write the values, see `write_values`."""
        write_values(path, predictions, names)

    def summary(self, predictions: dict[str, Tensor]) -> str:
        """Samples, steps, and the error where targets are known."""
        return value_summary(predictions)
