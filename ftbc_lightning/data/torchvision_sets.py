"""CIFAR-10, CIFAR-100 and Fashion-MNIST through torchvision."""

from typing import Any, ClassVar

import torch
from torch import Tensor
from torchvision import datasets

from ftbc_lightning.data.base import Split
from ftbc_lightning.data.normalized import InMemoryDataModule
from ftbc_lightning.data.transforms import NORMALIZATION, Augmentation
from ftbc_lightning.errors import UserError


class TorchvisionDataModule(InMemoryDataModule):
    """A data set that torchvision reads and, if asked to, downloads.

    Args:
        root: The folder with the data set's files.
        download: Fetch them if they are not there.
        settings: Those of `InMemoryDataModule`.

    Raises:
        UserError: The files are missing and were not to be fetched.
    """

    source: ClassVar[Any]
    shape: ClassVar[tuple[int, ...]]
    classes: ClassVar[int]

    def __init__(
        self,
        *,
        root: str = "datasets",
        download: bool = False,
        augmentation: Augmentation = "cifar",
        **settings: Any,
    ) -> None:
        super().__init__(augmentation=augmentation, **settings)
        self.root, self.download = root, download
        self.num_classes, self.input_shape = self.classes, self.shape

    def check_available(self) -> None:
        """Download where the user asked for it, and raise `UserError` where data is missing."""
        if not self._samples:
            self._open("train", download=self.download)

    def read(self, split: Split) -> tuple[Tensor, Tensor]:
        """Samples, uint8 `[N, C, H, W]`, and labels, int64 `[N]`."""
        samples = self._open(split, download=False)
        images = torch.as_tensor(samples.data)
        channels_last = images.ndim == 4
        images = images.permute(0, 3, 1, 2) if channels_last else images.unsqueeze(1)
        return images.contiguous(), torch.as_tensor(samples.targets)

    def _open(self, split: Split, *, download: bool) -> Any:
        try:
            return self.source(self.root, train=split == "train", download=download)
        except (RuntimeError, OSError, EOFError, ValueError) as error:
            raise UserError(
                f"{self.source.__name__} cannot be read from {self.root!r} "
                f"({str(error).splitlines()[0]}). Add --data.download true to fetch it, or give "
                "the folder with --data.root."
            ) from error


class CIFAR10DataModule(TorchvisionDataModule):
    """CIFAR-10 (Krizhevsky, 2009): 60,000 colour images of 32x32, ten classes."""

    source = datasets.CIFAR10
    shape = (3, 32, 32)
    classes = 10
    normalization = NORMALIZATION["cifar10"]


class CIFAR100DataModule(TorchvisionDataModule):
    """CIFAR-100 (Krizhevsky, 2009): 60,000 colour images of 32x32, a hundred classes."""

    source = datasets.CIFAR100
    shape = (3, 32, 32)
    classes = 100
    normalization = NORMALIZATION["cifar100"]


class FashionMNISTDataModule(TorchvisionDataModule):
    """Fashion-MNIST (Xiao et al., 2017): 70,000 grey images of 28x28, ten classes."""

    source = datasets.FashionMNIST
    shape = (1, 28, 28)
    classes = 10
    normalization = ((0.2860,), (0.3530,))
