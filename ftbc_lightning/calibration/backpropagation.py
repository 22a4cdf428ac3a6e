"""Weights by back-propagation, layer by layer: the costly reference for `weights`."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from ftbc_lightning.calibration.by_channel import over
from ftbc_lightning.calibration.regression import Regression
from ftbc_lightning.calibration.settings import CalibrationSettings
from ftbc_lightning.calibration.stage import Stage
from ftbc_lightning.snn.neurons.integrate_and_fire import IFNeuron

BATCH = 32
LEARNING_RATE = 1e-4


@torch.inference_mode(False)
def backpropagate(regression: Regression, *, iterations: int) -> None:
    """Train the weights of a layer on its mean spiking input.

        argmin over W of E[(q(W r + g) - relu(z))^2]
        q(y) = theta/T * clip(floor((T (y + d) + v0) / theta), 0, T K)

    r is the mean over time of the layer's spiking input, g the rest of the neuron's mean current
    (the layer's bias and the shortcut), z the ANN's pre-activation; q is the mean output of the
    neuron for an even current, with a straight-through floor. Adam with a cosine schedule, on 32
    samples an iteration, drawn with a fixed seed. The bias is not trained. Where no neuron reads
    the layer, q and the rectifier are left out.

    Source: SNN Calibration (Li et al., ICML 2021), second half of the advanced pipeline. The
    released program takes 5,000 iterations at 1e-5 for CIFAR; here a tenth of them at ten times
    that rate, so that the weights can move as far.

    Args:
        regression: The layer, changed in place, and what it is found from.
        iterations: How many, at least 1.
    """
    module, neuron = regression.module, regression.neuron
    samples = [
        (r.clone(), x.clone(), z.relu() if neuron is not None else z)
        for r, x, z in regression.samples()
    ]
    original = module.weight.detach().clone()
    weight = original.clone().requires_grad_()
    optimizer = torch.optim.Adam([weight], lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=iterations)
    no_bias = {} if module.bias is None else {"bias": torch.zeros_like(module.bias)}
    generator = torch.Generator().manual_seed(0)
    sizes = torch.tensor([float(len(r)) for r, _, _ in samples])
    world = regression.reduce(torch.ones((), device=weight.device), "sum")
    for _ in range(iterations):
        drawn = samples[int(sizes.multinomial(1, generator=generator))]
        chosen = torch.randperm(len(drawn[0]), generator=generator)[:BATCH].to(weight.device)
        r, x, wanted = (values[chosen] for values in drawn)
        with torch.enable_grad():
            change = {"weight": weight - original, **no_bias}
            current = x + torch.func.functional_call(module, change, (r,))
            loss = F.mse_loss(current if neuron is None else emitted(neuron, current), wanted)
        (gradient,) = torch.autograd.grad(loss, [weight])
        weight.grad = regression.reduce(gradient, "sum") / world
        optimizer.step()
        schedule.step()
    module.weight.copy_(weight.detach())


def emitted(neuron: IFNeuron, current: Tensor) -> Tensor:
    """The mean output of a neuron for an even current, with a straight-through floor."""
    charge = neuron.timesteps * (current + over(neuron.step_charge, current))
    steps = (charge + over(neuron.initial_membrane, current)) / over(neuron.threshold, current)
    steps = steps.clamp(0, neuron.timesteps * neuron.levels)
    output: Tensor = over(neuron.threshold, current) / neuron.timesteps * straight_floor(steps)
    return output


def straight_floor(values: Tensor) -> Tensor:
    """Round down, with the gradient of not rounding."""
    return values + (values.floor() - values).detach()


def _make(settings: CalibrationSettings) -> Callable[[Regression], None]:
    return partial(backpropagate, iterations=settings.iterations)


STAGE = Stage("weights", "backpropagation", "back-propagated weights", _make)
