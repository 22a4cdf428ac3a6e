"""The spikes of a layer as bits."""

from collections.abc import Sequence

import torch
from torch import Tensor


class SpikeTrain:
    """Spikes of one layer for a few pictures, eight steps to a byte.

    Args:
        shape: `(B, C, ...)`.
        timesteps: T.
        device: Where the bytes are.

    >>> train = SpikeTrain((1, 2), 9, torch.device("cpu"))
    >>> train.write(8, torch.tensor([[True, False]]))
    >>> train.step(8).tolist(), train.step(0).tolist(), train.counts().tolist()
    ([[True, False]], [[False, False]], [[1, 0]])
    """

    def __init__(self, shape: Sequence[int], timesteps: int, device: torch.device) -> None:
        self.timesteps = timesteps
        self.bytes = torch.zeros(-(-timesteps // 8), *shape, dtype=torch.uint8, device=device)

    def write(self, t: int, fired: Tensor) -> None:
        """Store the spikes of a step, bool or 0 and 1, `[B, C, ...]`; each step once."""
        self.bytes[t // 8] |= fired.to(torch.uint8) << (t % 8)

    def step(self, t: int) -> Tensor:
        """The spikes of a step, bool `[B, C, ...]`."""
        return ((self.bytes[t // 8] >> (t % 8)) & 1).bool()

    def counts(self) -> Tensor:
        """How often each neuron fired, int16 `[B, C, ...]`."""
        counts = torch.zeros(self.bytes.shape[1:], dtype=torch.int16, device=self.bytes.device)
        for t in range(self.timesteps):
            counts += self.step(t)
        return counts
