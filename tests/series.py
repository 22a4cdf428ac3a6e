"""A time series for the tests: no sample anywhere.

Cylinder, bell and funnel (Saito, 1994): a plateau, a ramp up and a ramp down of random place,
length and height in white noise.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from ftbc_lightning.data import ClassificationDataModule
from ftbc_lightning.data.base import Split

LENGTH = 64


def cylinder_bell_funnel(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """`count` series `[count, 1, 64]` and their classes: 0 cylinder, 1 bell, 2 funnel."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    start = torch.randint(8, 17, (count, 1), generator=generator)
    length = torch.randint(16, 41, (count, 1), generator=generator)
    height = 6 + torch.randn(count, 1, generator=generator)
    place = (torch.arange(LENGTH) - start) / length
    inside = ((place >= 0) & (place <= 1)).float()
    shapes = torch.stack([torch.ones_like(place), place, 1 - place])
    shape = shapes[labels, torch.arange(count)]
    noise = torch.randn(count, LENGTH, generator=generator)
    return (height * inside * shape + noise).unsqueeze(1), labels


class SeriesDataModule(ClassificationDataModule):
    """1,200 series that train and validate, 300 that test."""

    def __init__(self, *, calibration_samples: int = 256, seed: int = 0) -> None:
        super().__init__(calibration_samples=calibration_samples, seed=seed)
        self.num_classes, self.input_shape = 3, (1, LENGTH)
        self.splits = {
            "train": cylinder_bell_funnel(1200, seed=1),
            "test": cylinder_bell_funnel(300, seed=2),
        }

    def labels(self, split: Split) -> Sequence[int]:
        return self.splits[split][1].tolist()

    def dataset(self, split: Split, *, augmented: bool) -> Dataset[Any]:
        return TensorDataset(*self.splits[split])


class SeriesNetwork(nn.Sequential):
    """Conv1d layers with batch norm, one of them dilated, and a global average."""

    def __init__(self, *, num_classes: int = 3, width: int = 16) -> None:
        super().__init__(
            *(nn.Conv1d(1, width, 7, padding=3, bias=False), nn.BatchNorm1d(width), nn.ReLU()),
            nn.MaxPool1d(2),
            *(nn.Conv1d(width, width, 5, padding=4, dilation=2), nn.BatchNorm1d(width), nn.ReLU6()),
            *(nn.AvgPool1d(2), nn.Conv1d(width, width, 3, groups=4), nn.ReLU()),
            *(nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(width, num_classes)),
        )
