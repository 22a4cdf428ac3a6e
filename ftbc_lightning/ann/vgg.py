"""VGG-11 and VGG-16 with batch norm and average pooling (Simonyan and Zisserman, ICLR 2015)."""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from ftbc_lightning.ann.activations import ActivationName, make_activation
from ftbc_lightning.errors import UserError, check_counts


class VGG(nn.Module):
    """VGG with batch norm, average pooling and three linear layers.

    The two hidden linear layers have 4096 units at 224 pixels, as published, and 512 at 32: the
    last feature map is then one pixel of 512 channels, and wider layers only add memory.

    Attributes:
        convolutions: Output channels of each 3x3 convolution, and where a 2x2 average pooling
            stands; a subclass states them.

    Args:
        num_classes: Size of the output.
        in_channels: Channels of a sample.
        activation: "relu", "clipped_relu" or "qcfs".
        levels: L of QCFS.
        input_size: Pixels of a sample's side.
        dropout: Share of hidden units that are dropped while training.
    """

    convolutions: ClassVar[tuple[int | Literal["pool"], ...]]

    def __init__(
        self,
        *,
        num_classes: int = 10,
        in_channels: int = 3,
        activation: ActivationName = "relu",
        levels: int = 8,
        input_size: Literal[32, 224] = 32,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        check_counts(num_classes=num_classes, in_channels=in_channels)
        if not 0 <= dropout <= 1:
            raise UserError(f"dropout is {dropout}; it must lie between 0 and 1.")
        self.features = nn.Sequential()
        channels = in_channels
        for layer in self.convolutions:
            if layer == "pool":
                self.features.append(nn.AvgPool2d(2))
                continue
            self.features.append(nn.Conv2d(channels, layer, 3, padding=1, bias=False))
            self.features.append(nn.BatchNorm2d(layer))
            self.features.append(make_activation(activation, levels=levels))
            channels = layer
        pixels, hidden = (49, 4096) if input_size == 224 else (1, 512)
        self.classifier = nn.Sequential(
            nn.Linear(512 * pixels, hidden),
            make_activation(activation, levels=levels),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            make_activation(activation, levels=levels),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_classes),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """`[B, channels, H, W]` to logits `[B, classes]`."""
        return self.classifier(torch.flatten(self.features(images), 1))  # type: ignore[no-any-return]


class VGG11(VGG):
    """VGG-11; see `VGG`."""

    convolutions = (64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool", 512, 512, "pool")


class VGG16(VGG):
    """VGG-16; see `VGG`."""

    convolutions = (
        *(64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool"),
        *(512, 512, 512, "pool", 512, 512, 512, "pool"),
    )
