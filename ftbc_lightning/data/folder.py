"""Images in folders, one folder a class: ImageNet and a user's own."""

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ftbc_lightning.data.base import Batch, Split
from ftbc_lightning.data.epochs import Drawn
from ftbc_lightning.data.image_file import (
    EXTENSIONS,
    UNDECODABLE,
    files_of,
    listed,
    not_read,
    read_image,
    reason,
    sizes,
    unreadable,
)
from ftbc_lightning.data.in_memory import Batches
from ftbc_lightning.data.normalized import NormalizedDataModule
from ftbc_lightning.data.transforms import (
    NORMALIZATION,
    Normalisation,
    imagenet_crop,
    imagenet_evaluation,
    imagenet_training,
)
from ftbc_lightning.errors import UserError, check_choice

Unreadable = Literal["refuse", "skip"]
CHECKED_FIRST = 20_000
"""Up to so many images are read once before a run begins; of more, all when one is broken."""

SAID = 2_000
"""Of more images it is said that they are read: it takes seconds."""

LARGEST_DEFAULT = 224
"""Side in pixels that larger images are cropped to where no size is given: that of ImageNet."""


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
            return self.transform(read_image(path)), label
        except UNDECODABLE as error:
            others = unreadable(path for path, _ in self.samples)
            raise refusal({path: reason(path, error)} | others) from error


def refusal(reasons: dict[str, str]) -> UserError:
    """What a person is told of images that cannot be read."""
    if len(reasons) == 1:
        ((path, why),) = reasons.items()
        return UserError(f"Image {path} cannot be decoded ({why}); mend or remove it.")
    return UserError(
        f"{len(reasons)} images cannot be decoded: {listed(reasons)}. Mend or remove them, or "
        "leave them out with --data.unreadable skip."
    )


