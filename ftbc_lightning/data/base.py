"""What every data set shares: splits, loaders and the calibration draw."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence, Sized
from typing import Any, Literal, cast

import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, Subset

from ftbc_lightning.data.epochs import Drawn, Shuffled
from ftbc_lightning.data.shares import Share, batches_of
from ftbc_lightning.errors import UserError

Split = Literal["train", "test"]
Batch = tuple[Tensor, Tensor]


class DividedDataModule(LightningDataModule, ABC):
    """Train, validation, test and calibration loaders over one data set, whatever the task.

    The training split is divided once into a part that trains and a part that validates.
    Calibration samples are drawn from the part that trains, with the transforms of evaluation:
    neither validation nor test samples ever choose anything.

    A subclass sets `input_shape` in `__init__`, and answers `dataset`, and `divided` where not all
    samples are alike. It takes the settings below as `**settings` and hands them on; one that has
    another default there it names, without a text.

    Attributes:
        input_shape: Shape of one input, `(C, H, W)`.
        division_seed: Of the division alone, `seed` at first: whoever evaluates a trained network
            sets it to that of the training, before `setup`.

    Args:
        batch_size: Samples in a batch of one process.
        num_workers: Processes that load; 0 loads in the main process.
        validation_fraction: Share of the training split that validates, above 0 and below 1.
        calibration_samples: How many samples calibrate, over all processes.
        seed: Of division, calibration draw, order and augmentation; 0 if None.
        labelled: Whether samples have labels; without them networks are compared by how near they
            are to the ANN.

    Raises:
        UserError: A setting is out of range.
    """

    input_shape: tuple[int, ...]

    def __init__(
        self,
        *,
        batch_size: int = 128,
        num_workers: int = 0,
        validation_fraction: float = 0.1,
        calibration_samples: int = 512,
        seed: int | None = None,
        labelled: bool = True,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise UserError(f"batch_size is {batch_size}; it must be at least 1.")
        if num_workers < 0:
            raise UserError(f"num_workers is {num_workers}; it must be 0 or more.")
        if not 0 < validation_fraction < 1:
            raise UserError(
                f"validation_fraction is {validation_fraction}; it must lie between 0 and 1."
            )
        if calibration_samples < 1:
            raise UserError(
                f"calibration_samples is {calibration_samples}: the calibration set is empty; "
                "at least 1 sample is needed."
            )
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.validation_fraction = validation_fraction
        self.calibration_samples = calibration_samples
        self.seed = 0 if seed is None else seed
        self.division_seed = self.seed
        self.labelled = labelled
        self._is_set_up = False

    def divided(self) -> tuple[list[int], list[int]]:
        """Indices of the training split that train, and those that validate.

        By default a share that is drawn from all samples alike.

        Raises:
            UserError: The targets are not those of the task, or there are too few samples.
        """
        samples = cast(Sized, self.dataset("train", augmented=False))
        return self.shared_out([torch.arange(len(samples))])

    @abstractmethod
    def dataset(self, split: Split, *, augmented: bool) -> Dataset[Any]:
        """The samples of a split, with training transforms if `augmented`."""

    def check_available(self) -> None:
        """Download where the user asked for it, and raise `UserError` where data is missing."""

    def prepare_data(self) -> None:
        """Make sure that the data is there."""
        self.check_available()

    def setup(self, stage: str | None = None) -> None:
        """Divide the training split; done once, whatever the stage."""
        if self._is_set_up:
            return
        self.train_indices, self.validation_indices = self.divided()
        plain = self.dataset("train", augmented=False)
        augmented = self.dataset("train", augmented=True)
        self.train_set = Drawn(augmented, self.train_indices, seed=self.seed)
        self.calibration_pool = Subset(plain, self.train_indices)
        self.validation_set = Subset(plain, self.validation_indices)
        self.test_set = self.dataset("test", augmented=False)
        self._is_set_up = True

    def shared_out(self, groups: Iterable[Tensor]) -> tuple[list[int], list[int]]:
        """Indices that train and indices that validate: the same share of each group.

        Args:
            groups: The indices of the samples of each.

        Raises:
            UserError: There are too few samples.
        """
        generator = torch.Generator().manual_seed(self.division_seed)
        train: list[int] = []
        validation: list[int] = []
        for members in groups:
            members = members[torch.randperm(len(members), generator=generator)]
            count = round(len(members) * self.validation_fraction)
            validation += members[:count].tolist()
            train += members[count:].tolist()
        if not train or not validation:
            raise UserError(
                f"{len(train) + len(validation)} training samples cannot be divided into a part "
                f"that trains and a validation part of {self.validation_fraction}; give more "
                "samples."
            )
        return sorted(train), sorted(validation)

    def train_dataloader(self) -> Iterable[Batch]:
        """Augmented training samples in random order."""
        return self._loader(self.train_set, shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        """Validation samples."""
        return self._loader(self.validation_set)

    def test_dataloader(self) -> DataLoader[Any]:
        """Test samples."""
        return self._loader(self.test_set)

    def predict_dataloader(self) -> DataLoader[Any]:
        """Test samples."""
        return self._loader(self.test_set)

    def calibration_dataloader(self, *, seed: int | None = None) -> DataLoader[Any]:
        """This process's share of the calibration samples, in a fixed order.

        The draw depends on the seed alone, and a batch holds the same samples however many
        processes share it: rank r of W takes every W-th of each batch from the r-th on. Every
        sample is used; shares may differ by one in each batch, and may be empty.

        Args:
            seed: Of the draw; the data module's own if None.

        Raises:
            UserError: There are fewer training samples than asked for.
        """
        self.prepare_data()
        self.setup()
        available, wanted = len(self.train_indices), self.calibration_samples
        if wanted > available:
            raise UserError(
                f"calibration_samples is {wanted}, but the training part has {available}; "
                "ask for fewer."
            )
        generator = torch.Generator().manual_seed(self.seed if seed is None else seed)
        drawn = torch.randperm(available, generator=generator)[:wanted].tolist()
        rank, world = self._process()
        shares = batches_of(drawn, batch_size=self.batch_size, rank=rank, world=world)
        return DataLoader(
            self.calibration_pool,
            batch_sampler=shares,
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
            collate_fn=self.collate_fn,
            generator=torch.Generator(),
        )

    @property
    def collate_fn(self) -> Callable[[Any], tuple[Tensor, Tensor | None]]:
        """Makes a batch of what is evaluated."""
        return collate if self.labelled else without_labels

    def _process(self) -> tuple[int, int]:
        """The rank of this process and how many there are."""
        trainer = self.trainer
        return (trainer.global_rank, trainer.world_size) if trainer else (0, 1)

    def training_device(self) -> torch.device:
        """The device of the trainer; the CPU while there is none."""
        return self.trainer.strategy.root_device if self.trainer else torch.device("cpu")

    def _loader(
        self,
        samples: Dataset[Any],
        *,
        shuffle: bool = False,
        batch_size: int | None = None,
        pin_memory: bool | None = None,
    ) -> DataLoader[Any]:
        if len(cast(Sized, samples)) == 0:
            raise UserError(f"{type(self).__name__} has a split without samples.")
        rank, world = self._process()
        sampler: Sampler[Any] | None = None
        if shuffle:
            sampler = Shuffled(samples, rank=rank, world=world, seed=self.seed)
        elif world > 1:
            sampler = Share(samples, rank=rank, world=world)
        return DataLoader(
            samples,
            batch_size=batch_size or self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available() if pin_memory is None else pin_memory,
            collate_fn=collate if shuffle else self.collate_fn,
            # of its own, so that a loader takes no random number from the training
            generator=torch.Generator(),
        )


class ClassificationDataModule(DividedDataModule):
    """A data module of labelled samples, divided class by class.

    A subclass sets `num_classes` and `input_shape` in `__init__`, and answers `labels` and
    `dataset`.

    Attributes:
        num_classes: Number of classes.

    Args:
        settings: Those of `DividedDataModule`.
    """

    num_classes: int

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)

    @abstractmethod
    def labels(self, split: Split) -> Sequence[int]:
        """The class of every sample of a split, in order."""

    def divided(self) -> tuple[list[int], list[int]]:
        """See `divide`, once the labels of the training split are checked."""
        if not self.labelled:
            return super().divided()
        labels = torch.as_tensor(self.labels("train"))
        check_labels(labels, self.num_classes, where=type(self).__name__)
        if bool((labels == labels[0]).all()):
            raise UserError(
                f"{type(self).__name__} has training samples of class {int(labels[0])} alone; at "
                "least two classes are needed."
            )
        return self.divide(labels)

    def divide(self, labels: Tensor) -> tuple[list[int], list[int]]:
        """Indices that train and indices that validate: the same share of each class."""
        classes = range(self.num_classes)
        return self.shared_out((labels == label).nonzero().flatten() for label in classes)


def check_target_shape(targets: Tensor, count: int, *, where: str) -> None:
    """Raise `UserError` unless targets are `[N, count]`."""
    if targets.ndim != 2 or targets.shape[1] != count:
        raise UserError(
            f"{where} has targets of shape {list(targets.shape)}; [samples, {count}] is needed."
        )


def check_labels(labels: Tensor, num_classes: int, *, where: str) -> None:
    """Raise `UserError` if there is no label or one is out of range.

    Args:
        labels: Integers `[N]`.
        num_classes: Labels must run from 0 to one below this.
        where: Named in the message.

    Raises:
        UserError: `labels` is empty or has a value out of range.

    >>> check_labels(torch.tensor([0, 2]), 3, where="samples.npz")
    >>> check_labels(torch.tensor([0, 3]), 3, where="x.npz")
    Traceback (most recent call last):
    ftbc_lightning.errors.UserError: x.npz has labels from 0 to 3, but 3 classes: labels must \
