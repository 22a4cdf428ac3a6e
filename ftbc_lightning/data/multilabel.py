"""Samples with several labels, each of which holds or not."""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from ftbc_lightning.data.base import DividedDataModule, Split
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
        """A share that is drawn from all samples alike."""
        targets = self.targets("train")
        check_label_targets(targets, self.num_labels, where=type(self).__name__)
        return self.shared_out([torch.arange(len(targets))])


def check_label_targets(targets: Tensor, num_labels: int, *, where: str) -> None:
    """Raise `UserError` unless targets are 0 and 1, `num_labels` for each sample.

    Args:
        targets: `[N, labels]`.
        num_labels: How many there must be for a sample.
        where: Named in the message.

    >>> check_label_targets(torch.tensor([[0, 2]]), 2, where="Scenes")
    Traceback (most recent call last):
    ftbc_lightning.errors.UserError: Scenes has targets other than 0 and 1; 1 says that a label \
holds.
    """
    if targets.ndim != 2 or targets.shape[1] != num_labels:
        raise UserError(
            f"{where} has targets of shape {list(targets.shape)}; [samples, {num_labels}] is "
            "needed."
        )
    if not ((targets == 0) | (targets == 1)).all():
        raise UserError(f"{where} has targets other than 0 and 1; 1 says that a label holds.")
