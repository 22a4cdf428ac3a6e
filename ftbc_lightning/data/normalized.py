"""Shared by data sets of images: normalisation, and for those in memory augmentation."""

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


class NormalizedDataModule(ClassificationDataModule):
    """A data module whose samples are normalised, channel by channel.

    A subclass has `normalization` before this `__init__`.

    Attributes:
        normalization: Mean and standard deviation of each channel where none are given.

    Args:
        mean: Mean of each channel on the scale 0 to 1; the usual one for such samples if None.
        std: Standard deviation of each channel on that scale; the usual one if None.
        settings: Those of `ClassificationDataModule`.

    Raises:
        UserError: Mean or deviation is not one a channel, or a deviation is not above 0.
    """

    normalization: tuple[Sequence[float], Sequence[float]]

    def __init__(
        self, *, mean: list[float] | None = None, std: list[float] | None = None, **settings: Any
    ) -> None:
        super().__init__(**settings)
        own_mean, own_std = self.normalization
        self.mean = list(own_mean if mean is None else mean)
        self.std = list(own_std if std is None else std)
        channels = len(own_mean)
        if not len(self.mean) == len(self.std) == channels or min(self.std) <= 0:
            raise UserError(
                f"mean {self.mean} and std {self.std} must have {channels} "
                f"{'value' if channels == 1 else 'values'} each and std above 0."
            )


class InMemoryDataModule(NormalizedDataModule):
    """A data module whose samples are read once into uint8 tensors.

    A subclass answers `read`. With `num_workers` 0 the training samples lie on the device that
    trains and are augmented there; otherwise the workers do it. Both give the same batches.

    Args:
        augmentation: What training samples go through; "cifar" is the CIFAR recipe.
        settings: Those of `NormalizedDataModule`.
    """

    def __init__(self, *, augmentation: Augmentation = "none", **settings: Any) -> None:
        super().__init__(**settings)
        self.augmentation = augmentation
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
