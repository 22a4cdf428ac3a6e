"""A small vision transformer: attention, GELU and layer norm, none of which is ReLU."""

import torch
from torch import Tensor, nn

from ftbc_lightning.errors import check_counts


class ViT(nn.Module):
    """A vision transformer whose answer is read from the mean of all patches.

    Args:
        num_classes: Number of outputs.
        in_channels: Channels of a sample.
        image_size: Side of a sample in pixels, a multiple of `patch_size`.
        patch_size: Side of a patch in pixels.
        width: Values of a patch, a multiple of `heads`.
        heads: Of attention.
        depth: How many blocks.

    Raises:
        UserError: A number is below 1.
    """

    def __init__(
        self,
        *,
        num_classes: int = 10,
        in_channels: int = 3,
        image_size: int = 32,
        patch_size: int = 4,
        width: int = 64,
        heads: int = 4,
        depth: int = 4,
    ) -> None:
        super().__init__()
        check_counts(num_classes=num_classes, in_channels=in_channels, patch_size=patch_size)
        check_counts(width=width, heads=heads, depth=depth, image_size=image_size)
        patches = (image_size // patch_size) ** 2
        self.patch = nn.Conv2d(in_channels, width, patch_size, patch_size)
        self.position = nn.Parameter(0.02 * torch.randn(1, patches, width))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits `[B, num_classes]` of samples `[B, in_channels, image_size, image_size]`."""
        x = self.patch(x).flatten(2).transpose(1, 2) + self.position
        logits: Tensor = self.head(self.norm(self.blocks(x)).mean(1))
        return logits


class Block(nn.Module):
    """Attention and two linear layers with GELU, each behind a layer norm and beside a shortcut.

    Args:
        width: Values of a patch.
        heads: Of attention.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.rise, self.fall = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        """Patches `[B, N, width]`."""
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        fallen: Tensor = self.fall(self.act(self.rise(self.norm2(x))))
        return x + fallen
