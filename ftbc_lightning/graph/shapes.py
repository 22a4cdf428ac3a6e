"""What is known of a network's values before there are any: shapes, types and devices.

A forward pass may ask for them: `x.ndim == 4`, `int(8 * h * w)`. They are found by carrying
tensors without values through the graph, in batches of several sizes: what is the same for all
of them belongs to one sample and is a number, and the batch size stays open.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from ftbc_lightning.errors import UserError
from ftbc_lightning.graph.methods import call_method

BATCH_SIZES = (1, 2, 7)

CHANCE = frozenset(
    (
        *("rand", "rand_like", "randn", "randn_like", "randint", "randint_like", "randperm"),
        *("bernoulli", "bernoulli_", "normal", "normal_", "poisson", "multinomial", "uniform_"),
        *("exponential_", "random_", "gumbel_softmax", "cauchy_", "geometric_", "log_normal_"),
    )
)
"""Names of functions and methods whose result is drawn."""

CREATING = frozenset(("zeros", "ones", "full", "empty", "tensor", "arange", "linspace", "eye"))
CREATING_LIKE = frozenset(
    (
        *("zeros_like", "ones_like", "full_like", "empty_like"),
        *("new_zeros", "new_ones", "new_full", "new_empty"),
    )
)
"""Names of what makes a tensor out of shape and type alone."""

ASKING_METHODS = frozenset(
    (
        *("size", "dim", "ndimension", "numel", "nelement", "stride", "element_size", "get_device"),
        *("is_floating_point", "is_complex", "is_contiguous"),
    )
)
ASKING_FUNCTIONS = (len, torch.numel, torch.is_floating_point, torch.is_complex, torch.is_tensor)
ASKED_ATTRIBUTES = frozenset(
    (
        *("shape", "ndim", "dtype", "device", "is_cuda", "is_mps", "is_cpu", "is_sparse"),
        *("is_quantized", "is_mkldnn", "is_meta", "layout", "itemsize", "nbytes", "requires_grad"),
    )
)


def is_number(node: fx.Node) -> bool:
    """Say whether a node is a number or a shape, or computed from such alone: not a tensor in time.

    So is a tensor of given numbers whose shape follows from another.

    >>> graph = fx.symbolic_trace(nn.Flatten(0)).graph
    >>> [is_number(node) for node in graph.nodes]
    [False, False, False]
    """
    if node.op == "call_method" and node.target in ASKING_METHODS:
        return True
    if node.op not in ("call_function", "call_method"):
        return False
    if node.op == "call_function" and node.target in ASKING_FUNCTIONS:
        return True
    if node.target is getattr and node.args[1] in ASKED_ATTRIBUTES:
        return True
    if name_of(node) in CREATING_LIKE or _takes_type(node):
        return True
    if drawn(node) or not node.all_input_nodes:
        return False
    return all(is_number(source) for source in node.all_input_nodes)


def drawn(node: fx.Node) -> bool:
    """Say whether a function or method gives another value each time."""
    return node.op in ("call_function", "call_method") and name_of(node) in CHANCE


def is_created(node: fx.Node) -> bool:
    """Say whether a node makes a tensor of given numbers."""
    kinds = ("call_function", "call_method")
    return node.op in kinds and name_of(node) in CREATING | CREATING_LIKE


def name_of(node: fx.Node) -> str:
    """The name of the function or method that a node calls."""
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")


def _takes_type(node: fx.Node) -> bool:
    """Say whether a tensor of the network takes type and device of another: `scale.to(x)`."""
    if node.op != "call_method" or node.target not in ("to", "type_as"):
        return False
    cast, *others = node.all_input_nodes
    return bool(others) and (cast.op == "get_attr" or is_number(cast))


class _Failed:
    """Stands for a value that could not be computed."""


class Shapes:
    """The values of a graph's nodes for inputs of one shape, as tensors without values.

    Attributes:
        asked: True while values are computed, so that a tracer does not write them down.

    Args:
        root: Holds the modules and tensors that the nodes name.
        example_input: `[B, ...]`, of which shape, type and device matter.
    """

    def __init__(self, root: nn.Module, example_input: Tensor) -> None:
        self.root, self.asked = root, False
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)
        like = next((p for p in root.parameters() if p.is_floating_point()), example_input)
        dtype = like.dtype if example_input.is_floating_point() else example_input.dtype
        shape, device = example_input.shape[1:], like.device
        self.inputs = []
        for size in BATCH_SIZES:
            with self.mode:
                self.inputs.append(torch.empty(size, *shape, dtype=dtype, device=device))
        self.runs: list[dict[fx.Node, Any]] = [{} for _ in BATCH_SIZES]

    def of(self, node: fx.Node) -> list[Any]:
        """The value of a node for each batch size; a `_Failed` where there is none."""
        if node not in self.runs[-1]:
            self._run_to(node)
        return [run[node] for run in self.runs]

    def _run_to(self, node: fx.Node) -> None:
        self.asked = True
        try:
            with self.mode, torch.no_grad():
                for images, run in zip(self.inputs, self.runs, strict=True):
                    for other in node.graph.nodes:
                        if other not in run:
                            run[other] = self._evaluate(other, run, images)
                        if other is node:
                            break
        finally:
            self.asked = False

    def number(self, node: fx.Node) -> Any:
        """The value of a node that follows from the shape and type of one sample.

        Raises:
            LookupError: It depends on values.
            UserError: It depends on how many samples there are.
        """
        found = self.of(node)
        if any(isinstance(leaf, Tensor | _Failed) for value in found for leaf in _leaves(value)):
            raise LookupError(node.name)
        return _agreed(node, found)

    def length(self, node: fx.Node) -> int:
        """How many parts a value has; see `number`."""
        found = self.of(node)
        if not all(hasattr(value, "__len__") for value in found):
            raise LookupError(node.name)
        return int(_agreed(node, [len(value) for value in found]))

    def batch_axes(self, node: fx.Node) -> list[list[int]] | None:
        """For each tensor that a node gives, its axes whose length follows the batch size.

        Nothing is known where the value needs more than shapes.
        """
        parts = [list(_leaves(value)) for value in self.of(node)]
        if any(isinstance(leaf, _Failed) for leaves in parts for leaf in leaves):
            return None
        sizes = [[leaf.shape for leaf in leaves if isinstance(leaf, Tensor)] for leaves in parts]
        if len({len(shapes) for shapes in sizes}) > 1:
            return [[]]  # a piece for each sample
        return [
            [axis for axis, lengths in enumerate(zip(*found, strict=False)) if len({*lengths}) > 1]
            for found in zip(*sizes, strict=True)
        ]

    def keeps_samples(self, node: fx.Node) -> bool:
        """Say whether a tensor has as many parts along its first axis as there are samples."""
        return all(
            value.shape[:1] == images.shape[:1]
            for value, images in zip(self.of(node), self.inputs, strict=True)
            if isinstance(value, Tensor)
        )

    def _evaluate(self, node: fx.Node, run: dict[fx.Node, Any], images: Tensor) -> Any:
        if node.op == "placeholder":
            return images
        if any(isinstance(run[source], _Failed) for source in node.all_input_nodes):
            return _Failed()
        try:
            args = fx.node.map_arg(node.args, run.__getitem__)
            kwargs = fx.node.map_arg(node.kwargs, run.__getitem__)
            return self._call(node, args, kwargs)
        except Exception:  # whoever needs the value says that there is none
            return _Failed()

    def _call(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        if node.op == "get_attr":
            value: Any = self.root
            for name in str(node.target).split("."):
                value = getattr(value, name)
            return value
        if node.op == "call_module":
            return self.root.get_submodule(str(node.target)).forward(*args, **kwargs)
        if node.op == "call_method":
            return call_method(str(node.target), args, kwargs)
        return args[0] if node.op == "output" else node.target(*args, **kwargs)  # type: ignore[operator]


def _agreed(node: fx.Node, found: list[Any]) -> Any:
    """The value that does not depend on the batch size."""
    if any(value != found[0] for value in found):
        raise UserError(
            f"its path depends on the size of the batch ({node.name} is "
            f"{', '.join(str(value) for value in found)} for {BATCH_SIZES} samples)"
        )
    return found[0]


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple | list):
        for part in value:
            yield from _leaves(part)
    else:
        yield value
