"""Carry a batch through a converted graph, all its steps at each node before the next node.

Values that no spike has reached yet are the same at every step: they are kept once, as `[B, ...]`,
and computed once. All others are `[steps * B, ...]`, steps first.
"""

import operator
from itertools import count
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ftbc_lightning.graph.max_pooling import is_max_pool, operands
from ftbc_lightning.graph.methods import call_method
from ftbc_lightning.graph.operators import in_function, in_tail, is_neuron
from ftbc_lightning.graph.shapes import is_number
from ftbc_lightning.graph.step_weights import added_up, leaky_sums

Pooled = dict[str, tuple[Tensor, ...]]
"""For each max pooling its maxima and the sums of its inputs, up to the last step; and for each
value that is read as its mean over the steps the sum, and how many steps those were."""


NEW_TENSOR_MODULES = (
    *(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, _BatchNorm),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)
ADDITIONS = (operator.add, torch.add)


def prepared(inputs: Tensor, like: Tensor) -> Tensor:
    """Inputs on a network's device and in its precision; token numbers and bytes stay integers."""
    dtype = like.dtype if inputs.is_floating_point() else inputs.dtype
    return inputs.to(device=like.device, dtype=dtype)


class Plan:
    """What can be known of a graph before any value flows.

    Attributes:
        nodes: The nodes in order.
        temporal: The nodes whose value changes from step to step, and numbers, which count samples
            and steps together.
        pools: Those among them that take a maximum.
        functions: Those that are taken over what has arrived so far.
        tail: Those that are computed on the running mean, behind the last layer.
        leak: Of the neurons; 1 where there are none. Sums over the steps have it too.
        sizes: Numbers that no spike reaches: nodes that are computed once read them without steps.
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
        neurons = [self.modules[str(node.target)] for node in self.nodes if is_neuron(node)]
        spiking = bool(neurons)
        self.leak: float = getattr(neurons[0], "leak", 1.0) if neurons else 1.0
        last_reader: dict[fx.Node, fx.Node] = {}
        reached: set[fx.Node] = set()
        self.sizes: set[fx.Node] = set()
        for node in self.nodes:
            sources = node.all_input_nodes
            # A batch size read from a sample must count the steps too: it shapes spiking values.
            number = is_number(node)
            if spiking and (is_neuron(node) or number):
                self.temporal.add(node)
            if is_neuron(node) or any(source in reached for source in sources):
                self.temporal.add(node)
                reached.add(node)
            elif spiking and number:
                self.sizes.add(node)
            if node.op == "placeholder" or any(source in self.batched for source in sources):
                self.batched.add(node)
            for source in sources:
                last_reader[source] = node
        self.tail = {node for node in self.temporal & reached if in_tail(node)}
        self.functions = {node for node in self.temporal & reached if in_function(node)}
        inside = reached - self.tail - self.functions
        self.pools = {node for node in inside if is_max_pool(node, graph)}
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
        self.sizes: dict[fx.Node, Any] = {}
        self.means: dict[fx.Node, Any] = {}

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
        if node in self.plan.sizes:
            self._size(node)
        self.release(node)
        return value

    def release(self, node: fx.Node) -> None:
        """Drop the values that nothing reads after `node`."""
        for source in self.plan.last_readers.get(node, ()):
            self.values.pop(source, None)
            self.means.pop(source, None)

    def evaluate(self, node: fx.Node) -> Any:
        """Compute the value of a node that is not a spiking neuron."""
        if node.op == "placeholder":
            return self.images
        if node.op == "get_attr":
            return _attribute(self.plan.graph, str(node.target))
        if node in self.plan.tail:
            args, kwargs = self._arguments(node, in_time=True, mean=True)
            return self._call(node, args, kwargs)
        if node in self.plan.functions:
            return self._function(node)
        args, kwargs = self._arguments(node, in_time=node in self.plan.temporal)
        if node.op == "output":
            return [self._read(source, in_time=True) for source in node.all_input_nodes]
        if node in self.plan.pools:
            return self._pool(node, args, kwargs)
        if node.op == "call_function" and node.target in ADDITIONS and not kwargs:
            place = self._place_for_sum(node, args)
            if place is not None:
                return torch.add(args[0], args[1], out=place)
        return self._call(node, args, kwargs)

    def _arguments(self, node: fx.Node, *, in_time: bool, mean: bool = False) -> tuple[Any, Any]:
        def read(source: fx.Node) -> Any:
            return self._mean(source) if mean else self._read(source, in_time)

        return fx.node.map_arg(node.args, read), fx.node.map_arg(node.kwargs, read)

    def _place_for_sum(self, node: fx.Node, terms: Any) -> Tensor | None:
        """A term that only this sum reads and that has its shape: no new tensor is needed.

        Where gradients are wanted nothing is written over.
        """
        if torch.is_grad_enabled() or not all(isinstance(term, Tensor) for term in terms):
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
            return call_method(str(node.target), args, kwargs)
        return node.target(*args, **kwargs)  # type: ignore[operator]

    def _pool(self, node: fx.Node, args: Any, kwargs: Any) -> Tensor:
        """Max pooling over what has arrived so far, of which each step passes on the growth.

            y[t] = max(S[t]) - leak * max(S[t-1]),   S[t] = leak * S[t-1] + x[t]

        The mean of y over the steps is then the maximum of the means of x, as in the ANN, where
        the maximum of each step for itself would lie above it. Of spikes with one threshold it
        makes spikes: the largest count grows by one at most.
        """
        carried = self.pooled.get(node.name)
        terms = len(operands(node))
        before = (None,) * terms if carried is None else carried[1:]
        leak = self.plan.leak
        sums = [
            leaky_sums(self.in_steps(current), leak, sum_before)
            for current, sum_before in zip(args[:terms], before, strict=True)
        ]
        flat: Tensor = self._call(node, (*(s.flatten(0, 1) for s in sums), *args[terms:]), kwargs)
        peaks = self.in_steps(flat)
        self.pooled[node.name] = peaks[-1].clone(), *(total[-1].clone() for total in sums)
        return self._growth(peaks, None if carried is None else carried[0])

    def _function(self, node: fx.Node) -> Tensor:
        """A function of what has arrived so far, of which each step passes on the growth.

        See `ftbc_lightning.graph.functions`.
        """
        args, kwargs = self._arguments(node, in_time=True, mean=True)
        value: Tensor = self._call(node, args, kwargs)
        self.means[node] = value
        leak, before = self.plan.leak, self.pooled.get(node.name)
        counts = added_up(value.new_ones(self.steps), leak, None if before is None else before[1])
        totals = self.in_steps(value) * counts.view(-1, *(1,) * value.ndim)
        self.pooled[node.name] = totals[-1].clone(), counts[-1].clone()
        return self._growth(totals, None if before is None else before[0])

    def _growth(self, totals: Tensor, before: Tensor | None) -> Tensor:
        """What each step adds to a sum that leaks, `[steps, B, ...]`, as a value in time.

        y[t] = G[t] - leak * G[t-1]
        """
        leak, growth = self.plan.leak, totals.clone()
        growth[1:] -= totals[:-1] if leak == 1 else leak * totals[:-1]
        if before is not None:
            growth[0] -= leak * before
        return growth.flatten(0, 1)

    def in_steps(self, value: Tensor) -> Tensor:
        """A value in time with its steps as an axis, `[steps, B, ...]`."""
        return value.view(self.steps, self.batch, *value.shape[1:])

    def _mean(self, source: fx.Node) -> Any:
        """The value of `source` averaged over the steps up to each, for what follows all layers.

        m[t] = S[t] / n[t],   S[t] = leak * S[t-1] + x[t],   n[t] = leak * n[t-1] + 1
        """
        plan = self.plan
        if source in plan.tail or source not in plan.temporal or is_number(source):
            return self._read(source, in_time=True)
        if source not in self.means:
            names = (f"{source.name}.{place}" for place in count())
            self.means[source] = fx.node.map_aggregate(
                self.values[source], lambda value: self._running_mean(value, next(names))
            )
        return self.means[source]

    def _running_mean(self, value: Any, name: str) -> Any:
        if not isinstance(value, Tensor):
            return value
        carried = self.pooled.get(name, (None, None))
        sums = added_up(self.in_steps(value), self.plan.leak, carried[0])
        steps = added_up(value.new_ones(self.steps), self.plan.leak, carried[1])
        self.pooled[name] = sums[-1].clone(), steps[-1].clone()
        return (sums / steps.view(-1, *(1,) * (sums.ndim - 1))).flatten(0, 1)

    def _read(self, source: fx.Node, in_time: bool) -> Any:
        """The value of `source`, repeated over the steps where a spiking node reads it."""
        if not in_time and source in self.plan.sizes:
            return self._size(source)
        value = self.values[source]
        if not in_time or source in self.plan.temporal or source not in self.plan.batched:
            return value
        return fx.node.map_aggregate(value, self._repeat)

    def _size(self, number: fx.Node) -> Any:
        """A number without the steps, for what is computed once."""
        if number not in self.sizes:
            self.sizes[number] = self._call(number, *self._arguments(number, in_time=False))
        return self.sizes[number]

    def _repeat(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return value.unsqueeze(0).expand(self.steps, *value.shape).flatten(0, 1)


def _attribute(graph: fx.GraphModule, path: str) -> Any:
    value: Any = graph
    for name in path.split("."):
        value = getattr(value, name)
    return value