class ImageFolderDataModule(NormalizedDataModule):
    """Any folder of classes: `root/<class>/*`, or `root/train/<class>/*` and `root/test/<class>/*`.

    Without these two folders, `test_fraction` of each class is the test split, drawn with `seed`.

    Images may differ in size and mode: each is turned upright, resized, cropped, made RGB and,
    unless `mean` and `std` are given, normalised as ImageNet is.
    Those that cannot be decoded stop the run, all of them named, or are left out: `unreadable`.
    With `labelled` false folders are no classes: all images in them, however deep, are samples.

    Args:
        root: The folder.
        image_size: Side in pixels that images are cropped to; the median of their shorter sides,
            at most 224, if None.
        test_fraction: Share of each class that tests, where root holds the classes themselves.
        unreadable: "refuse" images that cannot be decoded, or "skip" them: every image is then
            read once before the run begins, and the skipped ones are named.
        settings: Those of `NormalizedDataModule`.

    Raises:
        UserError: The folder is missing, or has no class folders or images.
    """

    train_folder, test_folder = "train", "test"
    classes_in_root = True
    own_size: ClassVar[int | None] = None
    normalization = NORMALIZATION["imagenet"]

    def __init__(
        self,
        *,
        root: str,
        image_size: int | None = None,
        test_fraction: float = 0.2,
        unreadable: Unreadable = "refuse",
        batch_size: int = 64,
        num_workers: int = 2,
        **settings: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, **settings)
        if not 0 < test_fraction < 1:
            raise UserError(f"test_fraction is {test_fraction}; it must lie between 0 and 1.")
        check_choice("unreadable", unreadable, get_args(Unreadable))
        if image_size is not None and image_size < 1:
            raise UserError(f"image_size is {image_size}; it must be at least 1 pixel.")
        self.root, self.test_fraction = Path(root), test_fraction
        self.unreadable = unreadable
        self.folders = self._folders()
        self.class_names = self.folders if self.labelled else None
        self.num_classes = len(self.folders) if self.labelled else 0
        self._samples: dict[Split, list[tuple[str, int]]] = {}
        self._checked: set[Split] = set()
        self.image_size = image_size or self.own_size or self._size_of_images()
        self.input_shape = (3, self.image_size, self.image_size)

    def _size_of_images(self) -> int:
        """The median of the shorter sides of images, at most 224; said in one line.

        Where test images are not divided off yet, theirs are among them.
        """
        train = self.root / self.train_folder
        folder = train if train.is_dir() else self.root
        found = sizes([p for name in self.folders for p in files_of(folder / name)[0]], 200)
        if not found:
            return LARGEST_DEFAULT
        side = statistics.median_low(min(size) for size in found)
        chosen = min(side, LARGEST_DEFAULT)
        alike = f"{found[0][0]}x{found[0][1]} pixels" if len(set(found)) == 1 else "of mixed sizes"
        rank_zero_info(
            f"Images are read at {chosen}x{chosen} pixels: those in {folder} are {alike}, the "
            f"shorter side {side} in the median. --data.image_size takes another size."
        )
        return chosen

    def _folders(self) -> list[str]:
        """Names of the class folders, read without a look at the images.

        Without labels it is the folder itself.
        """
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
        names = self._classes(folder)
        if not names:
            raise UserError(f"{folder} has no class folders; images go into {folder}/<class>/.")
        return names

    def _scan(self, folder: Path) -> list[tuple[str, int]]:
        classes = self._classes(folder)
        found: list[tuple[str, int]] = []
        others: Counter[str] = Counter()
        if self.labelled:  # else they are samples
            beside = (path for path in folder.iterdir() if path.is_file())
            others.update(path.suffix.lower() or path.name for path in beside)
        empty = []
        for label, name in enumerate(classes):
            paths, unknown = files_of(folder / name)
            found += [(path, label) for path in paths]
            others += unknown
            empty += [] if paths else [name]
        if others:
            rank_zero_info(not_read(folder, others))
        if not found and not self.labelled:
            raise UserError(f"{folder} has no images ({', '.join(EXTENSIONS)}).")
        if empty:
            raise UserError(
                f"Found no valid file for the classes {', '.join(empty)}. Supported extensions "
                f"are: {', '.join(EXTENSIONS)} Looked in {folder}."
            )
        if classes != self.folders:
            raise UserError(
                f"{folder} has {len(classes)} classes, the training folder "
                f"{self.num_classes}; both need the same class folders."
            )
        if self.unreadable == "refuse":
            return found
        skipped = unreadable(path for path, _ in found)
        if skipped:
            rank_zero_warn(
                f"{len(skipped)} of {len(found)} images in {folder} cannot be decoded "
                f"and are skipped: {listed(skipped)}."
            )
        return [sample for sample in found if sample[0] not in skipped]

    def _classes(self, folder: Path) -> list[str]:
        """The names of class folders, in order; one that begins with a dot is another program's."""
        if not self.labelled:
            return [""]
        folders = (entry.name for entry in folder.iterdir() if entry.is_dir())
        return sorted(name for name in folders if not name.startswith("."))

    def train_dataloader(self) -> Iterable[Batch]:
        """Augmented training images in random order, normalised on the device that trains.

        What workers pass on is then a quarter of the bytes, and decoding is most of their work.
        """
        self.check_readable("train")
        device = self.training_device()
        if device.type == "cpu":
            return super().train_dataloader()
        cropped = Images(self.samples("train"), imagenet_crop(self.image_size))
        training = Drawn(cropped, self.train_indices, seed=self.seed)
        return Batches(
            self._loader(training, shuffle=True),
            self.batch_size,
            device=device,
            prepare=Normalisation(self.mean, self.std).to(device),
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """Validation images."""
        self.check_readable("train")
        return super().val_dataloader()

    def test_dataloader(self) -> DataLoader[Any]:
        """Test images."""
        self.check_readable("test")
        return super().test_dataloader()

    def calibration_dataloader(self, *, seed: int | None = None) -> DataLoader[Any]:
        """This process's share of the calibration images; see the base class."""
        self.check_readable("train")
        return super().calibration_dataloader(seed=seed)

    def check_readable(self, split: Split) -> None:
        """Read every image of a split once, where they are not too many.

        Raises:
            UserError: Some cannot be decoded; the first few are named, and the others counted.
        """
        paths = [path for path, _ in self.samples(split)]
        first = self._process()[0] == 0  # the others end with it
        if split in self._checked or self.unreadable == "skip" or len(paths) > CHECKED_FIRST:
            return
        self._checked.add(split)
        if len(paths) > SAID:
            rank_zero_info(f"Reading {len(paths)} images once, to find those that are broken.")
        reasons = unreadable(paths) if first else {}
        if reasons:
            raise refusal(reasons)

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
        for label in range(len(self.folders)):
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


class ImageNetDataModule(ImageFolderDataModule):
    """ImageNet-1k: `root/train/<class>/*` and `root/val/<class>/*`.

    The official validation images are the test split; the validation split is cut out of the
    training images, so that nothing is chosen on the figures that are reported.
    """

    test_folder = "val"
    classes_in_root = False
    own_size = 224
