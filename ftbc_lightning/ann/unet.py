"""A small U-Net for a class at each pixel."""

import torch
from torch import Tensor, nn

from ftbc_lightning.ann.activations import ActivationName, make_activation
from ftbc_lightning.errors import check_counts


class UNet(nn.Module):
    """An encoder of two average poolings, a decoder of two transposed convolutions.

    What a level of the encoder has found is concatenated to what rises from below. Each level has
    one convolution of 3 pixels with batch norm, and twice as many channels as that above it.

    Args:
        num_classes: Size of the output at each pixel.
        in_channels: Channels of a sample.
        width: Channels of the first level.
        activation: "relu", "clipped_relu" or "qcfs".
        levels: L of QCFS.

    >>> UNet(num_classes=4, in_channels=1)(torch.rand(2, 1, 32, 32)).shape
    torch.Size([2, 4, 32, 32])
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 3,
        width: int = 16,
        activation: ActivationName = "relu",
        levels: int = 8,
    ) -> None:
        super().__init__()
        check_counts(num_classes=num_classes, in_channels=in_channels, width=width)
        self.activation, self.levels = activation, levels
        self.down1 = self._level(in_channels, width)
        self.down2 = self._level(width, 2 * width)
        self.bottom = self._level(2 * width, 4 * width)
        self.rise2 = self._rise(4 * width, 2 * width)
        self.up2 = self._level(4 * width, 2 * width)
        self.rise1 = self._rise(2 * width, width)
        self.up1 = self._level(2 * width, width)
        self.pool = nn.AvgPool2d(2)
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """`[B, channels, H, W]`, H and W multiples of 4, to logits `[B, classes, H, W]`."""
        first = self.down1(images)
        second = self.down2(self.pool(first))
        x = self.rise2(self.bottom(self.pool(second)))
        x = self.rise1(self.up2(torch.cat([x, second], 1)))
        return self.head(self.up1(torch.cat([x, first], 1)))  # type: ignore[no-any-return]

    def _level(self, channels: int, width: int) -> nn.Sequential:
        return self._block(nn.Conv2d(channels, width, 3, padding=1, bias=False))

    def _rise(self, channels: int, width: int) -> nn.Sequential:
        return self._block(nn.ConvTranspose2d(channels, width, 2, 2, bias=False))

    def _block(self, layer: nn.Conv2d | nn.ConvTranspose2d) -> nn.Sequential:
        """A layer, its batch norm and its activation."""
        activation = make_activation(self.activation, levels=self.levels)
        return nn.Sequential(layer, nn.BatchNorm2d(layer.out_channels), activation)
