"""A spiking network that gradients flow through, for Lightning or for a loop of one's own."""

import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from ftbc_lightning.errors import UserError
from ftbc_lightning.graph.operators import is_neuron
from ftbc_lightning.graph.outputs import read_out
from ftbc_lightning.graph.propagation import Plan, Propagation
from ftbc_lightning.snn import fused_gradient_cpu
from ftbc_lightning.snn.memory_layout import fastest_layout, lay_out_weights
from ftbc_lightning.snn.network import SpikingNetwork, own_copy
from ftbc_lightning.snn.neurons.integrate_and_fire import IFNeuron
from ftbc_lightning.snn.surrogates import Surrogate

LEAST_THRESHOLD = 0.01
"""Of its first value: a threshold that is trained does not fall below."""


class TrainableNetwork(nn.Module):
    """A copy of a spiking network whose weights and temporal biases are parameters.

    Forwards it fires the spikes of `ftbc_lightning.snn.simulation.simulate`, to the bit; backwards
    a surrogate stands for their derivative, at every step and through the reset. The network that
    it was made from stays as it is, and pays nothing.

    Memory of a pass, in numbers, for batches of B samples: T * B * (inputs and outputs of all
    layers), which is 2 * T * B * neurons where each layer has a neuron of its own; with
    `checkpointing` the square root of that many layers at a time, and one forward pass more.

    Args:
        snn: A converted network with its thresholds set and not folded into weights.
        surrogate: In the place of a spike's derivative.
        thresholds: Train them too.
        checkpointing: Compute layers again in the backward pass, in place of keeping them.

    Raises:
        UserError: The thresholds are not set, or folded.

    >>> from ftbc_lightning import calibrate, convert, simulate
    >>> ann = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> samples = torch.rand(8, 2)
    >>> snn = convert(ann, samples[:1], [samples], timesteps=4)
    >>> trained = TrainableNetwork(snn)
    >>> logits = trained(samples)
    >>> logits[-1].square().mean().backward()
    >>> torch.equal(logits, simulate(snn, samples))
    True
    """

    def __init__(
        self,
        snn: SpikingNetwork,
        *,
        surrogate: Surrogate | None = None,
        thresholds: bool = False,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        snn.check_thresholds()
        every = snn.neurons().values()
        if (torch.cat([neuron.amplitude - neuron.threshold for neuron in every]) != 0).any():
            raise UserError(
                "The network's thresholds are folded into its weights; train the one before it."
            )
        self.surrogate = Surrogate() if surrogate is None else surrogate
        self.checkpointing = checkpointing
        self.snn = own_copy(snn)
        self.snn.layers.requires_grad_(True)
        example = snn.example_input
        if example is not None:  # now, because DDP remembers where gradients lie
            lay_out_weights(self.snn.layers.modules(), self.snn.prepared(example))
        self.floors = nn.Module()
        for name, neuron in self.snn.neurons().items():
            neuron.temporal_bias = nn.Parameter(neuron.temporal_bias)
            if thresholds:
                least = LEAST_THRESHOLD * neuron.threshold
                self.floors.register_buffer(name, least, persistent=False)
                neuron.threshold = nn.Parameter(neuron.threshold)

    def forward(self, images: Tensor) -> Any:
        """Logits after each step, `[T, B, classes]`; see `simulate`.

        Args:
            images: `[B, ...]`, as for the ANN.
        """
        self.keep_thresholds()
        plan = Plan(self.snn.layers)
        images = fastest_layout(self.snn.prepared(images))
        lay_out_weights(plan.modules.values(), images)
        steps = self.snn.timesteps
        values: dict[fx.Node, Any] = {}
        sizes: dict[fx.Node, Any] = {}
        for nodes in self._parts(plan):
            carry = _Part(plan, images, steps, self.surrogate, nodes, values, sizes)
            if self.checkpointing and torch.is_grad_enabled():
                values = carry.named(checkpoint(carry, *carry.given, use_reentrant=False))
            else:
                values = carry.named(carry(*carry.given))
        outputs = [v.view(steps, len(images), *v.shape[1:]) for v in values[plan.nodes[-1]]]
        return read_out(plan.nodes[-1], outputs, plan.leak)

    def network(self) -> SpikingNetwork:
        """What it has become, as an ordinary network of its own."""
        self.keep_thresholds()
        return own_copy(self.snn)

    def _parts(self, plan: Plan) -> list[list[fx.Node]]:
        """The nodes in order; with checkpointing in as many parts as each has layers."""
        if not self.checkpointing:
            return [plan.nodes]
        ends = [index for index, node in enumerate(plan.nodes) if is_neuron(node)]
        cuts = [end + 1 for end in ends[:: max(1, math.isqrt(len(ends)))]]
        edges = [0, *cuts, len(plan.nodes)]
        return [plan.nodes[a:b] for a, b in pairwise(edges) if a < b]

    @torch.no_grad()
    def keep_thresholds(self) -> None:
        """Keep trained thresholds above 0, and let spikes pass on what they are now.

        Done before each pass, and needed before anything else reads the network.
        """
        neurons = self.snn.neurons()
        for name, floor in self.floors.named_buffers():
            neuron = neurons[name]
            neuron.threshold.copy_(torch.maximum(neuron.threshold, floor))
            neuron.amplitude.copy_(neuron.threshold)


class _Part:
    """Some nodes of a graph as a function of the values that they read.

    Attributes:
        given: The tensors that are there before, in the order of `before`.
    """

    def __init__(
        self,
        plan: Plan,
        images: Tensor,
        steps: int,
        surrogate: Surrogate,
        nodes: list[fx.Node],
        values: dict[fx.Node, Any],
        sizes: dict[fx.Node, Any],
    ) -> None:
        self.plan, self.images, self.steps, self.sizes = plan, images, steps, sizes
        self.surrogate, self.nodes = surrogate, nodes
        self.before = list(values)
        self.given = list(values.values())
        self.after: list[fx.Node] = []

    def __call__(self, *given: Any) -> tuple[Any, ...]:
        plan = self.plan
        constant = Propagation(plan, self.images, steps=1)
        carried = Propagation(plan, self.images, steps=self.steps)
        constant.values = dict(zip(self.before, given, strict=True))
        constant.sizes = carried.sizes = self.sizes
        for node in self.nodes:
            if node not in plan.temporal:
                constant.values[node] = constant.evaluate(node)
        carried.values = constant.values
        for node in self.nodes:
            if is_neuron(node):
                neuron = plan.modules[str(node.target)]
                carried.settle(node, fire(neuron, carried.current(node), self.surrogate))
            elif node in plan.temporal:
                carried.advance(node)
        self.after = list(carried.values)
        return tuple(carried.values.values())

    def named(self, found: tuple[Any, ...]) -> dict[fx.Node, Any]:
        """What is there after, by node."""
        return dict(zip(self.after, found, strict=True))


def fire(neuron: IFNeuron, current: Tensor, surrogate: Surrogate) -> Tensor:
    """The output of a neuron with a surrogate for its derivative, `[T, B, C, ...]`.

    Args:
        neuron: The neuron.
        current: x, `[T, B, C, ...]`.
        surrogate: In the place of a spike's derivative.
    """
    fired: Tensor = _Fire.apply(current, neuron.threshold, neuron.temporal_bias, neuron, surrogate)
    return fired


class _Fire(torch.autograd.Function):
    """All steps of a neuron forwards; backwards its currents are all that was kept."""

    @staticmethod
    def forward(
        ctx: Any,
        current: Tensor,
        threshold: Tensor,
        bias: Tensor,
        neuron: IFNeuron,
        surrogate: Surrogate,
    ) -> Tensor:
        ctx.save_for_backward(current, threshold.clone())  # it may be raised to its floor later
        ctx.neuron, ctx.surrogate = neuron, surrogate
        fired: Tensor = neuron(current)[0]
        return fired

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        """Go back through the steps.

            dL/ds[t] = theta * (dL/dy[t] - leak * dL/dv[t])
            dL/du[t] = leak * dL/dv[t] + s'(u[t]) * dL/ds[t],   dL/dv[t-1] = dL/du[t]
            dL/dtheta = sum over t of s[t] * (dL/dy[t] - leak * dL/dv[t])
                                      - u[t] / theta * s'(u[t]) * dL/ds[t]

        with u the charged membrane, v = leak * (u - theta * s) and y = theta * s.
        """
        current, threshold = ctx.saved_tensors
        neuron: IFNeuron = ctx.neuron
        others = [axis for axis in range(1, current.ndim) if axis != 2]
        fused = None
        if not ctx.needs_input_grad[1]:
            fused = fused_gradient_cpu.gradient(neuron, current, threshold, given, ctx.surrogate)
        if fused is not None:
            return fused, None, fused.sum(others) if ctx.needs_input_grad[2] else None, None, None
        theta = neuron.per_channel(threshold, current)
        u, s, heights = _walk(neuron, current, ctx.surrogate)
        to_v, to_theta = torch.zeros_like(u[0]), torch.zeros_like(u[0])
        to_current = torch.empty_like(current, dtype=u[0].dtype)  # in its layout
        for t in reversed(range(len(u))):
            to_s = torch.sub(given[t], to_v, alpha=neuron.leak)  # over theta
            if ctx.needs_input_grad[1]:
                to_theta += to_s * (s[t] - u[t] * heights[t] / (theta * ctx.surrogate.width))
            kept = to_v if neuron.leak == 1 else neuron.leak * to_v
            to_v = to_current[t]
            torch.addcmul(kept, heights[t], to_s, value=1 / ctx.surrogate.width, out=to_v)
        return (
            to_current.to(current.dtype),
            to_theta.sum([axis - 1 for axis in others]) if ctx.needs_input_grad[1] else None,
            to_current.sum(others) if ctx.needs_input_grad[2] else None,
            *(None, None),
        )


def _walk(
    neuron: IFNeuron, current: Tensor, surrogate: Surrogate
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Charged membranes, spikes, and theta * width times the slope, of every step, as forwards."""
    carried = neuron.started(neuron.rest(current))
    v, owed = carried if isinstance(carried, tuple) else (carried, None)
    theta = neuron.per_channel(neuron.threshold, current)
    wide = theta * surrogate.width
    bias = neuron.per_channel(neuron.temporal_bias + neuron.step_charge, current)
    charged, spikes, heights = [], [], []
    for x, b in zip(current, bias, strict=True):
        u = (v + x).add_(b)
        charged.append(u)
        spikes.append(neuron.fire(u, theta, owed))
        levels = [surrogate.height((c - theta).div_(wide)) for c in neuron.crossings(u, owed)]
        heights.append(levels[0] if len(levels) == 1 else torch.stack(levels).sum(0))
        v = u.clone()
        neuron.settle(v, theta, owed, spikes[-1])
    return charged, spikes, heights
