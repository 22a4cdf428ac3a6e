"""Samples with real targets: one number, several, or the next values of a series."""

from abc import abstractmethod
from typing import Any

from torch import Tensor

from ftbc_lightning.data.base import DividedDataModule, Split, check_target_shape
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
        """A share that is drawn from all samples alike, once their targets are checked."""
        check_targets(self.targets("train"), self.num_outputs, where=type(self).__name__)
        return super().divided()


def check_targets(targets: Tensor, num_outputs: int, *, where: str) -> None:
    """Raise `UserError` unless targets are finite numbers, `num_outputs` for each sample.

    Args:
        targets: `[N, outputs]`.
        num_outputs: How many there must be for a sample.
        where: Named in the message.

    >>> import torch
    >>> check_targets(torch.zeros(3, 2), 1, where="Prices")
    Traceback (most recent call last):
    ftbc_lightning.errors.UserError: Prices has targets of shape [3, 2]; [samples, 1] is needed.
    """
    check_target_shape(targets, num_outputs, where=where)
    if not targets.isfinite().all():
        raise UserError(f"{where} has targets that are NaN or infinite; leave these samples out.")
