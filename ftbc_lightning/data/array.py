"""A user's own samples in one `.npz` file."""

import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ftbc_lightning.data.base import Split, check_labels
from ftbc_lightning.data.normalized import InMemoryDataModule
from ftbc_lightning.data.transforms import NORMALIZATION, Augmentation
from ftbc_lightning.errors import UserError

KEYS = ("train_images", "train_labels", "test_images", "test_labels")

# what numpy raises on a cut or damaged archive, on pickled objects, on an .npy file
UNREADABLE = (zipfile.BadZipFile, zlib.error, ValueError, OSError, EOFError, TypeError)


class ArrayDataModule(InMemoryDataModule):
    """Samples and labels from a NumPy archive.

    The file has `train_images` and `test_images`, uint8 `[N, H, W, C]` or `[N, H, W]`, with
    `train_labels` and `test_labels`, integers `[N]` from 0 on, and may have `classes`, the names.
    It is read without pickle. C is 1 or 3, and one size holds for both splits.

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
        UserError: The file is missing, truncated, or does not hold such arrays.
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
        self.arrays = read_archive(self.path)
        labels = self.arrays["train_labels"]
        names = self.arrays.get("classes")
        self.num_classes = len(names) if names is not None else int(labels.max()) + 1
        self.class_names = [str(n) for n in (range(self.num_classes) if names is None else names)]
        for split in ("train", "test"):
            found = torch.as_tensor(self.arrays[f"{split}_labels"].astype(np.int64))
            check_labels(found, self.num_classes, where=f"{path} ({split}_labels)")
        shape = self.arrays["train_images"].shape[1:]
        self.input_shape = (shape[2], *shape[:2]) if len(shape) == 3 else (1, *shape)
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

    def read(self, split: Split) -> tuple[Tensor, Tensor]:
        """Samples, uint8 `[N, C, H, W]`, and labels, int64 `[N]`."""
        images = torch.from_numpy(self.arrays.pop(f"{split}_images"))
        images = images.permute(0, 3, 1, 2) if images.ndim == 4 else images.unsqueeze(1)
        labels = torch.from_numpy(self.arrays[f"{split}_labels"].astype(np.int64))
        return images.contiguous(), labels


def read_archive(path: Path) -> dict[str, np.ndarray]:
    """Load and check the arrays of a file."""
    if not path.is_file():
        raise UserError(f"There is no file {path}; give a .npz file with --data.path.")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in (*KEYS, "classes") if key in archive}
    except UNREADABLE as error:
        raise UserError(
            f"{path} cannot be read as a .npz file ({type(error).__name__}); it is truncated, "
            "of another kind, or holds Python objects. Write it again with numpy.savez."
        ) from error
    missing = [key for key in KEYS if key not in arrays]
    if missing:
        raise UserError(f"{path} has no {', '.join(missing)}; it needs {', '.join(KEYS)}.")
    for split in ("train", "test"):
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        colour_or_grey = images.ndim == 3 or (images.ndim == 4 and images.shape[3] in (1, 3))
        if images.dtype != np.uint8 or not colour_or_grey:
            raise UserError(
                f"{path}: {split}_images is {images.dtype} {list(images.shape)}; uint8 "
                "[N, H, W, 3], [N, H, W, 1] or [N, H, W] is needed."
            )
        if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
            raise UserError(
                f"{path}: {split}_labels is {labels.dtype} {list(labels.shape)}; integers [N] "
                "are needed."
            )
        if len(images) != len(labels):
            raise UserError(
                f"{path}: {len(images)} {split}_images but {len(labels)} {split}_labels."
            )
        if len(images) == 0:
            raise UserError(f"{path}: {split}_images is empty.")
    found, expected = arrays["test_images"].shape[1:], arrays["train_images"].shape[1:]
    if found != expected:
        raise UserError(
            f"{path}: test_images are {list(found)}, train_images {list(expected)}; both splits "
            "need samples of one shape."
        )
    if "classes" in arrays and arrays["classes"].ndim != 1:
        raise UserError(
            f"{path}: classes has the shape {list(arrays['classes'].shape)}; one name for each "
            "class is needed, [classes]."
        )
    return arrays
