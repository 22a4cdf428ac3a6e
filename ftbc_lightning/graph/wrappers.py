"""Networks inside of wrappers: for several devices, or compiled."""

import copy
from typing import Any

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from ftbc_lightning.ann.joined_inputs import JoinedInputs
from ftbc_lightning.ann.one_output import OneOutput
from ftbc_lightning.errors import UserError
from ftbc_lightning.graph.own_weights import computed_tensors


def unwrapped(network: nn.Module) -> nn.Module:
    """What a wrapper holds: `DataParallel`, `DistributedDataParallel` or `torch.compile`.

    >>> type(unwrapped(DataParallel(nn.ReLU()))).__name__
    'ReLU'
    """
    while True:
        if isinstance(network, DataParallel | DistributedDataParallel):
            network = network.module
        elif isinstance(compiled := network._modules.get("_orig_mod"), nn.Module):
            network = compiled
        else:
            return network


def name_of(network: nn.Module) -> str:
    """The class of a network as its author knows it: of what wrappers hold.

    >>> name_of(OneOutput(DataParallel(nn.ReLU()), 0))
    'ReLU'
    """
    network = unwrapped(network)
    while isinstance(network, OneOutput | JoinedInputs):
        network = unwrapped(network.get_submodule("network"))
    return type(network).__name__


def plain_copy(network: nn.Module) -> nn.Module:
    """Copy a network without the wrappers around it and its parts.

    Raises:
        UserError: A part is a script, whose Python code is gone.
    """
    scripted = [name for name, m in network.named_modules() if _is_script(m)]
    if scripted:
        where = f" ({scripted[0]})" if scripted[0] else ""
        raise UserError(
            f"{type(network).__name__}{where} is a ScriptModule of torch.jit, whose forward cannot "
            "be read. Give the Python module that it was made from."
        )
    copies: dict[int, Any] = computed_tensors(network)
    for module in reversed(list(network.modules())):
        inner = unwrapped(module)
        if inner is not module:
            copies[id(module)] = copy.deepcopy(inner, copies)
    return copy.deepcopy(network, copies)


def _is_script(module: nn.Module) -> bool:
    # an import of torch.jit would name the class; every script has this method and no other module
    return any(kind.__name__ == "RecursiveScriptModule" for kind in type(module).__mro__)
