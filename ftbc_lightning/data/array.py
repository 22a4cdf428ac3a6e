"""A user's own samples in one `.npz` file."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor

from ftbc_lightning.data.archive import read_archive
from ftbc_lightning.data.base import Split
from ftbc_lightning.data.normalized import InMemoryDataModule
from ftbc_lightning.data.transforms import NORMALIZATION


class ArrayDataModule(InMemoryDataModule):
    """Samples and labels from a NumPy archive.

    The file has `train_images` and `test_images`, uint8 `[N, H, W, C]` or `[N, H, W]`, with
    `train_labels` and `test_labels`, integers `[N]` from 0 on, and may have `classes`, the names,
    and `val_images` with `val_labels`, which then validate in place of a share of the training
    samples. It is read without pickle. C is 1 or 3, and one size holds for all splits.

    What people have besides is read where it can be meant in one way, and said in one line: Keras's
    names (`x_train`), channels first, an opaque fourth channel, 16 bits, floats from 0 to 1, labels
    `[N, 1]`, one-hot, as floats or as names.

    Unless `mean` and `std` are given, colour is normalised as CIFAR-10 is, and grey by 0.5 and 0.5.

    Args:
        path: The `.npz` file.
        settings: Those of `InMemoryDataModule`.

    Raises:
        UserError: The file is missing, truncated, or holds arrays that mean nothing or several
            things.
    """

    def __init__(self, *, path: str, **settings: Any) -> None:
        self.path = Path(path)
        self.archive = read_archive(self.path)
        images = self.archive.images
        self.class_names = self.archive.classes
        self.num_classes = len(self.class_names)
        self.input_shape = tuple(images["train"].shape[1:])
        self._say()
        colour = self.input_shape[0] == 3
        self.normalization = NORMALIZATION["cifar10"] if colour else ((0.5,), (0.5,))
        super().__init__(**settings)

    def _say(self) -> None:
        """One line on what was understood, and one on classes that nothing is trained for."""
        images, labels = self.archive.images, self.archive.labels
        understood = list(self.archive.understood)
        if "val" in images:
            understood.append(
                f"its {len(images['val'])} val_images validate, and validation_fraction is not used"
            )
        if understood:
            rank_zero_info(f"{self.path}: {'; '.join(understood)}.")
        counts = labels["train"].bincount(minlength=self.num_classes)
        empty = (counts == 0).nonzero().flatten().tolist()
        if empty:
            first = ", ".join(map(str, empty[:5])) + (", ..." if len(empty) > 5 else "")
            rank_zero_warn(
                f"{self.path}: labels make {self.num_classes} classes, but class {first} has no "
                "training samples. If labels count from 1, subtract 1."
            )

    def divide(self, labels: Tensor) -> tuple[list[int], list[int]]:
        """Indices that train and indices that validate: those of the file if it has both."""
        if "val" not in self.archive.labels:
            return super().divide(labels)
        count = len(self.archive.labels["train"])
        return list(range(count)), list(range(count, len(labels)))

    def read(self, split: Split) -> tuple[Tensor, Tensor]:
        """Samples, uint8 `[N, C, H, W]`, and labels, int64 `[N]`; val_images come last."""
        parts: list[str] = [split]
        if split == "train" and "val" in self.archive.labels:
            parts.append("val")
        images = [self.archive.images.pop(part) for part in parts]
        labels = [self.archive.labels[part] for part in parts]
        joined = images[0] if len(images) == 1 else torch.cat(images)
        return joined, torch.cat(labels)
