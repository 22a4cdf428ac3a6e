"""A small fully connected network for samples that are rows of numbers or short series."""

from torch import Tensor, nn

from ftbc_lightning.ann.activations import ActivationName, make_activation
from ftbc_lightning.errors import check_counts


class MLP(nn.Module):
    """Three linear layers, an activation behind the first two.

    Args:
        in_features: Numbers in a sample.
        width: Neurons of each hidden layer.
        outputs: Size of the output.
        activation: "relu", "clipped_relu" or "qcfs".
        levels: L of QCFS.

    >>> import torch
    >>> MLP(in_features=10)(torch.rand(2, 10)).shape
    torch.Size([2, 1])
    """

    def __init__(
        self,
        *,
        in_features: int,
        width: int = 64,
        outputs: int = 1,
        activation: ActivationName = "relu",
        levels: int = 8,
    ) -> None:
        super().__init__()
        check_counts(in_features=in_features, width=width, outputs=outputs)
        self.linear1 = nn.Linear(in_features, width)
        self.act1 = make_activation(activation, levels=levels)
        self.linear2 = nn.Linear(width, width)
        self.act2 = make_activation(activation, levels=levels)
        self.linear3 = nn.Linear(width, outputs)

    def forward(self, samples: Tensor) -> Tensor:
        """`[B, ...]` of `in_features` numbers in a sample to `[B, outputs]`."""
        x = self.act1(self.linear1(samples.flatten(1)))
        return self.linear3(self.act2(self.linear2(x)))  # type: ignore[no-any-return]
