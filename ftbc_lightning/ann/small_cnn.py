"""A small residual network for the demo and for tests."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ftbc_lightning.ann.activations import ActivationName, make_activation
from ftbc_lightning.ann.resnet import BasicBlock
from ftbc_lightning.errors import check_counts


class SmallCNN(nn.Module):
    """Two convolutions, the second with stride 2, a residual block behind each, a linear layer.

    Args:
        num_classes: Size of the output.
        in_channels: Channels of a sample.
        width: Channels of the first layers; twice as many in the last.
        activation: "relu", "clipped_relu" or "qcfs".
        levels: L of QCFS.

    >>> SmallCNN(in_channels=1)(torch.rand(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        *,
        num_classes: int = 10,
        in_channels: int = 3,
        width: int = 16,
        activation: ActivationName = "relu",
        levels: int = 8,
    ) -> None:
        super().__init__()
        check_counts(num_classes=num_classes, in_channels=in_channels, width=width)
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.act1 = make_activation(activation, levels=levels)
        self.block1 = BasicBlock(
            width, width, 1, shortcut=None, activation=activation, levels=levels
        )
        self.conv2 = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(2 * width)
        self.act2 = make_activation(activation, levels=levels)
        self.block2 = BasicBlock(
            2 * width, 2 * width, 1, shortcut=None, activation=activation, levels=levels
        )
        self.linear = nn.Linear(2 * width * 4, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """`[B, channels, H, W]`, H and W at least 4, to logits `[B, classes]`."""
        x = self.block1(self.act1(self.bn1(self.conv1(images))))
        x = self.block2(self.act2(self.bn2(self.conv2(x))))
        return self.linear(torch.flatten(F.adaptive_avg_pool2d(x, 2), 1))  # type: ignore[no-any-return]
