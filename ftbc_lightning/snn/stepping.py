"""A spiking network one time step at a time, its state in the open.

`ftbc_lightning.simulate` carries all steps through a layer before the next one, which is faster. A
runtime that steps, a program that is compiled, and a sample that stops early need this form.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from ftbc_lightning.graph.max_pooling import is_max_pool
from ftbc_lightning.graph.operators import is_neuron, is_number
from ftbc_lightning.snn.network import SpikingNetwork

State = dict[str, Tensor]
"""For each neuron its membrane, for each max pooling in time the sum of its inputs; `[B, ...]`."""


class SteppedNetwork(nn.Module):
    """The same network as `snn`, computed step by step by out-of-place operations of torch.

    Args:
        snn: A network with thresholds set; its layers are shared.
    """

    def __init__(self, snn: SpikingNetwork) -> None:
        super().__init__()
        snn.check_thresholds()
        self.timesteps = snn.timesteps
        self.layers = snn.layers
        self.names = list(snn.neurons())
        nodes = list(snn.layers.graph.nodes)
        temporal: set[fx.Node] = set()
        batched: set[fx.Node] = set()
        for node in nodes:
            sources = node.all_input_nodes
            if is_neuron(node) or is_number(node) or any(s in temporal for s in sources):
                temporal.add(node)
            if node.op == "placeholder" or any(source in batched for source in sources):
                batched.add(node)
        self.before = [node for node in nodes if node not in temporal]
        self.during = [node for node in nodes if node in temporal]
        read = {source for node in self.during for source in node.all_input_nodes}
        self.kept = [node for node in self.before if node in read]
        self.sized_by_batch = {node.name for node in self.kept if node in batched}
        self.pools = [node.name for node in self.during if is_max_pool(node, snn.layers)]

    @property
    def state_names(self) -> list[str]:
        """The parts of the state, in the order of `state`."""
        return [*self.names, *self.pools]

    def constants(self, images: Tensor) -> dict[str, Any]:
        """What does not change from step to step, by node name: computed once."""
        values: dict[fx.Node, Any] = {}
        for node in self.before:
            values[node] = self._evaluate(node, values, images)
        return {node.name: values[node] for node in self.kept}

    def step(
        self, constants: Mapping[str, Any], state: State, step: int | Tensor
    ) -> tuple[Tensor, State]:
        """Compute one time step.

        Args:
            constants: From `constants`.
            state: After the step before; not read at step 0, where it may be empty.
            step: t, 0 to T-1, as a number or an int64 scalar.

        Returns:
            The output layer's value at this step, `[B, classes]`, and the state after it.
        """
        values: dict[fx.Node, Any] = {node: constants[node.name] for node in self.kept}
        after: State = {}
        for node in self.during:
            if node.op == "output":
                break
            if is_neuron(node):
                current = values[node.all_input_nodes[0]]
                values[node], after[node.name] = self._fire(node, current, state, step)
            elif node.name in self.pools:
                values[node], after[node.name] = self._pool(node, values, state, step)
            else:
                values[node] = self._evaluate(node, values, None)
        output: Tensor = values[node.args[0]]
        return output, after

    def forward(self, images: Tensor) -> Tensor:
        """All T steps: logits `[T, B, classes]`, the running mean of the output."""
        constants, state = self.constants(images), State()
        outputs = []
        for t in range(self.timesteps):
            output, state = self.step(constants, state, t)
            outputs.append(output)
        count = torch.arange(1, self.timesteps + 1, device=images.device, dtype=outputs[0].dtype)
        return torch.stack(outputs).cumsum(0) / count.view(-1, *(1,) * outputs[0].ndim)

    def _fire(
        self, node: fx.Node, current: Tensor, state: State, step: int | Tensor
    ) -> tuple[Tensor, Tensor]:
        neuron = self.layers.get_submodule(str(node.target))
        axes = (1,) * (current.ndim - 2)
        bias = neuron.temporal_bias + neuron.step_charge  # type: ignore[operator]
        rest = neuron.initial_membrane.view(-1, *axes)  # type: ignore[operator]
        threshold = neuron.threshold.view(-1, *axes)  # type: ignore[operator]
        amplitude = neuron.amplitude.view(-1, *axes)  # type: ignore[operator]
        if isinstance(step, Tensor):
            now = bias.index_select(0, step.reshape(1)).view(-1, *axes)
            v = torch.where(step == 0, rest.expand_as(current), state[node.name])
        else:
            now = bias[step].view(-1, *axes)
            v = rest if step == 0 else state[node.name]
        u = v + current + now
        fired = (u >= threshold).to(current.dtype)
        return fired * amplitude, u - fired * threshold

    def _pool(
        self, node: fx.Node, values: dict[fx.Node, Any], state: State, step: int | Tensor
    ) -> tuple[Tensor, Tensor]:
        """max(S + x) - max(S), S the sum of the inputs so far."""
        source = node.all_input_nodes[0]
        current: Tensor = values[source]
        if isinstance(step, Tensor):
            before = torch.where(step == 0, torch.zeros_like(current), state[node.name])
        else:
            before = torch.zeros_like(current) if step == 0 else state[node.name]
        total = before + current
        peaks = [self._evaluate(node, {**values, source: v}, None) for v in (total, before)]
        return peaks[0] - peaks[1], total

    def _evaluate(self, node: fx.Node, values: Mapping[fx.Node, Any], images: Tensor | None) -> Any:
        if node.op == "placeholder":
            return node.args[0] if node.args else images
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
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        return node.target(*args, **kwargs)  # type: ignore[operator]