run from 0 to 2.
    """
    if len(labels) == 0:
        raise UserError(f"{where} has no samples.")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        raise UserError(
            f"{where} has labels from {low} to {high}, but {num_classes} classes: labels must "
            f"run from 0 to {num_classes - 1}."
        )


def without_labels(samples: Any) -> tuple[Tensor, None]:
    """A batch of samples alone.

    >>> without_labels([(torch.zeros(3, 2, 2), -1)])[1] is None
    True
    """
    return collate(samples)[0], None


def collate(samples: Any) -> Batch:
    """Pass on what is a batch already; stack single samples.

    >>> images, labels = collate([(torch.zeros(3, 2, 2), 0), (torch.ones(3, 2, 2), 1)])
    >>> images.shape, labels
    (torch.Size([2, 3, 2, 2]), tensor([0, 1]))
    """
    if isinstance(samples, tuple):
        return samples
    images, labels = zip(*samples, strict=True)
    shapes = {tuple(image.shape) for image in images}
    if len(shapes) > 1:
        raise UserError(
            f"Samples of one batch have different shapes ({', '.join(map(str, sorted(shapes)))});"
            " give data.image_size."
        )
    targets = torch.stack(labels) if isinstance(labels[0], Tensor) else torch.tensor(labels)
    return torch.stack(images), targets
