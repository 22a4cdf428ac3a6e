"""Data sets that fit into memory: many samples are indexed and transformed at once."""

from collections.abc import Iterator, Sequence, Sized
from typing import Any, Self, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ftbc_lightning.data.base import Batch
from ftbc_lightning.data.transforms import Normalisation, Transform


class InMemorySamples(Dataset[Batch]):
    """Samples and labels as tensors.

    Args:
        images: `[N, C, H, W]`, or `[N, ...]` without transforms; uint8 or float.
        labels: Classes, int64 `[N]` or `[N, H, W]`, or targets, float `[N, outputs]`.
        augment: Applied to a batch of raw samples, a new draw for each.
        prepare: Applied after it, the same for all.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        augment: Transform | None = None,
        prepare: Normalisation | None = None,
    ) -> None:
        self.images, self.labels = images, labels
        self.augment, self.prepare = augment, prepare

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device) -> Self:
        """The same samples on a device, where batches are then made."""
        prepare = None if self.prepare is None else self.prepare.to(device)
        images, labels = self.images.to(device), self.labels.to(device)
        return type(self)(images, labels, augment=self.augment, prepare=prepare)

    def __getitem__(self, index: int) -> Batch:
        images, labels = self.__getitems__([index])
        return images[0], labels[0]

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """A batch, asked for by torch's loader."""
        chosen = torch.as_tensor(indices).to(self.images.device, non_blocking=True)
        images = self.images[chosen]
        if self.augment is not None:
            images = self.augment(images)
        return (images if self.prepare is None else self.prepare(images)), self.labels[chosen]


class Batches:
    """Batches cut out of blocks of several, so that the work of a block is given out once.

    The steps of an augmentation cost a device more to start than to do on a hundred small samples.

    Args:
        blocks: Gives images and labels.
        batch_size: Samples in a batch; it divides those of a block.
        device: Where raw samples are moved to and normalised; where they are if None.
        prepare: Normalises samples on that device.

    >>> blocks = DataLoader(range(10), batch_size=8, collate_fn=lambda n: (torch.tensor(n),) * 2)
    >>> [images.tolist() for images, _ in Batches(blocks, 4)]
    [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    """

    def __init__(
        self,
        blocks: DataLoader[Any],
        batch_size: int,
        *,
        device: torch.device | None = None,
        prepare: Normalisation | None = None,
    ) -> None:
        self.blocks, self.batch_size = blocks, batch_size
        self.device, self.prepare = device, prepare
        self.sampler = blocks.sampler  # Lightning tells it the epoch

    def __iter__(self) -> Iterator[Batch]:
        for images, labels in self.blocks:
            if self.device is not None:
                images = images.to(self.device, non_blocking=True)
                labels = labels.to(self.device, non_blocking=True)
            if self.prepare is not None:
                images = self.prepare(images)
            yield from zip(
                images.split(self.batch_size), labels.split(self.batch_size), strict=True
            )

    def __len__(self) -> int:
        return -(-len(cast(Sized, self.sampler)) // self.batch_size)
