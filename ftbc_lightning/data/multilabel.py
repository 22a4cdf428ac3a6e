"""Samples with several labels, each of which holds or not."""

from abc import abstractmethod
from typing import Any

from torch import Tensor

from ftbc_lightning.data.base import DividedDataModule, Split, check_target_shape
from ftbc_lightning.errors import UserError


class MultilabelDataModule(DividedDataModule):
    """A data module of samples that have any number of labels, divided at random.

    A subclass sets `num_labels` and `input_shape` in `__init__`, and answers `targets` and
    `dataset`. With `class_names` set, `ftbc predict` calls the labels so.

    Attributes:
        num_labels: How many labels there are.

    Args:
        settings: Those of `DividedDataModule`.
    """

    num_labels: int

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)

    @abstractmethod
    def targets(self, split: Split) -> Tensor:
        """1 where a label holds, else 0, of every sample of a split in order, `[N, labels]`."""

    def divided(self) -> tuple[list[int], list[int]]:
        """A share that is drawn from all samples alike, once their targets are checked."""
        check_label_targets(self.targets("train"), self.num_labels, where=type(self).__name__)
        return super().divided()


def check_label_targets(targets: Tensor, num_labels: int, *, where: str) -> None:
    """Raise `UserError` unless targets are 0 and 1, `num_labels` for each sample.

    Args:
        targets: `[N, labels]`.
        num_labels: How many there must be for a sample.
        where: Named in the message.

    >>> import torch
    >>> check_label_targets(torch.tensor([[0, 2]]), 2, where="Scenes")
    Traceback (most recent call last):
    ftbc_lightning.errors.UserError: Scenes has targets other than 0 and 1; 1 says that a label \
holds.
    """
    check_target_shape(targets, num_labels, where=where)
    if not ((targets == 0) | (targets == 1)).all():
        raise UserError(f"{where} has targets other than 0 and 1; 1 says that a label holds.")
