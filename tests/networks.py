"""Small networks that the tests share."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ftbc_lightning.ann.vit import ViT


def transformer(count: int) -> tuple[ViT, Tensor]:
    """A vision transformer of two blocks, and samples of it."""
    torch.manual_seed(0)
    net = ViT(in_channels=1, image_size=8, patch_size=2, width=16, heads=2, depth=2).double()
    return net.eval(), torch.randn(count, 1, 8, 8, dtype=torch.float64)


class ResidualNet(nn.Module):
    """Convolutions with batch norm, one residual block, one activation reused: three neurons."""

    def __init__(self, channels: int = 6, classes: int = 4) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, channels, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.act1, self.act2, self.act3 = nn.ReLU(), nn.ReLU(), nn.ReLU()
        self.linear = nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits `[B, classes]`."""
        x = self.act1(self.bn1(self.conv1(images)))
        y = self.act2(self.bn2(self.conv2(x)))
        y = self.bn3(self.conv3(y))
        y = self.act3(y + x)
        return self.linear(F.adaptive_avg_pool2d(y, 1).flatten(1))


def residual_net(seed: int = 0, dtype: torch.dtype = torch.float64) -> ResidualNet:
    """A `ResidualNet` whose batch norms have seen samples, in evaluation mode."""
    torch.manual_seed(seed)
    net = ResidualNet()
    net.train()
    with torch.no_grad():
        for _ in range(20):
            net(torch.randn(64, 2, 6, 6))
    return net.to(dtype).eval()


def samples(count: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    """Random samples `[count, 2, 6, 6]`."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 2, 6, 6, generator=generator, dtype=dtype)
