"""Run a spiking network over its time steps."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, fx

from ftbc_lightning.errors import UserError
from ftbc_lightning.graph.operators import is_neuron
from ftbc_lightning.graph.outputs import read_out
from ftbc_lightning.graph.propagation import Plan, Pooled, Propagation
from ftbc_lightning.snn.device_bounds import carried_elements
from ftbc_lightning.snn.memory_layout import fastest_layout, lay_out_weights
from ftbc_lightning.snn.neurons.integrate_and_fire import Carried, check_timesteps
from ftbc_lightning.snn.out_of_memory import in_parts
from ftbc_lightning.snn.sample_shape import converted_for
from ftbc_lightning.snn.weight_reuse import samples_worth

LEAST_CARRIED = 16
"""Fewer samples times steps than this leave the convolutions of the last layers too small."""

MOST_CARRIED = 2**24
"""Values of the widest layer, 64 MiB, beyond which nothing more is carried for the weights."""

STEPS = 8
"""How many steps are carried at once where there are samples enough to fill the rest."""


class Simulated(Protocol):
    """What a simulation asks of a spiking network; `SpikingNetwork` is one."""

    @property
    def layers(self) -> fx.GraphModule:
        """The graph with the neurons in it."""

    @property
    def timesteps(self) -> int:
        """T."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """For each neuron the shape of its current for one sample."""

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        """The shape of one sample, if it is known."""

    def plan(self) -> Plan:
        """What can be known of the graph before any value flows."""

    def check_thresholds(self) -> None:
        """Raise `UserError` if a threshold has not been set."""

    def prepared(self, images: Tensor) -> Tensor:
        """Inputs on the device and in the precision of the network."""


def chunk_sizes(snn: Simulated, images: Tensor, timesteps: int) -> tuple[int, int]:
    """How many samples and how many steps to carry at once.

    So few that the widest layer fits, but not so few that weights are read for too little.
    """
    widest = max(math.prod(shape) for shape in snn.shapes.values())
    worth = min(samples_worth(snn.layers, snn.shapes), MOST_CARRIED // widest)
    budget = max(carried_elements(images.device) // widest, worth, LEAST_CARRIED)
    samples = max(1, min(len(images), budget // min(timesteps, STEPS)))
    return samples, max(1, min(timesteps, budget // samples))


@torch.no_grad()
def simulate(snn: Simulated, images: Tensor, timesteps: int | None = None) -> Any:
    """Run the network and read its prediction after every step.

        logits[t] = 1/(t+1) * sum over k = 0..t of the output layer's value at step k

    With a leak the mean has the weights of the steps (`ftbc_lightning.graph.step_weights`).
    A function behind the output layer, such as a softmax, is taken of that mean.

    The sample is the analog input of every step (constant coding). All steps are carried layer
    by layer, for a few samples at a time, fewer where memory ends; the result does not depend on
    how many.

    Args:
        snn: A converted network with its thresholds set.
        images: `[B, ...]`, as for the ANN; moved to the device and precision of the network.
        timesteps: How many steps to run, 1 to `snn.timesteps`; all by default.

    Returns:
        Logits, float32 or float64 `[timesteps, B, classes]`. A network that returns several
        tensors in a tuple, list or dictionary gives back the same with `[timesteps, B, ...]` in the
        place of each.

    Raises:
        UserError: `timesteps` is below 1 or above T, the batch is empty, its samples do not pass
            the network, or the thresholds are not set.
    """
    timesteps = snn.timesteps if timesteps is None else timesteps
    check_timesteps(timesteps)
    if timesteps > snn.timesteps:
        raise UserError(
            f"{timesteps} time steps were asked for, but the network was converted for "
            f"{snn.timesteps}; convert and calibrate it with timesteps={timesteps}."
        )
    if len(images) == 0:
        raise UserError("The batch to simulate is empty; give at least one sample.")
    snn.check_thresholds()
    images = snn.prepared(images)
    plan = snn.plan()
    lay_out_weights(plan.modules.values(), images)
    samples, steps = chunk_sizes(snn, images, timesteps)
    carry = partial(_simulate, plan, timesteps=timesteps, chunk=steps)
    with converted_for(snn.input_shape, [images]):
        parts = in_parts(carry, images, samples)
    values = [torch.cat(of_parts, dim=1) for of_parts in zip(*parts, strict=True)]
    return read_out(plan.nodes[-1], values, plan.leak)


def _simulate(plan: Plan, images: Tensor, timesteps: int, chunk: int) -> list[Tensor]:
    """Carry one micro-batch through all steps, `chunk` steps at a time.

    Returns:
        What each returned tensor is at each step, `[timesteps, B, ...]`.
    """
    images = fastest_layout(images)
    constant = Propagation(plan, images, steps=1)
    for node in plan.nodes:
        if node not in plan.temporal:
            constant.values[node] = constant.evaluate(node)
    temporal = [node for node in plan.nodes if node in plan.temporal]
    membranes: dict[str, Carried] = {}
    pooled: Pooled = {}
    outputs = []
    for start in range(0, timesteps, chunk):
        steps = min(chunk, timesteps - start)
        carried = Propagation(plan, images, steps=steps, pooled=pooled)
        carried.values.update(constant.values)
        for node in temporal:
            if is_neuron(node):
                neuron = plan.modules[str(node.target)]
                spikes, membranes[node.name] = neuron(
                    carried.current(node),
                    membranes.get(node.name),
                    start,
                    out=carried.place_for_spikes(node),
                )
                carried.settle(node, spikes)
            else:
                output = carried.advance(node)
        outputs.append([carried.in_steps(value) for value in output])
    return [torch.cat(chunks) for chunks in zip(*outputs, strict=True)]
