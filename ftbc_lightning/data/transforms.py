"""Pipelines of torchvision's transforms v2, and batched forms of what it draws once a batch."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor
from torchvision.transforms import v2

from ftbc_lightning.data.autoaugment import auto_augment

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


class Normalisation:
    """What `evaluation` does, with mean and deviation kept on the device of the images.

    Args:
        mean: Of each channel on the scale 0 to 1.
        std: Standard deviation of each channel on that scale.

    >>> Normalisation([0.5], [0.5])(torch.tensor([[[0, 255]]], dtype=torch.uint8))
    tensor([[[-1.,  1.]]])
    """

    def __init__(self, mean: Sequence[float] | Tensor, std: Sequence[float] | Tensor) -> None:
        self.mean, self.std = (torch.as_tensor(v).view(-1, 1, 1) for v in (mean, std))

    def to(self, device: torch.device) -> "Normalisation":
        """The same for images on a device."""
        return Normalisation(self.mean.to(device), self.std.to(device))

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 `[..., C, H, W]` to normalised float32."""
        return images.to(torch.float32).mul_(1 / 255).sub_(self.mean).div_(self.std)


def augmentation(name: Augmentation) -> Transform | None:
    """A function on uint8 batches `[B, C, H, W]`, another draw for each image.

    "flip_crop" crops after padding by 4 and mirrors; "cifar" adds AutoAugment with the CIFAR-10
    policy and Cutout of a 16 pixel square, which lies wholly inside the image and is black, where
    that of DeVries and Taylor (2017) may hang over the edge and is the mean colour. Images of
    16 pixels or less lose no square. Draws are made on the CPU, the rest is done where the
    images are, with the same result on every device.

    >>> augmentation("none") is None
    True
    """
    if name == "none":
        return None
    return flip_and_crop if name == "flip_crop" else cifar_recipe


def cifar_recipe(images: Tensor) -> Tensor:
    """Shift and mirror, AutoAugment and Cutout of uint8 images `[B, C, H, W]`."""
    return cutout(auto_augment(flip_and_crop(images)))


def flip_and_crop(images: Tensor, padding: int = 4) -> Tensor:
    """Mirror half of the images and shift each by up to `padding` pixels, filling with zeros.

    torchvision's RandomCrop and RandomHorizontalFlip draw once for a whole batch; this draws for
    each image, on the CPU, and costs one gather.

    Args:
        images: `[B, C, H, W]` on any device.
        padding: Largest shift in pixels.

    Returns:
        The same shape, type and device.

    >>> flip_and_crop(torch.ones(2, 3, 8, 8, dtype=torch.uint8)).shape
    torch.Size([2, 3, 8, 8])
    """
    batch, _, height, width = images.shape
    rows, columns = (torch.randint(2 * padding + 1, (batch, 1)) for _ in range(2))
    mirrored = torch.rand(batch, 1) < 0.5
    drawn = torch.cat([rows, columns, mirrored, torch.arange(batch)[:, None]], dim=1)
    rows, columns, mirrored, image = drawn.to(images.device, non_blocking=True).unbind(1)
    padded = torch.nn.functional.pad(images, (padding,) * 4)
    # every window as a view: what is gathered are whole rows of pixels
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)
    moved = windows[image, :, rows, columns]
    return torch.where(mirrored.bool().view(-1, 1, 1, 1), moved.flip(-1), moved)


def cutout(images: Tensor, side: int = 16) -> Tensor:
    """Blacken a square of each image that lies wholly inside; none where it does not fit.

    Args:
        images: `[B, C, H, W]` on any device.
        side: Of the square in pixels.

    >>> int((cutout(torch.ones(1, 1, 32, 32)) == 0).sum())
    256
    """
    batch, _, height, width = images.shape
    if min(height, width) <= side:
        return images
    drawn = [torch.randint(size - side + 1, (batch,)) for size in (height, width)]
    first = torch.stack(drawn).to(images.device, non_blocking=True)
    rows, columns = (
        (torch.arange(size, device=images.device) - begin[:, None]).div(side, rounding_mode="floor")
        for size, begin in zip((height, width), first, strict=True)
    )
    inside = (rows == 0)[:, None, :, None] & (columns == 0)[:, None, None, :]
    return images.masked_fill(inside, 0)


def imagenet_training(mean: Sequence[float], std: Sequence[float], size: int) -> v2.Transform:
    """A PIL image to a random crop of `size` pixels, mirrored half of the time, normalised."""
    return v2.Compose([imagenet_crop(size), evaluation(mean, std)])


def imagenet_crop(size: int) -> v2.Transform:
    """The same before normalisation: uint8 `[3, size, size]`, a quarter of the bytes."""
    return v2.Compose([v2.RandomResizedCrop(size), v2.RandomHorizontalFlip(), v2.ToImage()])


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
