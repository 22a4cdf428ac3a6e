"""A reader of NIR graphs without the package's own: what comes in at a node, and linear nodes."""

import torch
from torch import Tensor, nn


def arriving(graph, name: str, values: dict[str, Tensor], images: Tensor) -> Tensor:
    """The sum of what the edges bring to a node; the images at the first."""
    terms = [values[a] for a, b in graph.edges if b == name]
    return sum(terms[1:], terms[0]) if terms else images


def linear(node, x: Tensor) -> Tensor:
    """What a node without a state gives, by NIR's definition; others give what they are given."""
    import nir  # not everybody who runs these tests has it

    if isinstance(node, nir.Affine):
        return x @ torch.tensor(node.weight).T + torch.tensor(node.bias)
    if isinstance(node, nir.Conv2d):
        set_to = (tuple(map(int, v)) for v in (node.stride, node.padding, node.dilation))
        weights = torch.tensor(node.weight), torch.tensor(node.bias)
        return nn.functional.conv2d(x, *weights, *set_to, int(node.groups))
    return x.flatten(1) if isinstance(node, nir.Flatten) else x


def clocked(images: Tensor, step: int, timesteps: int) -> Tensor:
    """The samples with a channel more for each step, of which the one of this step is 1."""
    clock = images.new_zeros(len(images), timesteps, *images.shape[2:])
    clock[:, step] = 1
    return torch.cat([images, clock], 1)
