"""What a comparison is measured on, and what of it must stay the same."""

from collections.abc import Callable, Iterator, Sized
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from ftbc_lightning.data import DividedDataModule
from ftbc_lightning.errors import UserError
from ftbc_lightning.graph.wrappers import name_of
from ftbc_lightning.report.comparison_rows import digest


class EvaluationSamples:
    """The test split in batches, all of it or a part that is drawn once, with seed 0.

    Attributes:
        count: How many samples.
        described: What they are, for a title.

    Args:
        datamodule: Set up for the test split.
        samples: How many; all if None.
        to_device: Moves a batch.

    Raises:
        UserError: There are not so many.
    """

    def __init__(
        self,
        datamodule: DividedDataModule,
        samples: int | None,
        to_device: Callable[[Any], Any],
    ) -> None:
        self.loader, self.to_device = datamodule.test_dataloader(), to_device
        available = len(cast(Sized, datamodule.test_set))
        self.count = available if samples is None else samples
        if not 1 <= self.count <= available:
            raise UserError(f"samples is {samples}; the test split has {available}.")
        self.described = f"the test split, {available} samples"
        if self.count < available:
            self.described = f"{self.count} of {available} test samples (a quick look)"
            drawn = torch.randperm(available, generator=torch.Generator().manual_seed(0))
            self.loader = DataLoader(
                Subset(datamodule.test_set, drawn[: self.count].tolist()),
                batch_size=datamodule.batch_size,
                collate_fn=self.loader.collate_fn,
            )

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        for batch in self.loader:
            yield self.to_device(batch)


def fixed_by(
    ann: nn.Module, datamodule: DividedDataModule, images: EvaluationSamples
) -> dict[str, Any]:
    """What rows of one file have in common: the ANN, the data, and how it is drawn."""
    return {
        "network": name_of(ann),
        "weights": digest(ann.state_dict().values()),
        "data": type(datamodule).__name__,
        "data_seed": datamodule.division_seed,
        "test_samples": images.count,
        "first_test_samples": digest(part for part in next(iter(images)) if part is not None),
        "training_samples": len(datamodule.train_indices),
        **({} if datamodule.labelled else {"labelled": False}),
        "calibration_samples": datamodule.calibration_samples,
        "batch_size": datamodule.batch_size,
    }
