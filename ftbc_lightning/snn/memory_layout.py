"""How samples and weights lie in memory, for fast convolutions; their values are the same."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def fastest_layout(images: Tensor) -> Tensor:
    """Store samples channels last where convolutions are faster so."""
    if images.ndim != 4 or not channels_last_is_faster(images):
        return images
    return images.contiguous(memory_format=torch.channels_last)


def channels_last_is_faster(images: Tensor) -> bool:
    """Say where 2-D convolutions are faster channels last.

    On a CPU with oneDNN they are (a ResNet-20 takes half the time), except in float64, which it
    does not know; on other devices in half precision.
    """
    if images.device.type == "cuda":
        return torch.is_autocast_enabled("cuda") or images.dtype.itemsize == 2
    return images.device.type == "cpu" and has_onednn() and images.dtype != torch.float64


def has_onednn() -> bool:
    """Say whether torch was built with oneDNN."""
    return bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


@torch.inference_mode(False)
@torch.no_grad()
def lay_out_weights(modules: Iterable[nn.Module], images: Tensor) -> None:
    """Store the weights of 2-D convolutions as their samples are, once and in place.

    Each pass would store them anew for itself, which takes long where they are many and the
    samples small and few: a fifth of the time of one sample of a VGG-16 at 32 pixels, T = 4.

    Args:
        modules: Those of a network that nothing else writes to.
        images: What goes through it, `[B, C, H, W]`; others change nothing.
    """
    if images.ndim != 4:
        return
    faster = channels_last_is_faster(images)
    layout = torch.channels_last if faster else torch.contiguous_format
    for module in modules:
        if not isinstance(module, nn.Conv2d) or module.weight.layout is not torch.strided:
            continue
        if not module.weight.is_contiguous(memory_format=layout):
            module.weight.data = module.weight.data.contiguous(memory_format=layout)
