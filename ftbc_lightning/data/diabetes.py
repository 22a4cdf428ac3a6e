"""Diabetes: 442 patients that come inside scikit-learn; how the disease goes on is foretold."""

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ftbc_lightning.data.base import Split
from ftbc_lightning.data.in_memory import InMemorySamples
from ftbc_lightning.data.regression import RegressionDataModule


class DiabetesDataModule(RegressionDataModule):
    """Ten measurements of a patient, and how far the disease has gone a year later.

    A fifth is the test split and, unless told otherwise, a quarter of the rest validates: 60, 20
    and 20 %. Measurements and target have mean 0 and deviation 1 over what is not the test split,
    so an error of 1 is that of always saying the mean.

    Args:
        settings: Those of `RegressionDataModule`.
    """

    def __init__(
        self,
        *,
        batch_size: int = 32,
        validation_fraction: float = 0.25,
        calibration_samples: int = 256,
        **settings: Any,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            validation_fraction=validation_fraction,
            calibration_samples=calibration_samples,
            **settings,
        )
        self.num_outputs, self.input_shape = 1, (10,)
        self._samples: dict[Split, InMemorySamples] = {}

    def check_available(self) -> None:
        """Read the samples, divide off the test split, and standardise by the others."""
        if self._samples:
            return
        from sklearn.datasets import load_diabetes  # takes a while

        read = load_diabetes(scaled=False)
        values = torch.tensor(read.data, dtype=torch.float64)
        targets = torch.tensor(read.target, dtype=torch.float64).unsqueeze(1)
        generator = torch.Generator().manual_seed(self.division_seed)
        order = torch.randperm(len(values), generator=generator)
        test, others = order[: len(order) // 5].sort()[0], order[len(order) // 5 :].sort()[0]
        values, targets = (
            ((each - each[others].mean(0)) / each[others].std(0)).float()
            for each in (values, targets)
        )
        self._samples = {
            "train": InMemorySamples(values[others], targets[others]),
            "test": InMemorySamples(values[test], targets[test]),
        }

    def targets(self, split: Split) -> Tensor:
        """The standardised target of every patient of a split, in order, `[N, 1]`."""
        self.check_available()
        return self._samples[split].labels

    def dataset(self, split: Split, *, augmented: bool) -> Dataset[Any]:
        """The patients of a split; nothing is augmented."""
        self.check_available()
        return self._samples[split]
