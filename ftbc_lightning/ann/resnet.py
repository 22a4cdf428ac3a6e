"""Residual networks for 32 and 224 pixels (He et al., CVPR 2016), without max pooling."""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ftbc_lightning.ann.activations import ActivationName, make_activation
from ftbc_lightning.errors import check_counts


class PadShortcut(nn.Module):
    """Shortcut without parameters: every second pixel, zero channels half on each side.

    Args:
        added: How many channels are added in all, even.
    """

    def __init__(self, added: int) -> None:
        super().__init__()
        self.added = added

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, H, W]` to `[B, C + added, H/2, W/2]`."""
        half = self.added // 2
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, half, half))


def _conv1x1(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; the activation follows the addition."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        *,
        shortcut: nn.Module | None,
        activation: ActivationName,
        levels: int,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.act1 = make_activation(activation, levels=levels)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.act2 = make_activation(activation, levels=levels)
        # torchvision's name, so that its weights load
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, H, W]` to `[B, outputs, H / stride, W / stride]`."""
        y = self.act1(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        x = x if self.downsample is None else self.downsample(x)
        return self.act2(y + x)  # type: ignore[no-any-return]


def _stage(
    inputs: int,
    outputs: int,
    blocks: int,
    stride: int,
    *,
    shortcut: Literal["pad", "conv"],
    activation: ActivationName,
    levels: int,
) -> nn.Sequential:
    stage = nn.Sequential()
    for index in range(blocks):
        step = stride if index == 0 else 1
        path: nn.Module | None = None
        if step != 1 or inputs != outputs:
            pad = shortcut == "pad"
            path = PadShortcut(outputs - inputs) if pad else _conv1x1(inputs, outputs, step)
        stage.append(
            BasicBlock(inputs, outputs, step, shortcut=path, activation=activation, levels=levels)
        )
        inputs = outputs
    return stage


def _initialise(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class CIFARResNet(nn.Module):
    """The CIFAR networks of He et al.: three stages of 16, 32 and 64 channels.

    Attributes:
        blocks: Blocks in a stage, which a subclass states: 3 for ResNet-20, 9 for ResNet-56.

    Args:
        num_classes: Size of the output.
        in_channels: Channels of a sample.
        activation: "relu", "clipped_relu" or "qcfs".
        levels: L of QCFS.
        shortcut: "pad" has no parameters, "conv" is a 1x1 convolution with batch norm.
    """

    blocks: ClassVar[int]

    def __init__(
        self,
        *,
        num_classes: int = 10,
        in_channels: int = 3,
        activation: ActivationName = "relu",
        levels: int = 8,
        shortcut: Literal["pad", "conv"] = "pad",
    ) -> None:
        super().__init__()
        check_counts(num_classes=num_classes, in_channels=in_channels)
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.act1 = make_activation(activation, levels=levels)
        stages = [
            _stage(i, o, self.blocks, s, shortcut=shortcut, activation=activation, levels=levels)
            for i, o, s in ((16, 16, 1), (16, 32, 2), (32, 64, 2))
        ]
        self.layer1, self.layer2, self.layer3 = stages
        self.linear = nn.Linear(64, num_classes)
        _initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """`[B, channels, H, W]` to logits `[B, classes]`."""
        x = self.act1(self.bn1(self.conv1(images)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))  # type: ignore[no-any-return]


class ImageNetResNet(nn.Module):
    """ResNet with basic blocks and torchvision's names; average pooling in the stem.

    At 224 pixels the stem is a 7x7 convolution and a 3x3 average pooling, both of stride 2; at 32
    it is one 3x3 convolution.

    Attributes:
        blocks: Blocks in each of the four stages, which a subclass states.

    Args:
        num_classes: Size of the output.
        in_channels: Channels of a sample.
        activation: "relu", "clipped_relu" or "qcfs".
        levels: L of QCFS.
        input_size: Pixels of a sample's side.
    """

    blocks: ClassVar[tuple[int, int, int, int]]

    def __init__(
        self,
        *,
        num_classes: int = 1000,
        in_channels: int = 3,
        activation: ActivationName = "relu",
        levels: int = 8,
        input_size: Literal[32, 224] = 224,
    ) -> None:
        super().__init__()
        check_counts(num_classes=num_classes, in_channels=in_channels)
        large = input_size == 224
        kernel, stride = (7, 2) if large else (3, 1)
        self.conv1 = nn.Conv2d(
            in_channels, 64, kernel, stride=stride, padding=kernel // 2, bias=False
        )
        self.bn1 = nn.BatchNorm2d(64)
        self.act1 = make_activation(activation, levels=levels)
        self.pool = nn.AvgPool2d(3, stride=2, padding=1) if large else nn.Identity()
        stages = [
            _stage(i, o, count, s, shortcut="conv", activation=activation, levels=levels)
            for i, o, count, s in zip(
                (64, 64, 128, 256), (64, 128, 256, 512), self.blocks, (1, 2, 2, 2), strict=True
            )
        ]
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.fc = nn.Linear(512, num_classes)
        _initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """`[B, channels, H, W]` to logits `[B, classes]`."""
        x = self.pool(self.act1(self.bn1(self.conv1(images))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))  # type: ignore[no-any-return]


class ResNet20(CIFARResNet):
    """ResNet-20 for 32 pixels; see `CIFARResNet`."""

    blocks = 3


class ResNet56(CIFARResNet):
    """ResNet-56 for 32 pixels; see `CIFARResNet`."""

    blocks = 9


class ResNet18(ImageNetResNet):
    """ResNet-18; see `ImageNetResNet`."""

    blocks = (2, 2, 2, 2)


class ResNet34(ImageNetResNet):
    """ResNet-34; see `ImageNetResNet`."""

    blocks = (3, 4, 6, 3)
