"""Shared by data sets of uint8 samples in memory: normalisation and augmentation."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ftbc_lightning.data.base import ClassificationDataModule, Split
from ftbc_lightning.data.epochs import Drawn
from ftbc_lightning.data.in_memory import Batches, InMemorySamples
from ftbc_lightning.data.transforms import Augmentation, Normalisation, augmentation
from ftbc_lightning.errors import UserError

ON_DEVICE = 2**31
"""Bytes of training samples that are moved to a device; of more, batches alone are moved."""

BLOCK_SAMPLES, BLOCK_VALUES = 1024, 2**23
"""Batches of training samples are made several at once, up to so many samples and values."""


class InMemoryDataModule(ClassificationDataModule):
    """A data module whose samples are read once into uint8 tensors.

    A subclass answers `read`. With `num_workers` 0 the training samples lie on the device that
    trains and are augmented there; otherwise the workers do it. Both give the same batches.

    Args:
        mean: Mean of each channel on the scale 0 to 1.
        std: Standard deviation of each channel on that scale.
        augmentation: What training samples go through.
        batch_size: Samples in a batch of one process.
        num_workers: Processes that load; 0 loads in the main process.
        validation_fraction: Share of the training split that validates.
        calibration_samples: How many samples calibrate, over all processes.
        seed: Of division, calibration draw, order and augmentation; 0 if None.
    """

    def __init__(
        self,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        augmentation: Augmentation,
        batch_size: int = 128,
        num_workers: int = 0,
        validation_fraction: float = 0.1,
        calibration_samples: int = 512,
        seed: int | None = None,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            num_workers=num_workers,
            validation_fraction=validation_fraction,
            calibration_samples=calibration_samples,
            seed=seed,
        )
        if len(mean) != len(std) or min(std, default=0) <= 0:
            raise UserError(
                f"mean {list(mean)} and std {list(std)} must be equally long and std above 0."
            )
        self.mean, self.std, self.augmentation = mean, std, augmentation
        self._samples: dict[Split, tuple[Tensor, Tensor]] = {}

    @abstractmethod
    def read(self, split: Split) -> tuple[Tensor, Tensor]:
        """Samples, uint8 `[N, C, H, W]`, and labels, int64 `[N]`."""

    def samples(self, split: Split) -> tuple[Tensor, Tensor]:
        """What `read` gives, kept."""
        if split not in self._samples:
            images, labels = self.read(split)
            if images.shape[1:] != self.input_shape:
                raise UserError(
                    f"{type(self).__name__} found {split} samples of shape "
                    f"{list(images.shape[1:])} where {list(self.input_shape)} was expected."
                )
            if len(self.mean) != images.shape[1]:
                raise UserError(
                    f"mean and std have {len(self.mean)} values, the samples "
                    f"{images.shape[1]} channels."
                )
            check = f"{type(self).__name__}, {split} split"
            self._samples[split] = images, torch.as_tensor(labels, dtype=torch.int64)
            if len(images) != len(labels):
                raise UserError(f"{check}: {len(images)} samples but {len(labels)} labels.")
        return self._samples[split]

    def train_dataloader(self) -> Batches:
        """Augmented training samples in random order, on the device that trains if they fit."""
        device = self.training_device() if self._fits() else torch.device("cpu")
        training = self.train_set
        if device.type != "cpu":
            assert isinstance(training.dataset, InMemorySamples)
            training = Drawn(training.dataset.to(device), training.indices, seed=training.seed)
        values = math.prod(self.input_shape)
        fitting = min(BLOCK_SAMPLES, BLOCK_VALUES // values) // self.batch_size
        blocks = self._loader(
            training,
            shuffle=True,
            batch_size=self.batch_size * max(1, fitting),
            pin_memory=torch.cuda.is_available() and device.type == "cpu",
        )
        return Batches(blocks, self.batch_size)

    def _fits(self) -> bool:
        """Say whether the training samples may lie on the device, and no worker needs them."""
        return self.num_workers == 0 and self.samples("train")[0].nbytes <= ON_DEVICE

    def labels(self, split: Split) -> Sequence[int]:
        """The class of every sample of a split, in order."""
        return self.samples(split)[1].tolist()

    def dataset(self, split: Split, *, augmented: bool) -> Dataset[Any]:
        """The samples of a split, with training transforms if `augmented`."""
        images, labels = self.samples(split)
        return InMemorySamples(
            images,
            labels,
            augment=augmentation(self.augmentation) if augmented else None,
            prepare=Normalisation(self.mean, self.std),
        )
