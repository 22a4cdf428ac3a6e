"""Carry a batch through a converted graph, all its steps at each node before the next node.

Values that no spike has reached yet are the same at every step: they are kept once, as `[B, ...]`,
and computed once. All others are `[steps * B, ...]`, steps first.
"""

import operator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ftbc_lightning.graph.max_pooling import is_max_pool
from ftbc_lightning.graph.operators import is_neuron, is_number

Pooled = dict[str, tuple[Tensor, Tensor]]
"""For each max pooling the sums of its input, and their maxima, up to the last step."""


NEW_TENSOR_MODULES = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, _BatchNorm)
ADDITIONS = (operator.add, torch.add)


class Plan:
    """What can be known of a graph before any value flows.

    Attributes:
        nodes: The nodes in order.
        temporal: The nodes whose value changes from step to step.
        pools: Those among them that take a maximum.
        batched: The nodes whose value has a batch axis, because the input has reached them.
        spent: The temporal nodes whose value is a tensor of its own, no view of another, that
            one node alone reads: that node may write its result into it.
        last_readers: For each node the values that nothing reads after it.
    """

    def __init__(self, graph: fx.GraphModule) -> None:
        self.graph = graph
        self.nodes = list(graph.graph.nodes)
        self.modules = dict(graph.named_modules())
        self.temporal: set[fx.Node] = set()
        self.batched: set[fx.Node] = set()
        spiking = any(is_neuron(node) for node in self.nodes)
        last_reader: dict[fx.Node, fx.Node] = {}
        for node in self.nodes:
            sources = node.all_input_nodes
            # A batch size read from a sample must count the steps too: it shapes spiking values.
            if spiking and (is_neuron(node) or is_number(node)):
                self.temporal.add(node)
            if any(source in self.temporal for source in sources):
                self.temporal.add(node)
            if node.op == "placeholder" or any(source in self.batched for source in sources):
                self.batched.add(node)
            for source in sources:
                last_reader[source] = node
        self.pools = {node for node in self.temporal if is_max_pool(node, graph)}
        self.spent = {n for n in self.temporal if len(n.users) == 1 and self._makes_new_tensor(n)}
        self.last_readers: dict[fx.Node, list[fx.Node]] = {}
        for source, reader in last_reader.items():
            self.last_readers.setdefault(reader, []).append(source)

    def _makes_new_tensor(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            return isinstance(self.modules[str(node.target)], NEW_TENSOR_MODULES)
        return node.op == "call_function" and node.target in ADDITIONS


class Propagation:
    """The values of one batch on its way through a graph.

    Args:
        plan: The plan of the graph.
        images: The input, `[B, ...]`.
        steps: How many time steps each spiking value holds; 1 for an ANN.
        pooled: What max pooling carries from one chunk of time to the next; changed in place.
    """

    def __init__(
        self, plan: Plan, images: Tensor, *, steps: int, pooled: Pooled | None = None
    ) -> None:
        self.plan = plan
        self.steps = steps
        self.batch = images.shape[0]
        self.images = images
        self.pooled: Pooled = {} if pooled is None else pooled
        self.values: dict[fx.Node, Any] = {}

    def current(self, neuron: fx.Node) -> Tensor:
        """The input current of a neuron, `[steps, B, C, ...]`."""
        source = neuron.all_input_nodes[0]
        value: Tensor = self.values[source]
        if source in self.plan.temporal:
            return value.view(self.steps, self.batch, *value.shape[1:])
        return value.unsqueeze(0).expand(self.steps, *value.shape)

    def place_for_spikes(self, neuron: fx.Node) -> Tensor | None:
        """Where a neuron may write its output: over its current, if nothing else reads that."""
        return self.current(neuron) if neuron.all_input_nodes[0] in self.plan.spent else None

    def settle(self, neuron: fx.Node, spikes: Tensor) -> None:
        """Store the output of a neuron, `[steps, B, C, ...]`."""
        self.values[neuron] = spikes.flatten(0, 1)
        self.release(neuron)

    def advance(self, node: fx.Node) -> Any:
        """Evaluate a node that is not a spiking neuron and return its value."""
        value = self.values[node] = self.evaluate(node)
        self.release(node)
        return value

    def release(self, node: fx.Node) -> None:
        """Drop the values that nothing reads after `node`."""
        for source in self.plan.last_readers.get(node, ()):
            self.values.pop(source, None)

    def evaluate(self, node: fx.Node) -> Any:
        """Compute the value of a node that is not a spiking neuron."""
        if node.op == "placeholder":
            return self.images if not node.args else self.values.get(node, node.args[0])
        if node.op == "get_attr":
            return _attribute(self.plan.graph, str(node.target))
        in_time = node in self.plan.temporal
        args = fx.node.map_arg(node.args, lambda source: self._read(source, in_time))
        kwargs = fx.node.map_arg(node.kwargs, lambda source: self._read(source, in_time))
        if node.op == "output":
            return args[0]
        if node in self.plan.pools:
            return self._pool(node, args, kwargs)
        if node.op == "call_function" and node.target in ADDITIONS and not kwargs:
            place = self._place_for_sum(node, args)
            if place is not None:
                return torch.add(args[0], args[1], out=place)  # type: ignore[arg-type]
        return self._call(node, args, kwargs)

    def _place_for_sum(self, node: fx.Node, terms: Any) -> Tensor | None:
        """A term that only this sum reads and that has its shape: no new tensor is needed."""
        if not all(isinstance(term, Tensor) for term in terms):
            return None
        left, right = terms
        if left.shape != right.shape or left.dtype != right.dtype:
            return None
        for source, term in zip(node.args, terms, strict=True):
            if source in self.plan.spent:
                found: Tensor = term
                return found
        return None

    def _call(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        if node.op == "call_module":
            return self.plan.modules[str(node.target)](*args, **kwargs)
        if node.op == "call_method":
            # What is stored channels last cannot be viewed with its axes joined, but reshaped.
            method = "reshape" if node.target == "view" else str(node.target)
            return getattr(args[0], method)(*args[1:], **kwargs)
        return node.target(*args, **kwargs)  # type: ignore[operator]

    def _pool(self, node: fx.Node, args: Any, kwargs: Any) -> Tensor:
        """Max pooling over what has arrived so far, of which each step passes on the growth.

            y[t] = max(x[0] + .. + x[t]) - max(x[0] + .. + x[t-1])

        The mean of y over the steps is then the maximum of the means of x, as in the ANN, where
        the maximum of each step for itself would lie above it. Of spikes with one threshold it
        makes spikes: the largest count grows by one at most.
        """
        current: Tensor = args[0]
        sums = current.view(self.steps, self.batch, *current.shape[1:]).cumsum(0)
        carried = self.pooled.get(node.name)
        if carried is not None:
            sums += carried[0]
        flat: Tensor = self._call(node, (sums.flatten(0, 1), *args[1:]), kwargs)
        peaks = flat.view(self.steps, self.batch, *flat.shape[1:])
        growth = peaks.clone()
        growth[1:] -= peaks[:-1]
        if carried is not None:
            growth[0] -= carried[1]
        self.pooled[node.name] = sums[-1].clone(), peaks[-1].clone()
        return growth.flatten(0, 1)

    def _read(self, source: fx.Node, in_time: bool) -> Any:
        """The value of `source`, repeated over the steps where a spiking node reads it."""
        value = self.values[source]
        if not in_time or source in self.plan.temporal or source not in self.plan.batched:
            return value
        return fx.node.map_aggregate(value, self._repeat)

    def _repeat(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return value.unsqueeze(0).expand(self.steps, *value.shape).flatten(0, 1)


def _attribute(graph: fx.GraphModule, path: str) -> Any:
    value: Any = graph
    for name in path.split("."):
        value = getattr(value, name)
    return value
