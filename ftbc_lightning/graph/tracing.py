"""Read an ANN as a graph: an untouched copy, batch norm folded, max pooling moved."""

import random
import sys
import warnings
from contextlib import suppress

import torch
from torch import Tensor, fx, nn

from ftbc_lightning.errors import UserError
from ftbc_lightning.graph import operators
from ftbc_lightning.graph.attention import drop_unread_weights, open_attention
from ftbc_lightning.graph.batch_norm import fold_batch_norm
from ftbc_lightning.graph.functions import Functions, write_encoders
from ftbc_lightning.graph.in_place import write_out_of_place
from ftbc_lightning.graph.max_pooling import pool_before_activation, write_maxima
from ftbc_lightning.graph.outputs import write_containers
from ftbc_lightning.graph.own_weights import own_weights
from ftbc_lightning.graph.proxies import ActivationTracer
from ftbc_lightning.graph.rectifiers import write_rectifiers
from ftbc_lightning.graph.two_sided import write_two_sided
from ftbc_lightning.graph.window_attention import open_windows
from ftbc_lightning.graph.wrappers import name_of, plain_copy

TRACED = "ftbc_traced"
"""Key in a graph module's `meta` that says it is a result of `trace`."""


def trace(
    ann: nn.Module, example_input: Tensor | None = None, *, functions: Functions = "refuse"
) -> fx.GraphModule:
    """Copy the ANN into a graph of single operations, batch norm folded, max pooling moved.

    The ANN itself stays as it is, training flags included. The names of the graph's nodes depend
    on the ANN's code alone, so two traces of one network can be walked side by side. Wrappers for
    several devices and of `torch.compile` are taken off; half precision becomes float32.

    Args:
        ann: Any `nn.Module` whose `forward` takes one tensor and whose path does not depend on
            the values in it. Other arguments take their defaults.
        example_input: `[B, ...]`, of which shape and type matter: for a `forward` that asks for
            them (`x.ndim == 4`, `int(8 * h)`).
        functions: What becomes of functions that are not linear; with "encoded" the graph has
            encoders where a spiking network is to have neurons for it.

    Returns:
        A graph module in evaluation mode that computes what `ann.eval()` computes; the same one
        if it has been traced already.

    Raises:
        UserError: The forward pass cannot be written down as a graph.

    >>> graph = trace(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.ReLU()))
    >>> [node.name for node in graph.graph.nodes]
    ['input_1', '_0', '_2', 'output']
    """
    if isinstance(ann, fx.GraphModule) and ann.meta.get(TRACED):
        return ann
    copied = plain_copy(ann).eval()
    own_weights(copied)
    if halves(copied):
        copied.float()
    if functions != "refuse":
        open_attention(copied)
        open_windows(copied)
    module = _written_down(copied, example_input)
    if functions != "refuse":
        drop_unread_weights(module)
    write_out_of_place(module, name=name_of(ann))
    write_containers(module, name=name_of(ann))
    write_maxima(module)
    write_rectifiers(module)
    module.meta[TRACED] = True
    with torch.no_grad():
        fold_batch_norm(module, example_input)
    pool_before_activation(module)
    _write_two_sided(module)
    if functions == "encoded":
        write_encoders(module)
    return module


def _written_down(network: nn.Module, example_input: Tensor | None) -> fx.GraphModule:
    """The forward pass as a graph: a network may ask for a tensor's value, or shape it by sizes.

    Raises:
        UserError: It cannot be traced in either way.
    """
    tracer = ActivationTracer(example_input)
    try:
        return fx.GraphModule(network, _drawing_nothing(tracer, network), name_of(network))
    except Exception as error:
        shaping = ActivationTracer(example_input)
        shaping.proxy_buffer_attributes = True  # `self.buffer.expand(x.shape[0], -1)`
        with suppress(Exception):
            return fx.GraphModule(network, _drawing_nothing(shaping, network), name_of(network))
        raise UserError(_untraced(network, error, tracer)) from error


def _drawing_nothing(tracer: ActivationTracer, network: nn.Module) -> fx.Graph:
    """Trace a network; what Python or NumPy draws in its forward pass would be a constant.

    Raises:
        UserError: Something was drawn that the graph does not show.
    """
    for _ in range(2):  # another thread may draw meanwhile
        before = _generators()
        graph = tracer.trace(network)
        if _generators() == before:
            return graph
    raise UserError(
        "its forward draws random numbers (random, numpy.random or a new tensor), which differ "
        "each time; draw in training mode only"
    )


def _generators() -> list[str]:
    """The states of the random generators, as text that can be compared."""
    states = [repr(random.getstate()), str(torch.get_rng_state().numpy().tobytes())]
    numpy = sys.modules.get("numpy")
    return (
        states
        if numpy is None
        else [*states, repr([numpy.random.get_state()[1].tobytes(), *numpy.random.get_state()[2:]])]
    )


def halves(network: nn.Module) -> list[str]:
    """The half precisions that a network's weights have, which spikes cannot be counted in."""
    found = {str(p.dtype).removeprefix("torch.") for p in network.parameters()}
    return sorted(found & {"bfloat16", "float16"})


def warn_of_halves(network: nn.Module) -> None:
    """Say that a network in half precision is converted in float32."""
    found = halves(network)
    if found:
        warnings.warn(
            f"{name_of(network)} has {' and '.join(found)} weights; it is converted and "
            "simulated in float32.",
            stacklevel=3,
        )


def _untraced(network: nn.Module, error: Exception, tracer: ActivationTracer) -> str:
    """Why a network cannot be traced."""
    name = name_of(network)
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if isinstance(error, UserError):
        if reason.startswith(name):
            return reason
        return f"{name} cannot be traced: {reason}; take that code out of forward."
    hint = ""
    if tracer.asks_for_shapes:
        hint = " If it asks for the shape of its input, give an example input."
    return (
        f"{name} cannot be traced by torch.fx ({reason}). Its forward must "
        "take one tensor and must not branch on the values in it; move such code out of "
        f"the network.{hint}"
    )


def _write_two_sided(module: fx.GraphModule) -> None:
    """Write two-sided activations as neurons, where they are neither in front nor in the tail."""
    refused = [node for node, role in operators.roles(module).items() if role == "refused"]
    named = {node: operators.path_and_kind(node, module) for node in refused}
    write_two_sided(module, named, own=operators.constants_of(module))
