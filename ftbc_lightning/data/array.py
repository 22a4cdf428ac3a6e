"""A user's own samples in one `.npz` file."""

from pathlib import Path

import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor

from ftbc_lightning.data.archive import read_archive
from ftbc_lightning.data.base import Split
from ftbc_lightning.data.normalized import InMemoryDataModule
from ftbc_lightning.data.transforms import NORMALIZATION, Augmentation


class ArrayDataModule(InMemoryDataModule):
    """Samples and labels from a NumPy archive.

    The file has `train_images` and `test_images`, uint8 `[N, H, W, C]` or `[N, H, W]`, with
    `train_labels` and `test_labels`, integers `[N]` from 0 on, and may have `classes`, the names,
    and `val_images` with `val_labels`, which then validate in place of a share of the training
    samples. It is read without pickle. C is 1 or 3, and one size holds for all splits.

    What people have besides is read where it can be meant in one way, and said in one line: Keras's
    names (`x_train`), channels first, an opaque fourth channel, 16 bits, floats from 0 to 1, labels
    `[N, 1]`, one-hot, as floats or as names.

    Args:
        path: The `.npz` file.
        mean: Mean of each channel on the scale 0 to 1; CIFAR-10's for colour, 0.5 for grey.
        std: Standard deviation of each channel; CIFAR-10's for colour, 0.5 for grey.
        augmentation: What training samples go through; "cifar" is the CIFAR recipe.
        batch_size: Samples in a batch of one process.
        num_workers: Processes that load; 0 loads in the main process.
        validation_fraction: Share of the training split that validates.
        calibration_samples: How many samples calibrate, over all processes.
        seed: Of division, calibration draw, order and augmentation; 0 if None.

    Raises:
        UserError: The file is missing, truncated, or holds arrays that mean nothing or several
            things.
    """

    def __init__(
        self,
        *,
        path: str,
        mean: list[float] | None = None,
        std: list[float] | None = None,
        augmentation: Augmentation = "none",
        batch_size: int = 128,
        num_workers: int = 0,
        validation_fraction: float = 0.1,
        calibration_samples: int = 512,
        seed: int | None = None,
    ) -> None:
        self.path = Path(path)
        self.archive = read_archive(self.path)
        images = self.archive.images
        self.class_names = self.archive.classes
        self.num_classes = len(self.class_names)
        self.input_shape = tuple(images["train"].shape[1:])
        self._say()
        colour = self.input_shape[0] == 3
        own = NORMALIZATION["cifar10"] if colour else ((0.5,) * self.input_shape[0],) * 2
        super().__init__(
            mean=own[0] if mean is None else mean,
            std=own[1] if std is None else std,
            augmentation=augmentation,
            batch_size=batch_size,
            num_workers=num_workers,
            validation_fraction=validation_fraction,
            calibration_samples=calibration_samples,
            seed=seed,
        )

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
