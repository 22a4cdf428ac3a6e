"""A small network for sounds: their spectrogram, read as a picture."""

from torch import Tensor, nn

from ftbc_lightning.ann.activations import ActivationName
from ftbc_lightning.ann.log_mel import LogMel
from ftbc_lightning.ann.small_cnn import SmallCNN


class SoundCNN(nn.Module):
    """`LogMel`, and `SmallCNN` behind it.

    Args:
        num_classes: Size of the output.
        sample_rate: Values of a sound in a second.
        bands: Rows of the spectrogram.
        width: Channels of the first layers; twice as many in the last.
        activation: "relu", "clipped_relu" or "qcfs".
        levels: L of QCFS.

    >>> import torch
    >>> SoundCNN()(torch.zeros(2, 1, 8000)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        *,
        num_classes: int = 10,
        sample_rate: int = 8000,
        bands: int = 32,
        width: int = 8,
        activation: ActivationName = "relu",
        levels: int = 8,
    ) -> None:
        super().__init__()
        self.log_mel = LogMel(sample_rate=sample_rate, bands=bands)
        self.cnn = SmallCNN(
            num_classes=num_classes,
            in_channels=1,
            width=width,
            activation=activation,
            levels=levels,
        )

    def forward(self, sounds: Tensor) -> Tensor:
        """`[B, 1, N]` or `[B, N]` to logits `[B, classes]`."""
        return self.cnn(self.log_mel(sounds))  # type: ignore[no-any-return]
