"""What takes the place of a spike's derivative when a spiking network is trained."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ftbc_lightning.errors import UserError, check_choice

Shape = tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]


def _triangle(z: Tensor) -> Tensor:
    return (1 - z.abs()).clamp_min_(0)


def _triangle_sum(z: Tensor) -> Tensor:
    z = z.clamp(-1, 1)
    return 0.5 + z - 0.5 * z * z.abs()


def _arctan(z: Tensor) -> Tensor:
    return 1 / (1 + (math.pi * z).square())


def _arctan_sum(z: Tensor) -> Tensor:
    return 0.5 + torch.atan(math.pi * z) / math.pi


def _sigmoid(z: Tensor) -> Tensor:
    risen = torch.sigmoid(4 * z)
    return 4 * risen * (1 - risen)


def _sigmoid_sum(z: Tensor) -> Tensor:
    return torch.sigmoid(4 * z)


SHAPES: dict[str, Shape] = {
    "triangle": (_triangle, _triangle_sum),
    "arctan": (_arctan, _arctan_sum),
    "sigmoid": (_sigmoid, _sigmoid_sum),
}
"""Every shape by its name: its height at a distance from the threshold, and the area up to there.

Height and area are 1."""


@dataclass(frozen=True)
class Surrogate:
    """A bump around each level of the neuron, in the place of an infinitely high one.

        d s / d u = sum over levels k of g((u - k * theta) / (theta * width)) / (theta * width)

    g has height and area 1. `triangle`: 1 - |z| within -1 .. 1; `arctan`: 1 / (1 + (pi z)^2);
    `sigmoid`: the slope of 1 / (1 + exp(-4 z)). Sources: Bellec et al., NeurIPS 2018 (triangle);
    Fang et al., ICCV 2021 (arctan); Zenke and Ganguli, Neural Computation 2018 (sigmoid).

    Args:
        name: Its shape.
        width: In thresholds, above 0.

    Raises:
        UserError: There is no such shape, or the width is not above 0.

    >>> Surrogate("triangle", 2.0).slope(torch.tensor([-2.0, 0.0, 1.0])).tolist()
    [0.0, 0.5, 0.25]
    """

    name: str = "triangle"
    width: float = 1.0

    def __post_init__(self) -> None:
        """Check the settings."""
        check_choice("surrogate", self.name, SHAPES)
        if not 0 < self.width < math.inf:
            raise UserError(f"The surrogate's width is {self.width}; it must be above 0.")

    def height(self, distance: Tensor) -> Tensor:
        """Height of g at a distance from the middle of the bump, in widths."""
        return SHAPES[self.name][0](distance)

    def slope(self, distance: Tensor) -> Tensor:
        """The slope of a level at a distance from it, in thresholds."""
        return self.height(distance / self.width) / self.width

    def relaxed(self, distance: Tensor) -> Tensor:
        """The level whose slope that is: it rises from 0 to 1, where a spike jumps."""
        return SHAPES[self.name][1](distance / self.width)
