"""From a description back to a network that simulates, calibrates and exports like any other."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from ftbc_lightning.graph.encoding import encode
from ftbc_lightning.graph.functions import Functions
from ftbc_lightning.graph.operators import mark_roles
from ftbc_lightning.interchange.description import Description, Operation, is_encoder
from ftbc_lightning.interchange.function_calls import constant, expanded, function_call
from ftbc_lightning.interchange.operation_set import FUNCTIONS, TENSORS
from ftbc_lightning.snn.network import SpikingNetwork

CONVOLUTIONS: tuple[Any, ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
AVERAGES = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
MAXIMA = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)


@torch.no_grad()
def rebuild(description: Description) -> SpikingNetwork:
    """Make the network that a description tells of, with torch alone.

    Args:
        description: Of a network; its tensors are copied.

    Returns:
        The network with thresholds, membranes and temporal biases set; its neurons emit 0 and 1,
        or whole numbers if they have a sign or several levels. A network of integers is one of
        float64, which adds them up exactly.
    """
    if description.weight_bits is not None:
        description = _in_float64(description)
    graph, members = fx.Graph(), dict[str, Any]()
    values: dict[str, fx.Node] = {}
    for operation in description.operations:
        inputs = [values[name] for name in operation.inputs]
        values[operation.name] = _node(graph, members, operation, inputs)
    layers = fx.GraphModule(members, graph)
    functions = functions_of(description)
    mark_roles(layers, functions=functions != "refuse")
    kind = description.kind()
    neurons = {o.name: o for o in description.operations if o.kind == "neuron"}
    snn = SpikingNetwork(
        layers,
        {name: neuron.shape for name, neuron in neurons.items()},
        timesteps=description.timesteps,
        input_shape=next(o.shape for o in description.operations if o.kind == "input"),
        neuron=kind.name,
        levels=kind.levels,
        leak=kind.leak,
        functions=functions,
    )
    for name, neuron in snn.neurons().items():
        for key in TENSORS["neuron"]:
            getattr(neuron, key).copy_(neurons[name].tensors[key])
        neuron.amplitude.fill_(1.0)
    return snn


def functions_of(description: Description) -> Functions:
    """What has become of functions that are not linear, as `convert` calls it."""
    if any(map(is_encoder, description.operations)):
        return "encoded"
    return "in_time" if any(o.kind in FUNCTIONS for o in description.operations) else "refuse"


def _in_float64(description: Description) -> Description:
    operations = [
        replace(o, tensors={key: value.double() for key, value in o.tensors.items()})
        for o in description.operations
    ]
    return replace(description, operations=tuple(operations))


def _node(
    graph: fx.Graph, members: dict[str, Any], operation: Operation, inputs: list[fx.Node]
) -> fx.Node:
    kind, name = operation.kind, operation.name
    if kind == "input":
        return graph.create_node("placeholder", name, name=name)
    if kind == "output":
        return cast(fx.Node, graph.output(inputs[0]))
    if is_encoder(operation):
        return graph.create_node("call_function", encode, tuple(inputs), name=name)
    if kind in MODULES:
        members[name] = MODULES[kind](operation)
        return graph.create_node("call_module", name, tuple(inputs), name=name)
    if kind == "affine":
        shifts = bool(operation.tensors["shift"].any())
        scale = _for_channels(graph, members, f"{name}_scale", operation)
        part = f"{name}_scaled" if shifts else name
        product = graph.create_node("call_function", torch.mul, (inputs[0], scale), name=part)
        if not shifts:
            return product
        shift = _for_channels(graph, members, f"{name}_shift", operation)
        return graph.create_node("call_function", torch.add, (product, shift), name=name)
    if kind in FUNCTIONS:
        return function_call(graph, members, operation, inputs)
    if kind == "constant":
        return constant(graph, members, name, operation.tensors["value"].unsqueeze(0))
    if kind == "scale":
        factor = constant(
            graph, members, f"{name}_factor", operation.tensors["factor"].unsqueeze(0)
        )
        return graph.create_node("call_function", torch.mul, (inputs[0], factor), name=name)
    if kind == "concat":
        inputs = expanded(graph, inputs, len(operation.shape))
    function, arguments = _function(operation, inputs)
    return graph.create_node("call_function", function, arguments, name=name)


def _for_channels(
    graph: fx.Graph, members: dict[str, Any], name: str, operation: Operation
) -> fx.Node:
    """A value for each channel that broadcasts over samples."""
    axes = len(operation.shape) - 1
    value = operation.tensors[name.rpartition("_")[2]]
    return constant(graph, members, name, value.reshape(-1, *(1,) * axes))


def _function(
    operation: Operation, inputs: list[fx.Node]
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    set_to, source = operation.attributes, inputs[0] if inputs else None
    if operation.kind == "add":
        return torch.add, tuple(inputs)
    if operation.kind == "round":
        return torch.round, (source,)
    if operation.kind == "concat":
        return torch.cat, (tuple(inputs), set_to["axis"])
    if operation.kind == "flatten":
        return torch.flatten, (source, 1)
    if operation.kind == "reshape":
        return torch.reshape, (source, (-1, *operation.shape))
    if operation.kind == "roll":
        axes = tuple(range(1, len(operation.shape) + 1))
        return torch.roll, (source, tuple(set_to["shifts"]), axes)
    if operation.kind == "permute":
        return torch.permute, (source, tuple(set_to["axes"]))
    if operation.kind == "pad":
        sides = [size for side in reversed(set_to["pad"]) for size in side]
        return F.pad, (source, tuple(sides))
    slices = (slice(None), *(slice(*part) for part in set_to["slices"]))
    return operator.getitem, (source, slices)


def _convolution(operation: Operation) -> nn.Module:
    weight, bias = operation.tensors["weight"], operation.tensors["bias"]
    set_to = {key: _pair(value) for key, value in operation.attributes.items()}
    groups = set_to["groups"]
    made = CONVOLUTIONS[weight.ndim - 3](
        weight.shape[1] * groups,
        weight.shape[0],
        tuple(weight.shape[2:]),
        dtype=weight.dtype,
        **set_to,
    )
    return _filled(made, weight, bias)


def _linear(operation: Operation) -> nn.Module:
    weight, bias = operation.tensors["weight"], operation.tensors["bias"]
    return _filled(nn.Linear(weight.shape[1], weight.shape[0], dtype=weight.dtype), weight, bias)


def _filled(
    module: nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear, weight: Tensor, bias: Tensor
) -> nn.Module:
    assert module.bias is not None
    module.weight.copy_(weight)
    module.bias.copy_(bias)
    return module


def _average(operation: Operation) -> nn.Module:
    set_to = {key: _pair(value) for key, value in operation.attributes.items()}
    return AVERAGES[len(operation.shape) - 2](
        set_to["kernel"], stride=set_to["stride"], padding=set_to["padding"]
    )


def _maximum(operation: Operation) -> nn.Module:
    set_to = {key: _pair(value) for key, value in operation.attributes.items()}
    return MAXIMA[len(operation.shape) - 2](
        set_to["kernel"],
        stride=set_to["stride"],
        padding=set_to["padding"],
        dilation=set_to["dilation"],
        ceil_mode=set_to["ceil_mode"],
    )


def _pair(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _placeholder(operation: Operation) -> nn.Module:
    return nn.ReLU()


MODULES: Mapping[str, Callable[[Operation], nn.Module]] = {
    "conv": _convolution,
    "linear": _linear,
    "avg_pool": _average,
    "max_pool": _maximum,
    "neuron": _placeholder,  # `SpikingNetwork` puts its own neuron there
}
