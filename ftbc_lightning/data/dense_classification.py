"""Samples with a class for each place, as in semantic segmentation."""

from typing import Any

from ftbc_lightning.data.base import DividedDataModule

IGNORED = 255
"""The label of a place that neither trains nor is judged, as in torchvision's data sets."""


class DenseClassificationDataModule(DividedDataModule):
    """A data module of samples that have a class at each place, divided at random.

    A subclass sets `num_classes` and `input_shape` in `__init__`, and answers `dataset`: pairs of a
    sample `[C, H, W]` and its labels, integers `[H, W]` from 0 to one below `num_classes`, or 255
    where a place is left out. Where neighbours are alike, as frames of one film are, it answers
    `divided` too.

    Attributes:
        num_classes: Number of classes, the background among them.

    Args:
        settings: Those of `DividedDataModule`.
    """

    num_classes: int

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
