"""The operations between the neurons of a graph."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from torch import fx

from ftbc_lightning.graph.operators import is_neuron
from ftbc_lightning.graph.propagation import Plan


@dataclass(frozen=True)
class Stretch:
    """What lies between a neuron and the neurons, constants and known values before it.

    Attributes:
        neuron: The neuron.
        operations: What is computed in time, in order.
        read: The values that these operations, or the neuron itself, read from outside.
        shared: Operations whose value later layers read too.
    """

    neuron: fx.Node
    operations: list[fx.Node]
    read: set[fx.Node]
    shared: set[fx.Node]


def stretch_before(
    neuron: fx.Node, plan: Plan, *, known: Collection[fx.Node], later: Sequence[fx.Node]
) -> Stretch:
    """Find the operations before a neuron.

    Args:
        neuron: The neuron.
        plan: Of its graph.
        known: Operations whose values are there already.
        later: The neurons that come after this one.
    """
    operations = operations_before(neuron, plan, known)
    inside = {*operations, neuron}
    afterwards = {node for n in later for node in (*operations_before(n, plan, known), n)} - inside
    shared = {node for node in operations if any(user in afterwards for user in node.users)}
    return Stretch(neuron, operations, _read(neuron, operations), shared)


def read_later(plan: Plan, *, known: Collection[fx.Node], later: Sequence[fx.Node]) -> set[fx.Node]:
    """The neurons, constants and known values that the neurons to come need."""
    return {node for n in later for node in _read(n, operations_before(n, plan, known))}


def operations_before(
    neuron: fx.Node, plan: Plan, known: Collection[fx.Node] = ()
) -> list[fx.Node]:
    """What is computed in time between a neuron and the neurons and known values before it."""
    found: set[fx.Node] = set()
    pending = list(neuron.all_input_nodes)
    while pending:
        node = pending.pop()
        if node in found or node in known or is_neuron(node) or node not in plan.temporal:
            continue
        found.add(node)
        pending += node.all_input_nodes
    return [node for node in plan.nodes if node in found]


def _read(neuron: fx.Node, operations: Sequence[fx.Node]) -> set[fx.Node]:
    read = {source for node in (*operations, neuron) for source in node.all_input_nodes}
    return read - set(operations)
