"""Attention inside shifted windows in the open: layers, a softmax and moves in place of one call.

torchvision's Swin transformer calls one function for it, in which the layers cannot be seen.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BETWEEN_REGIONS = -100.0
"""Added to the score of two places that lie in one window by the shift alone, as in torchvision."""


class OpenWindowAttention(nn.Module):
    """What torchvision's `ShiftedWindowAttention` computes in evaluation.

        softmax(Q K^T / sqrt(d) + bias) V for each window and head

    The windows lie moved by the shift, around the edges; places that meet in one window only by
    that do not see each other. Samples stay apart from the windows: `[B, windows, heads, N, d]`.

    Args:
        given: The module; its layers are shared.

    Source: Swin transformer (ICCV 2021), section 3.2.
    """

    bias: Tensor

    def __init__(self, given: Any) -> None:
        super().__init__()
        self.heads = given.num_heads
        self.window, self.shift = tuple(given.window_size), tuple(given.shift_size)
        self.qkv, self.proj = given.qkv, given.proj
        bias = given.get_relative_position_bias().detach().clone()
        self.device, self.dtype = bias.device, bias.dtype
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, H, W, C]` to the same shape."""
        size = int(x.shape[1]), int(x.shape[2])
        whole = tuple(-(-n // w) * w for n, w in zip(size, self.window, strict=True))
        if whole != size:
            x = F.pad(x, (0, 0, 0, whole[1] - size[1], 0, whole[0] - size[0]))
        # one window over all of an axis needs no shift
        pairs = zip(whole, self.window, self.shift, strict=True)
        shift = tuple(0 if w >= n else s for n, w, s in pairs)
        if any(shift):
            x = torch.roll(x, (-shift[0], -shift[1]), (1, 2))
        x = self.proj(self._attended(self.qkv(x), whole, shift))
        if any(shift):
            x = torch.roll(x, shift, (1, 2))
        return x if whole == size else x[:, : size[0], : size[1], :]

    def _attended(self, qkv: Tensor, size: tuple[int, ...], shift: tuple[int, ...]) -> Tensor:
        (rows, columns), (high, wide) = self._windows(size), self.window
        parts = torch.unflatten(torch.unflatten(qkv, 1, (rows, high)), 3, (columns, wide))
        parts = parts.permute(0, 1, 3, 2, 4, 5).flatten(3, 4).flatten(1, 2)
        query, key, value = (
            torch.unflatten(part, -1, (self.heads, -1)).transpose(2, 3)
            for part in parts.chunk(3, -1)
        )
        mask = self.bias + self._mask(size, shift) if any(shift) else self.bias
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        found = found.transpose(2, 3).flatten(3)
        found = torch.unflatten(torch.unflatten(found, 2, (high, wide)), 1, (rows, columns))
        whole: Tensor = found.permute(0, 1, 3, 2, 4, 5).flatten(3, 4).flatten(1, 2)
        return whole

    def _windows(self, size: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(n // w for n, w in zip(size, self.window, strict=True))

    def _mask(self, size: tuple[int, ...], shift: tuple[int, ...]) -> Tensor:
        """What is added to the scores of each window, `[windows, 1, N, N]`."""
        triples = list(zip(size, self.window, shift, strict=True))
        down, right = (_regions(*each) for each in triples)
        regions = 3 * down[:, None] + right[None, :]
        (rows, columns), (high, wide) = self._windows(size), self.window
        regions = regions.view(rows, high, columns, wide).transpose(1, 2).reshape(-1, high * wide)
        apart = regions[:, None, :] != regions[:, :, None]
        mask = BETWEEN_REGIONS * apart.to(device=self.device, dtype=self.dtype)
        return mask.unsqueeze(1)


class OpenPatchMerging(nn.Module):
    """What torchvision's `PatchMerging` computes: four neighbours become one, then norm and layer.

    Args:
        given: The module; its norm and layer are shared.
    """

    def __init__(self, given: Any) -> None:
        super().__init__()
        self.norm, self.reduction = given.norm, given.reduction

    def forward(self, x: Tensor) -> Tensor:
        """`[B, H, W, C]` to `[B, H/2, W/2, 2C]`."""
        odd = int(x.shape[1]) % 2, int(x.shape[2]) % 2
        if any(odd):
            x = F.pad(x, (0, 0, 0, odd[1], 0, odd[0]))
        places = ((0, 0), (1, 0), (0, 1), (1, 1))
        parts = [x[:, row::2, column::2, :] for row, column in places]
        answer: Tensor = self.reduction(self.norm(torch.cat(parts, -1)))
        return answer


IN_THE_OPEN: dict[str, type[nn.Module]] = {
    "ShiftedWindowAttention": OpenWindowAttention,
    "PatchMerging": OpenPatchMerging,
}
"""Classes of torchvision by name, which this room does not import."""


def open_windows(network: nn.Module) -> None:
    """Replace torchvision's attention in windows inside a network; changes it in place."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            kind = type(child)
            if kind.__module__.startswith("torchvision.") and kind.__name__ in IN_THE_OPEN:
                setattr(parent, name, IN_THE_OPEN[kind.__name__](child).eval())


def _regions(size: int, window: int, shift: int) -> Tensor:
    """For each place along an axis which of three regions it lies in, after the shift."""
    found = torch.zeros(size, dtype=torch.long)
    if shift:
        found[size - window : size - shift] = 1
        found[size - shift :] = 2
    return found
