"""The samples that RESULTS.md is measured on: what calibrates and what is counted never meet."""

from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

Normalisation = tuple[tuple[float, ...], tuple[float, ...]]

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CIFAR10 = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
UNCHANGED = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
HELD_OUT = 5000


class Source(Protocol):
    """What a measurement reads of a data set."""

    def calibration(self, count: int, draw: int) -> Tensor:
        """`count` samples that calibrate in this draw, `[count, 3, H, W]`."""
        ...

    def counted(self, chosen: slice, draw: int) -> tuple[Tensor, Tensor]:
        """Some of the samples that accuracy is counted on, and their labels."""
        ...


class CIFARSamples:
    """CIFAR-10 as one `.npz` file.

    "selection" are the last 5,000 of the training part, "test" is the test part; each draw
    calibrates on some of the first 45,000.
    """

    def __init__(self, path: Path, split: str, normalisation: Normalisation):
        self.file = np.load(path)
        self.train = self.file["train_images"]
        self.mean, self.std = (torch.tensor(v).view(3, 1, 1) for v in normalisation)
        part = "test" if split == "test" else "train"
        first = 0 if split == "test" else len(self.train) - HELD_OUT
        self.images = self.file[f"{part}_images"][first:]
        self.labels = torch.from_numpy(self.file[f"{part}_labels"][first:])

    def prepare(self, images: np.ndarray) -> Tensor:
        """Uint8 `[N, H, W, 3]` to what the network reads."""
        return (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std

    def calibration(self, count: int, draw: int) -> Tensor:
        """`count` training samples outside the held-out ones."""
        order = np.random.default_rng(draw).permutation(len(self.train) - HELD_OUT)
        return self.prepare(self.train[np.sort(order[:count])])

    def counted(self, chosen: slice, draw: int) -> tuple[Tensor, Tensor]:
        """Samples of the split; the same in every draw."""
        return self.prepare(self.images[chosen]), self.labels[chosen]


class FolderSamples:
    """A folder for each class, of few samples: each draw cuts them into two halves by chance.

    One half calibrates, accuracy is counted on the other.
    """

    def __init__(self, path: Path, split: str, normalisation: Normalisation):
        if split != "test":
            raise SystemExit("a folder has no selection samples: give --split test")
        prepare = [
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(*normalisation),
        ]
        self.folder = ImageFolder(str(path), transform=v2.Compose(prepare))

    def read(self, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        """These samples and their labels."""
        pairs = [self.folder[int(index)] for index in indices]
        return torch.stack([image for image, _ in pairs]), torch.tensor([n for _, n in pairs])

    def halves(self, draw: int) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the half that calibrates and of the half that is counted."""
        order = np.random.default_rng(draw).permutation(len(self.folder))
        return order[: len(order) // 2], order[len(order) // 2 :]

    def calibration(self, count: int, draw: int) -> Tensor:
        """`count` samples of the first half."""
        return self.read(self.halves(draw)[0][:count])[0]

    def counted(self, chosen: slice, draw: int) -> tuple[Tensor, Tensor]:
        """Samples of the second half."""
        return self.read(self.halves(draw)[1][chosen])
