"""Images in folders, one folder a class: ImageNet and a user's own."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from lightning.pytorch.utilities import rank_zero_warn
from PIL import UnidentifiedImageError
from PIL.Image import DecompressionBombError
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import default_loader

from ftbc_lightning.data.base import ClassificationDataModule, Split
from ftbc_lightning.data.transforms import NORMALIZATION, imagenet_evaluation, imagenet_training
from ftbc_lightning.errors import UserError, check_choice

Unreadable = Literal["refuse", "skip"]
UNDECODABLE = (OSError, UnidentifiedImageError, DecompressionBombError, SyntaxError, ValueError)
"""What PIL raises on a damaged image."""


class Images(Dataset[tuple[Tensor, int]]):
    """Files with labels, decoded one by one."""

    def __init__(
        self, samples: Sequence[tuple[str, int]], transform: Callable[[Any], Tensor]
    ) -> None:
        self.samples, self.transform = samples, transform

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self.samples[index]
        try:
            image = default_loader(path)
        except UNDECODABLE as error:
            raise UserError(
                f"Image {path} cannot be decoded ({type(error).__name__}); mend or remove it."
            ) from error
        return self.transform(image), label


class ImageFolderDataModule(ClassificationDataModule):
    """Any folder of classes: `root/<class>/*`, or `root/train/<class>/*` and `root/test/<class>/*`.

    Without these two folders, `test_fraction` of each class is the test split, drawn with `seed`.

    Images may differ in size and mode: each is resized, cropped and made RGB. One that cannot be
    decoded stops the run when it is met, or is left out from the start: `unreadable`.

    Args:
        root: The folder.
        image_size: Side in pixels that images are cropped to.
        mean: Mean of each channel on the scale 0 to 1; ImageNet's by default.
        std: Standard deviation of each channel; ImageNet's by default.
        test_fraction: Share of each class that tests, where root holds the classes themselves.
        unreadable: "refuse" images that cannot be decoded, or "skip" them: every image is then
            read once before the run begins, and the skipped ones are named.
        batch_size: Images in a batch of one process.
        num_workers: Processes that load; 0 loads in the main process.
        validation_fraction: Share of the training split that validates.
        calibration_samples: How many images calibrate, over all processes.
        seed: Of divisions, calibration draw, order and augmentation; 0 if None.

    Raises:
        UserError: The folder is missing, or has no class folders or images.
    """

    train_folder, test_folder = "train", "test"
    classes_in_root = True

    def __init__(
        self,
        *,
        root: str,
        image_size: int = 224,
        mean: list[float] | None = None,
        std: list[float] | None = None,
        test_fraction: float = 0.2,
        unreadable: Unreadable = "refuse",
        batch_size: int = 64,
        num_workers: int = 2,
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
        if not 0 < test_fraction < 1:
            raise UserError(f"test_fraction is {test_fraction}; it must lie between 0 and 1.")
        check_choice("unreadable", unreadable, get_args(Unreadable))
        if image_size < 1:
            raise UserError(f"image_size is {image_size}; it must be at least 1 pixel.")
        self.root, self.image_size, self.test_fraction = Path(root), image_size, test_fraction
        own_mean, own_std = NORMALIZATION["imagenet"]
        self.mean = list(own_mean if mean is None else mean)
        self.std = list(own_std if std is None else std)
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise UserError(
                f"mean {self.mean} and std {self.std} must have 3 values each and std above 0."
            )
        self.input_shape = (3, image_size, image_size)
        self.unreadable = unreadable
        self.class_names = self._class_names()
        self.num_classes = len(self.class_names)
        self._samples: dict[Split, list[tuple[str, int]]] = {}

    def _class_names(self) -> list[str]:
        """Names of the class folders, read without a look at the images."""
        if not self.root.is_dir():
            raise UserError(f"There is no folder {self.root}; give one with --data.root.")
        train, test = self.root / self.train_folder, self.root / self.test_folder
        if train.is_dir() != test.is_dir() or not (train.is_dir() or self.classes_in_root):
            missing = test if train.is_dir() else train
            raise UserError(
                f"There is no folder {missing}; {self.root} needs {train.name}/<class>/ and "
                f"{test.name}/<class>/ with images, or give another folder with --data.root."
            )
        folder = train if train.is_dir() else self.root
        names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
        if not names:
            raise UserError(f"{folder} has no class folders; images go into {folder}/<class>/.")
        return names

    def _scan(self, folder: Path) -> list[tuple[str, int]]:
        try:
            found = ImageFolder(folder)
        except FileNotFoundError as error:
            raise UserError(f"{str(error).splitlines()[0]} Looked in {folder}.") from error
        if found.classes != self.class_names:
            raise UserError(
                f"{folder} has {len(found.classes)} classes, the training folder "
                f"{self.num_classes}; both need the same class folders."
            )
        if self.unreadable == "refuse":
            return list(found.samples)
        kept = [sample for sample in found.samples if _is_decodable(sample[0])]
        skipped = sorted({path for path, _ in found.samples} - {path for path, _ in kept})
        if skipped:
            more = f" and {len(skipped) - 5} more" if len(skipped) > 5 else ""
            rank_zero_warn(
                f"{len(skipped)} of {len(found.samples)} images in {folder} cannot be decoded "
                f"and are skipped: {', '.join(skipped[:5])}{more}."
            )
        return kept

    def samples(self, split: Split) -> list[tuple[str, int]]:
        """Files and labels of a split, in order of their names."""
        if not self._samples:
            train, test = self.root / self.train_folder, self.root / self.test_folder
            if train.is_dir():
                self._samples = {"train": self._scan(train), "test": self._scan(test)}
            else:
                self._samples = self._cut_test_off(self._scan(self.root))
        return self._samples[split]

    def _cut_test_off(self, samples: list[tuple[str, int]]) -> dict[Split, list[tuple[str, int]]]:
        labels = np.array([label for _, label in samples])
        order = np.random.default_rng(self.division_seed).permutation(len(samples))
        test: set[int] = set()
        for label in range(self.num_classes):
            members = order[labels[order] == label]
            test |= set(members[: round(len(members) * self.test_fraction)].tolist())
        return {
            "train": [sample for index, sample in enumerate(samples) if index not in test],
            "test": [samples[index] for index in sorted(test)],
        }

    def check_available(self) -> None:
        """Raise `UserError` where folders or images are missing."""
        self.samples("train")

    def labels(self, split: Split) -> Sequence[int]:
        """The class of every image of a split, in order."""
        return [label for _, label in self.samples(split)]

    def dataset(self, split: Split, *, augmented: bool) -> Dataset[Any]:
        """The images of a split, with training transforms if `augmented`."""
        pipeline = imagenet_training if augmented else imagenet_evaluation
        return Images(self.samples(split), pipeline(self.mean, self.std, self.image_size))


def _is_decodable(path: str) -> bool:
    try:
        default_loader(path)
    except UNDECODABLE:
        return False
    return True


class ImageNetDataModule(ImageFolderDataModule):
    """ImageNet-1k: `root/train/<class>/*` and `root/val/<class>/*`.

    The official validation images are the test split; the validation split is cut out of the
    training images, so that nothing is chosen on the figures that are reported.
    """

    test_folder = "val"
    classes_in_root = False
