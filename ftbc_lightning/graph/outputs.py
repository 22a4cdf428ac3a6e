"""What a network returns: one tensor, or several in tuples, lists and dictionaries."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, fx

from ftbc_lightning.errors import UserError
from ftbc_lightning.graph.operators import in_tail
from ftbc_lightning.graph.step_weights import running_mean


def output_of(graph: fx.GraphModule) -> fx.Node:
    """The node that says what the network returns."""
    node: fx.Node = next(n for n in reversed(graph.graph.nodes) if n.op == "output")
    return node


def write_containers(graph: fx.GraphModule, *, name: str) -> None:
    """Put named tuples into what a network returns as they are; a tracer calls their class.

    Raises:
        UserError: What is returned is an object of another class.
    """
    output = output_of(graph)

    def opened(node: fx.Node) -> Any:
        if not isinstance(node.target, type) or issubclass(node.target, Tensor):
            return node
        if not hasattr(node.target, "_fields"):
            raise UserError(
                f"{name}.forward returns a {node.target.__name__}; it must return tensors, in "
                "tuples, lists, dictionaries or named tuples where there are several."
            )
        return filled(node.target(*node.args, **node.kwargs), opened)

    output.args = (filled(output.args[0], opened),)
    graph.graph.eliminate_dead_code()


def filled(returned: Any, value_of: Callable[[fx.Node], Any]) -> Any:
    """What a network returns, with a value in the place of each tensor.

    Args:
        returned: The argument of an output node: a node, or nodes in tuples, lists, dictionaries
            and named tuples, one in another, beside numbers and None.
        value_of: The value of a node.

    >>> node = fx.Graph().placeholder("x")
    >>> filled({"out": (node, None)}, lambda node: node.name)
    {'out': ('x', None)}
    """
    if isinstance(returned, fx.Node):
        return value_of(returned)
    if isinstance(returned, Mapping):
        return {key: filled(part, value_of) for key, part in returned.items()}
    if not isinstance(returned, tuple | list):
        return returned
    parts = [filled(part, value_of) for part in returned]
    if isinstance(returned, list):
        return parts
    return type(returned)(*parts) if hasattr(returned, "_fields") else tuple(parts)


def form_of(returned: Any) -> str:
    """What a network returns, in words.

    >>> form_of({"out": None, "aux": None}), form_of((1, 2)), form_of(3)
    ('a dictionary (out, aux)', 'a tuple of 2', '3')
    """
    if isinstance(returned, Mapping):
        return f"a dictionary ({', '.join(map(str, returned))})"
    if not isinstance(returned, tuple | list):
        return "a number" if isinstance(returned, fx.Node) else repr(returned)
    names: Sequence[str] = getattr(returned, "_fields", ())
    kind = "tuple" if isinstance(returned, tuple) else "list"
    return f"a {kind} ({', '.join(names)})" if names else f"a {kind} of {len(returned)}"


def check_one_output(graph: fx.GraphModule, *, what: str) -> None:
    """Raise `UserError` where a network returns several tensors.

    Args:
        graph: The network.
        what: What needs one alone.
    """
    returned = output_of(graph).args[0]
    if not isinstance(returned, fx.Node):
        raise UserError(
            f"The network returns {form_of(returned)}, and {what} needs one tensor. Convert a "
            "network that returns it alone (`ftbc_lightning.ann.OneOutput(network, name)`)."
        )


def read_out(output: fx.Node, values: Sequence[Tensor], leak: float) -> Any:
    """What a spiking network returns after each step, in the form in which the ANN returns it.

    Each tensor is its weighted mean over the steps up to each; what lies in the tail is computed on
    such a mean and is one already.

    Args:
        output: The node that says what is returned.
        values: Of each tensor that is returned what it is at each step, `[T, B, ...]`, in the order
            of `output.all_input_nodes`.
        leak: Of the neurons.

    Returns:
        `[T, B, ...]` in the place of each tensor.
    """
    means = {
        source: value if in_tail(source) else running_mean(value, leak)
        for source, value in zip(output.all_input_nodes, values, strict=True)
    }
    return filled(output.args[0], means.__getitem__)
