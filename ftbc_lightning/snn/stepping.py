"""A spiking network one time step at a time, its state in the open.

`ftbc_lightning.simulate` carries all steps through a layer before the next one, which is faster. A
runtime that steps, a program that is compiled, and a sample that stops early need this form.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from ftbc_lightning.graph.max_pooling import is_max_pool, operands
from ftbc_lightning.graph.methods import call_method
from ftbc_lightning.graph.operators import in_function, in_tail, is_neuron
from ftbc_lightning.graph.outputs import filled, output_of, read_out
from ftbc_lightning.graph.shapes import is_number
from ftbc_lightning.graph.step_weights import leaky_sums
from ftbc_lightning.snn.frozen import FrozenNetwork
from ftbc_lightning.snn.network import SpikingNetwork
from ftbc_lightning.snn.neurons.integrate_and_fire import IFNeuron

State = dict[str, Tensor]
"""For each neuron its membrane, and what it may take back if it counts that, for each max pooling
in time the sums of its inputs, for each value that is read as its mean over the steps the sum;
`[B, ...]`."""


class SteppedNetwork(nn.Module):
    """The same network as `snn`, computed step by step by out-of-place operations of torch.

    Args:
        snn: A network with thresholds set; its layers are shared.
    """

    def __init__(self, snn: SpikingNetwork | FrozenNetwork) -> None:
        super().__init__()
        snn.check_thresholds()
        self.timesteps = snn.timesteps
        self.layers = snn.layers
        self.names = list(snn.neurons())
        self.leak = snn.leak
        self.owed = {name: f"{name}.owed" for name, n in snn.neurons().items() if n.remembers}
        nodes = list(snn.layers.graph.nodes)
        reached: set[fx.Node] = set()
        batched: set[fx.Node] = set()
        for node in nodes:
            sources = node.all_input_nodes
            if is_neuron(node) or any(source in reached for source in sources):
                reached.add(node)
            if node.op == "placeholder" or any(source in batched for source in sources):
                batched.add(node)
        self.before = [node for node in nodes if node not in reached]
        # numbers again: a batch from which samples have been taken out is smaller
        self.during = [node for node in nodes if node in reached or is_number(node)]
        read = {source for node in self.during for source in node.all_input_nodes}
        self.kept = [n for n in self.before if n in read and n not in self.during]
        self.sized_by_batch = {node.name for node in self.kept if node in batched}
        self.tail = {node for node in reached if in_tail(node)}
        self.functions = {node for node in reached if in_function(node)}
        inside = reached - self.tail - self.functions
        maxima = [node for node in nodes if node in inside and is_max_pool(node, snn.layers)]
        self.pools = {
            node: [node.name, *(f"{node.name}.{i}" for i in range(1, len(operands(node))))]
            for node in maxima
        }
        self.averaged = {
            source: f"{source.name}.sum"
            for node in nodes
            if node in self.tail | self.functions
            for source in node.all_input_nodes
            if source in reached - self.tail - self.functions and not is_number(source)
        }
        self.output = output_of(snn.layers)
        self.averages = filled(self.output.args[0], self.tail.__contains__)

    @property
    def state_names(self) -> list[str]:
        """The parts of the state, in the order of `state`."""
        sums = [name for names in self.pools.values() for name in names]
        totals = [_total(node) for node in self.during if node in self.functions]
        return [*self.names, *self.owed.values(), *sums, *self.averaged.values(), *totals]

    def constants(self, images: Tensor) -> dict[str, Any]:
        """What does not change from step to step, by node name: computed once."""
        values: dict[fx.Node, Any] = {}
        for node in self.before:
            values[node] = self._evaluate(node, values, images)
        return {node.name: values[node] for node in self.kept}

    def step(
        self, constants: Mapping[str, Any], state: State, step: int | Tensor
    ) -> tuple[Any, State]:
        """Compute one time step.

        Args:
            constants: From `constants`.
            state: After the step before; not read at step 0, where it may be empty.
            step: t, 0 to T-1, as a number or an int64 scalar.

        Returns:
            The output layer's value at this step, `[B, classes]`, and the state after it. Where
            `averages` is true there is a function behind that layer, and the first is its value
            for the mean over the steps so far. Of a network that returns several tensors both have
            the form in which it returns them.
        """
        values, after = self._values(constants, state, step)
        return filled(self.output.args[0], values.__getitem__), after

    def _values(
        self, constants: Mapping[str, Any], state: State, step: int | Tensor
    ) -> tuple[dict[fx.Node, Any], State]:
        """The values of all nodes at one step, and the state after it."""
        values: dict[fx.Node, Any] = {node: constants[node.name] for node in self.kept}
        means: dict[fx.Node, Any] = {}
        after: State = {}
        for node in self.during:
            if node.op == "output":
                break
            if is_neuron(node):
                current = values[node.all_input_nodes[0]]
                values[node] = self._fire(node, current, state, after, step)
            elif node in self.pools:
                values[node] = self._pool(node, values, state, after, step)
            elif node in self.tail:
                values[node] = self._evaluate(node, {**values, **means}, None)
            elif node in self.functions:
                means[node] = self._evaluate(node, {**values, **means}, None)
                values[node] = self._growth(node, means[node], state, after, step)
            else:
                values[node] = self._evaluate(node, values, None)
            if node in self.averaged:
                name = self.averaged[node]
                total = values[node] + self.leak * _so_far(values[node], state, name, step)
                after[name], means[node] = total, total / self.weight_so_far(step, total)
        return values, after

    def forward(self, images: Tensor) -> Any:
        """All T steps: logits `[T, B, classes]`, as `simulate` gives them."""
        constants, state = self.constants(images), State()
        outputs = []
        for t in range(self.timesteps):
            values, state = self._values(constants, state, t)
            outputs.append([values[source] for source in self.output.all_input_nodes])
        stacked = [torch.stack(steps) for steps in zip(*outputs, strict=True)]
        return read_out(self.output, stacked, self.leak)

    def weight_so_far(self, step: int | Tensor, like: Tensor) -> int | Tensor:
        """How much all steps up to this one weigh together, where this one weighs 1.

        n[t] = leak * n[t-1] + 1
        """
        if self.leak == 1:
            return step + 1
        weights = leaky_sums(like.new_ones(self.timesteps), self.leak)
        return weights[step] if isinstance(step, int) else weights.index_select(0, step.reshape(1))

    def _fire(
        self, node: fx.Node, current: Tensor, state: State, after: State, step: int | Tensor
    ) -> Tensor:
        neuron = self.layers.get_submodule(str(node.target))
        assert isinstance(neuron, IFNeuron)
        axes = (1,) * (current.ndim - 2)
        bias = neuron.temporal_bias + neuron.step_charge
        rest = neuron.initial_membrane.view(-1, *axes)
        if neuron.membrane_correction is not None:
            rest = rest + neuron.membrane_correction
        threshold = neuron.threshold.view(-1, *axes)
        amplitude = neuron.amplitude.view(-1, *axes)
        if isinstance(step, Tensor):
            now = bias.index_select(0, step.reshape(1)).view(-1, *axes)
            v = torch.where(step == 0, rest.expand_as(current), state[node.name])
        else:
            now = bias[step].view(-1, *axes)
            v = rest if step == 0 else state[node.name]
        u = v + current + now
        owed = self.owed.get(node.name)
        before = None if owed is None else _so_far(u, state, owed, step)
        fired = neuron.fire(u, threshold, before)
        left = u - fired * threshold
        after[node.name] = left if neuron.leak == 1 else neuron.leak * left
        if owed is not None and before is not None:
            after[owed] = before - fired
        return fired * amplitude

    def _pool(
        self,
        node: fx.Node,
        values: dict[fx.Node, Any],
        state: State,
        after: State,
        step: int | Tensor,
    ) -> Tensor:
        """max(leak * S + x) - leak * max(S), S the sum of the inputs so far."""
        before, total = dict(values), dict(values)
        for source, name in zip(operands(node), self.pools[node], strict=True):
            before[source] = self.leak * _so_far(values[source], state, name, step)
            total[source] = after[name] = before[source] + values[source]
        return self._evaluate(node, total, None) - self._evaluate(node, before, None)  # type: ignore[no-any-return]

    def _growth(
        self, node: fx.Node, value: Tensor, state: State, after: State, step: int | Tensor
    ) -> Tensor:
        """n[t] f(m[t]) - leak * n[t-1] f(m[t-1]); see `ftbc_lightning.graph.functions`."""
        total = after[_total(node)] = value * self.weight_so_far(step, value)
        return total - self.leak * _so_far(value, state, _total(node), step)

    def _evaluate(self, node: fx.Node, values: Mapping[fx.Node, Any], images: Tensor | None) -> Any:
        if node.op == "placeholder":
            return images
        if node.op == "get_attr":
            value: Any = self.layers
            for name in str(node.target).split("."):
                value = getattr(value, name)
            return value
        args = fx.node.map_arg(node.args, values.__getitem__)
        kwargs = fx.node.map_arg(node.kwargs, values.__getitem__)
        if node.op == "call_module":
            return self.layers.get_submodule(str(node.target))(*args, **kwargs)
        if node.op == "call_method":
            return call_method(str(node.target), args, kwargs)
        return node.target(*args, **kwargs)  # type: ignore[operator]


def _total(function: fx.Node) -> str:
    return f"{function.name}.total"


def _so_far(value: Tensor, state: State, name: str, step: int | Tensor) -> Tensor:
    """A sum over the steps before this one, shaped like `value`; nothing at step 0."""
    if isinstance(step, Tensor):
        return torch.where(step == 0, torch.zeros_like(value), state[name])
    return torch.zeros_like(value) if step == 0 else state[name]
