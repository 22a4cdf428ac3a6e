"""Handwritten digits: 1,797 real 8x8 samples that come inside scikit-learn."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from ftbc_lightning.data.base import ClassificationDataModule, Split
from ftbc_lightning.data.in_memory import InMemorySamples


class DigitsDataModule(ClassificationDataModule):
    """UCI's optical digits, 8x8 grey images on the scale 0 to 1, ten classes.

    A fifth of each class is the test split and, unless told otherwise, a quarter of the rest
    validates: 60, 20 and 20 %.

    Args:
        settings: Those of `ClassificationDataModule`.
    """

    def __init__(
        self, *, batch_size: int = 64, validation_fraction: float = 0.25, **settings: Any
    ) -> None:
        super().__init__(batch_size=batch_size, validation_fraction=validation_fraction, **settings)
        self.num_classes, self.input_shape = 10, (1, 8, 8)
        self.class_names = [str(digit) for digit in range(10)]
        self._samples: dict[Split, InMemorySamples] = {}

    def check_available(self) -> None:
        """Read the samples and divide off the test split."""
        if self._samples:
            return
        from sklearn.datasets import load_digits  # takes a while

        digits = load_digits()
        images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
        labels = torch.tensor(digits.target, dtype=torch.int64)
        generator = torch.Generator().manual_seed(self.division_seed)
        order = torch.randperm(len(labels), generator=generator)
        test = torch.cat([m[: len(m) // 5] for m in (order[labels[order] == c] for c in range(10))])
        is_test = torch.zeros(len(labels), dtype=torch.bool)
        is_test[test] = True
        for split, mask in (("train", ~is_test), ("test", is_test)):
            self._samples[split] = InMemorySamples(images[mask], labels[mask])  # type: ignore[index]

    def labels(self, split: Split) -> Sequence[int]:
        """The class of every sample of a split, in order."""
        self.check_available()
        return self._samples[split].labels.tolist()

    def dataset(self, split: Split, *, augmented: bool) -> Dataset[Any]:
        """The samples of a split; digits are not augmented."""
        self.check_available()
        return self._samples[split]
