"""Handwritten digits: 1,797 real 8x8 samples that come inside scikit-learn."""

from collections.abc import Sequence
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch.utils.data import Dataset

from ftbc_lightning.data.base import ClassificationDataModule, Split
from ftbc_lightning.data.in_memory import InMemorySamples


class DigitsDataModule(ClassificationDataModule):
    """UCI's optical digits, 8x8 grey images on the scale 0 to 1, ten classes.

    A fifth of each class is the test split and a quarter of the rest validates: 60, 20 and 20 %.

    Args:
        batch_size: Samples in a batch of one process.
        num_workers: Processes that load; 0 loads in the main process.
        calibration_samples: How many samples calibrate, over all processes.
        seed: Of divisions, calibration draw, order and augmentation; 0 if None.
    """

    def __init__(
        self,
        *,
        batch_size: int = 64,
        num_workers: int = 0,
        calibration_samples: int = 512,
        seed: int | None = None,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            num_workers=num_workers,
            validation_fraction=0.25,
            calibration_samples=calibration_samples,
            seed=seed,
        )
        self.num_classes, self.input_shape = 10, (1, 8, 8)
        self.class_names = [str(digit) for digit in range(10)]
        self._samples: dict[Split, InMemorySamples] = {}

    def check_available(self) -> None:
        """Read the samples and divide off the test split."""
        if self._samples:
            return
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
