"""Give every layer weights of its own, as they are: neither shared nor computed at each call."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm, remove_spectral_norm
from torch.nn.utils.weight_norm import WeightNorm, remove_weight_norm


def computed_tensors(network: nn.Module) -> dict[int, Any]:
    """Copies of what hooks and masks have computed, by `id`, for `copy.deepcopy`.

    After a training step such tensors hang on its graph, and cannot be copied with it.
    """
    return {
        id(value): value.detach().clone()
        for module in network.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }


@torch.no_grad()
def own_weights(network: nn.Module) -> None:
    """Make weights parameters of their layer, in place.

    A parametrisation, weight norm, spectral norm or the mask of a pruning would compute the weight
    again at each call, and undo whatever is written into it: thresholds that are folded,
    corrections, rounding. Layers that share a weight would be changed together.

    Args:
        network: In evaluation mode.
    """
    for module in list(network.modules()):
        _settle(module)
    seen: set[int] = set()
    for module in network.modules():
        for name, weights in list(module.named_parameters(recurse=False)):
            if id(weights) in seen:
                own = nn.Parameter(weights.clone(), requires_grad=weights.requires_grad)
                setattr(module, name, own)
            seen.add(id(weights))


def _settle(module: nn.Module) -> None:
    """Take off what computes the weights of a module, and leave their values."""
    if parametrize.is_parametrized(module):
        # `remove_parametrizations` would take them from the class, which the ANN itself has too
        assert isinstance(module.parametrizations, nn.ModuleDict)
        values = {name: getattr(module, name).clone() for name in module.parametrizations}
        module.__class__ = type(module).__bases__[0]
        del module.parametrizations
        for name, value in values.items():
            module.register_parameter(name, nn.Parameter(value))
    for hook in list(module._forward_pre_hooks.values()):
        if isinstance(hook, WeightNorm):
            remove_weight_norm(module, hook.name)
        elif isinstance(hook, SpectralNorm):
            remove_spectral_norm(module, hook.name)
        elif isinstance(hook, prune.BasePruningMethod):
            prune.remove(module, hook._tensor_name)  # type: ignore[no-untyped-call]
