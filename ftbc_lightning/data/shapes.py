"""Shapes: drawn pictures of circles, squares and triangles, with the class of every pixel."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ftbc_lightning.data.base import Split
from ftbc_lightning.data.dense_classification import DenseClassificationDataModule
from ftbc_lightning.data.in_memory import InMemorySamples

SIDE, SHAPES = 32, 3
"""Pixels along a picture, and how many shapes are drawn in it at most."""

COUNTS: dict[Split, int] = {"train": 1600, "test": 400}
"""How many pictures a split has."""


class ShapesDataModule(DenseClassificationDataModule):
    """Noisy grey pictures, 32x32, of one to three shapes; the background is a class of its own.

    Nothing is read: 1,600 pictures for training, of which a quarter validates unless told
    otherwise, and 400 for the test are drawn from the seed.

    Args:
        settings: Those of `DenseClassificationDataModule`.
    """

    def __init__(
        self,
        *,
        batch_size: int = 32,
        validation_fraction: float = 0.25,
        calibration_samples: int = 256,
        **settings: Any,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            validation_fraction=validation_fraction,
            calibration_samples=calibration_samples,
            **settings,
        )
        self.class_names = ["background", "circle", "square", "triangle"]
        self.num_classes, self.input_shape = len(self.class_names), (1, SIDE, SIDE)
        self._samples: dict[Split, InMemorySamples] = {}

    def check_available(self) -> None:
        """Draw the pictures of both splits."""
        if self._samples:
            return
        generator = torch.Generator().manual_seed(self.division_seed)
        for split, count in COUNTS.items():
            self._samples[split] = InMemorySamples(*drawn(count, generator))

    def dataset(self, split: Split, *, augmented: bool) -> Dataset[Any]:
        """The pictures of a split; nothing is augmented."""
        self.check_available()
        return self._samples[split]


def drawn(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw pictures, all at once; a later shape covers those before it.

    Args:
        count: How many.
        generator: Every draw is from it.

    Returns:
        Pictures, float32 `[count, 1, 32, 32]`, and the class of each pixel, int64
        `[count, 32, 32]`: 0 background, 1 circle, 2 square, 3 triangle.

    >>> pictures, labels = drawn(5, torch.Generator().manual_seed(0))
    >>> pictures.shape, labels.unique()
    (torch.Size([5, 1, 32, 32]), tensor([0, 1, 2, 3]))
    """

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, 1, 1, generator=generator)

    labels = torch.zeros(count, SIDE, SIDE, dtype=torch.int64)
    pictures = uniform(-1.2, -0.4).expand(count, SIDE, SIDE)
    for index in range(SHAPES):
        kind = torch.randint(1, 4, (count, 1, 1), generator=generator)
        row, column = uniform(6, SIDE - 7), uniform(6, SIDE - 7)
        size, angle, grey = uniform(6, 10), uniform(-0.3, 0.3), uniform(0.2, 1.6)
        there = uniform(0, 1) < (1.0 if index == 0 else 0.7)
        covered = there & inside(kind, row, column, size, angle)
        labels = torch.where(covered, kind, labels)
        pictures = torch.where(covered, grey, pictures)
    noise = torch.randn(count, SIDE, SIDE, generator=generator)
    return (pictures + 0.15 * noise).unsqueeze(1), labels


def inside(kind: Tensor, row: Tensor, column: Tensor, size: Tensor, angle: Tensor) -> Tensor:
    """Which pixels a shape covers, boolean `[count, 32, 32]`.

    All five arguments are `[count, 1, 1]`.

    Args:
        kind: 1 circle, 2 square, 3 triangle.
        row: Of the centre, in pixels.
        column: Of the centre, in pixels.
        size: From the centre to the rim or to a corner, in pixels.
        angle: By which the shape is turned, in radians.
    """
    pixels = torch.arange(SIDE)
    down, across = pixels[:, None] - row, pixels - column
    y = down * angle.cos() - across * angle.sin()
    x = down * angle.sin() + across * angle.cos()
    circle = x.hypot(y) <= size
    square = torch.maximum(x.abs(), y.abs()) <= size / math.sqrt(2)
    # above the base, and below the two sides, of which each is a turned base
    sides = torch.stack([y, -y / 2 + math.sqrt(3) / 2 * x, -y / 2 - math.sqrt(3) / 2 * x])
    triangle = sides.amax(0) <= size / 2
    return torch.where(kind == 1, circle, torch.where(kind == 2, square, triangle))
