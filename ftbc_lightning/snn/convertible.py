"""Whether a traced ANN can become a spiking network, and of what shapes its neurons would be."""

from typing import Any

import torch
from torch import Tensor, fx, nn

from ftbc_lightning.errors import UserError
from ftbc_lightning.graph import operators
from ftbc_lightning.graph.batch_axis import check_batch_axis
from ftbc_lightning.graph.functions import Functions
from ftbc_lightning.graph.linear import never
from ftbc_lightning.graph.outputs import form_of, output_of
from ftbc_lightning.graph.propagation import Plan, Propagation, prepared
from ftbc_lightning.graph.shapes import is_number


def activation_nodes(graph: fx.GraphModule) -> list[str]:
    """Names of the nodes of a traced ANN that become neurons, from input to output."""
    return [node.name for node, role in operators.roles(graph).items() if role == "neuron"]


def check_convertible(graph: fx.GraphModule, *, name: str, functions: Functions = "refuse") -> None:
    """Raise `UserError` naming every node that cannot be converted."""
    found = operators.roles(graph, functions=functions != "refuse")
    refused = [node for node, role in found.items() if role == "refused"]
    if refused:
        listed = ", ".join(operators.describe(node, graph) for node in refused)
        advice = "; ".join(
            dict.fromkeys(
                f"{operators.path_and_kind(node, graph)[1]}: {operators.advice(node, graph)}"
                for node in refused
            )
        )
        raise UserError(
            f"{name} cannot be converted: {len(refused)} of its nodes are not ReLU-like, linear "
            f"or pooling: {listed}. The way out: {advice}." + _in_time(refused, graph, functions)
        )
    if not activation_nodes(graph) and functions == "in_time":
        raise UserError(
            f"{name} has no ReLU, so nothing in it would spike; give functions=encoded "
            "(--calibration.functions encoded), which puts neurons before its layers."
        )
    if not activation_nodes(graph):
        raise UserError(f"{name} has no ReLU, so there is nothing to turn into spiking neurons.")
    if next(graph.parameters(), None) is None:
        raise UserError(f"{name} has no weights; a network that has been trained is needed.")
    output = output_of(graph)
    if not output.all_input_nodes or any(map(is_number, output.all_input_nodes)):
        raise UserError(
            f"{name}.forward returns {form_of(output.args[0])}; it must return tensors, the logits "
            "of each sample."
        )


def _in_time(refused: list[fx.Node], graph: fx.GraphModule, functions: Functions) -> str:
    """The other way out, where there is one for every node."""
    if functions != "refuse" or any(_has_no_mean(node, graph) for node in refused):
        return ""
    return (
        " Or keep them as they are, taken over what has arrived so far: functions=encoded "
        "(--calibration.functions encoded)."
    )


def _has_no_mean(node: fx.Node, graph: fx.GraphModule) -> bool:
    """Whether a node cannot be taken over what has arrived so far: chance, or several values."""
    module = graph.get_submodule(str(node.target)) if node.op == "call_module" else None
    return bool(never(node, graph)) or isinstance(module, nn.RNNBase)


def refuse_max_pooling(graph: fx.GraphModule, *, name: str) -> None:
    """Raise `UserError` naming every max pooling that spikes reach."""
    pools = operators.pools_in_time(graph)
    if pools:
        listed = ", ".join(operators.describe(node, graph) for node in pools)
        raise UserError(
            f"{name} has {len(pools)} max poolings that spikes reach: {listed}. Train with average "
            "pooling, or convert with max_pooling=sums."
        )


@torch.no_grad()
def neuron_shapes(graph: fx.GraphModule, example_input: Tensor) -> dict[str, tuple[int, ...]]:
    """The shape of each activation for one input, without the batch axis."""
    example = prepared(example_input, next(iter(graph.parameters())))
    names = set(activation_nodes(graph))
    propagation = Propagation(Plan(graph), example, steps=1)
    shapes = {}
    for node in propagation.plan.nodes:
        try:
            value = propagation.advance(node)
        except (RuntimeError, IndexError, ValueError) as error:
            if isinstance(error, IndexError):  # a sample that is not there
                check_batch_axis(graph, example)
            raise UserError(
                f"An input of shape {list(example.shape)} does not pass "
                f"{operators.describe(node, graph)}: {str(error).splitlines()[0]}. Check the size "
                "of the samples and the number of channels."
            ) from error
        if operators.in_function(node) and not _is_real(value):
            raise UserError(
                f"{operators.describe(node, graph)} does not give one tensor of real numbers, and "
                "cannot be taken over what has arrived so far."
            )
        if node.name in names:
            if value.ndim < 2:
                raise UserError(
                    f"{operators.describe(node, graph)} has one number for each sample and no axis "
                    "of channels; keep it as [B, 1]."
                )
            shapes[node.name] = tuple(value.shape[1:])
    check_batch_axis(graph, example)
    return shapes


def _is_real(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()
