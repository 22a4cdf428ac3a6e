"""A network that cannot be converted, for the command line to refuse."""

from torch import Tensor, nn


class Smooth(nn.Module):
    """Two nodes without a spiking counterpart."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU())
        self.hidden = nn.Sequential(nn.GELU(), nn.Linear(16, 16))
        self.last = nn.Softmax(1)
        self.head = nn.Linear(16, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        return self.head(self.last(self.hidden(self.first(images))))
