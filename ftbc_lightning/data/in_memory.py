"""Data sets that fit into memory: whole batches are indexed and transformed at once."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from ftbc_lightning.data.base import Batch
from ftbc_lightning.data.transforms import Transform


class InMemorySamples(Dataset[Batch]):
    """Samples and labels as tensors.

    Args:
        images: `[N, C, H, W]`, uint8 or float.
        labels: int64 `[N]`.
        augment: Applied to a batch of raw samples, a new draw for each.
        prepare: Applied after it, the same for all.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        augment: Transform | None = None,
        prepare: v2.Transform | None = None,
    ) -> None:
        self.images, self.labels = images, labels
        self.augment, self.prepare = augment, prepare

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Batch:
        images, labels = self.__getitems__([index])
        return images[0], labels[0]

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """A batch, asked for by torch's loader."""
        chosen = torch.as_tensor(indices)
        images = self.images[chosen]
        if self.augment is not None:
            images = self.augment(images)
        return (images if self.prepare is None else self.prepare(images)), self.labels[chosen]
