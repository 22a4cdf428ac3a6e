"""Pipelines of torchvision's transforms v2, and the one step it has no batched form of."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor
from torchvision.transforms import v2

Augmentation = Literal["none", "flip_crop", "cifar"]
Transform = Callable[[Tensor], Tensor]

NORMALIZATION = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""Mean and standard deviation of each channel on the scale 0 to 1."""


def evaluation(mean: Sequence[float], std: Sequence[float]) -> v2.Transform:
    """uint8 images `[..., C, H, W]`, one or many, to normalised float32.

    >>> evaluation([0.5], [0.5])(torch.tensor([[[0, 255]]], dtype=torch.uint8))
    tensor([[[-1.,  1.]]])
    """
    return v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(mean), list(std))])


def augmentation(name: Augmentation, size: int) -> Transform | None:
    """A function on uint8 batches `[B, C, H, W]`, another draw for each image.

    "flip_crop" crops after padding by 4 and mirrors; "cifar" adds AutoAugment with the CIFAR-10
    policy and Cutout of a 16 pixel square. Cutout is torchvision's RandomErasing with one fixed
    size: the square lies wholly inside the image and is black, where that of DeVries
    and Taylor (2017) may hang over the edge and is the mean colour. Images of 16 pixels or
    less lose no square.

    >>> augmentation("none", 32) is None
    True
    """
    if name == "none":
        return None
    if name == "flip_crop":
        return flip_and_crop
    area = min(1.0, (16 / size) ** 2)
    return EachImage(
        v2.Compose(
            [
                v2.RandomCrop(size, padding=4),
                v2.RandomHorizontalFlip(),
                v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10),
                v2.RandomErasing(p=1.0, scale=(area, area), ratio=(1.0, 1.0)),
            ]
        )
    )


class EachImage:
    """Applies a random transform to the images of a batch one by one."""

    def __init__(self, transform: v2.Transform) -> None:
        self.transform = transform

    def __call__(self, images: Tensor) -> Tensor:
        """Transform `[B, C, H, W]`."""
        return torch.stack([self.transform(image) for image in images])


def flip_and_crop(images: Tensor, padding: int = 4) -> Tensor:
    """Mirror half of the images and shift each by up to `padding` pixels, filling with zeros.

    torchvision's RandomCrop and RandomHorizontalFlip draw once for a whole batch; this draws for
    each image and costs one gather.

    Args:
        images: `[B, C, H, W]`.
        padding: Largest shift in pixels.

    Returns:
        The same shape and type.

    >>> flip_and_crop(torch.ones(2, 3, 8, 8, dtype=torch.uint8)).shape
    torch.Size([2, 3, 8, 8])
    """
    batch, _, height, width = images.shape
    padded = torch.nn.functional.pad(images, (padding,) * 4)
    rows = torch.randint(2 * padding + 1, (batch, 1)) + torch.arange(height)
    columns = torch.randint(2 * padding + 1, (batch, 1)) + torch.arange(width)
    mirrored = torch.rand(batch) < 0.5
    columns[mirrored] = columns[mirrored].flip(1)
    image = torch.arange(batch).view(-1, 1, 1)
    moved = padded.movedim(1, -1)[image, rows[:, :, None], columns[:, None, :]]
    return moved.movedim(-1, 1).contiguous()


def imagenet_training(mean: Sequence[float], std: Sequence[float], size: int) -> v2.Transform:
    """A PIL image to a random crop of `size` pixels, mirrored half of the time."""
    return v2.Compose(
        [v2.RandomResizedCrop(size), v2.RandomHorizontalFlip(), v2.ToImage(), evaluation(mean, std)]
    )


def imagenet_evaluation(mean: Sequence[float], std: Sequence[float], size: int) -> v2.Transform:
    """A PIL image to its centre: short side to size * 256/224, then a crop of `size` pixels."""
    return v2.Compose(
        [
            v2.Resize(round(size * 256 / 224)),
            v2.CenterCrop(size),
            v2.ToImage(),
            evaluation(mean, std),
        ]
    )
