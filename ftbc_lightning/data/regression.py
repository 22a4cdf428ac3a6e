"""Samples with real targets: one number, several, or the next values of a series."""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from ftbc_lightning.data.base import DividedDataModule, Split
from ftbc_lightning.errors import UserError


class RegressionDataModule(DividedDataModule):
    """A data module of samples with real targets, divided at random.

    A subclass sets `num_outputs` and `input_shape` in `__init__`, and answers `targets` and
    `dataset`. Where neighbours are alike, as windows of one series are, it answers `divided` too,
    so that what validates does not lie between what trains.

    Attributes:
        num_outputs: How many targets a sample has.

    Args:
        settings: Those of `DividedDataModule`.
    """

    num_outputs: int

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)

    @abstractmethod
    def targets(self, split: Split) -> Tensor:
        """The targets of every sample of a split, in order, `[N, outputs]`."""

    def divided(self) -> tuple[list[int], list[int]]:
        """A share that is drawn from all samples alike."""
        targets = self.targets("train")
        check_targets(targets, self.num_outputs, where=type(self).__name__)
        return self.shared_out([torch.arange(len(targets))])


def check_targets(targets: Tensor, num_outputs: int, *, where: str) -> None:
    """Raise `UserError` unless targets are finite numbers, `num_outputs` for each sample.

    Args:
        targets: `[N, outputs]`.
        num_outputs: How many there must be for a sample.
        where: Named in the message.

    >>> check_targets(torch.zeros(3, 2), 1, where="Prices")
    Traceback (most recent call last):
    ftbc_lightning.errors.UserError: Prices has targets of shape [3, 2]; [samples, 1] is needed.
    """
    if targets.ndim != 2 or targets.shape[1] != num_outputs:
        raise UserError(
            f"{where} has targets of shape {list(targets.shape)}; [samples, {num_outputs}] is "
            "needed."
        )
    if not targets.isfinite().all():
        raise UserError(f"{where} has targets that are NaN or infinite; leave these samples out.")
