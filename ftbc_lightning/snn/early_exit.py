"""Stop a sample when the network is sure of it: fewer steps at nearly the same accuracy."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ftbc_lightning.errors import UserError
from ftbc_lightning.graph.ending import class_scores, ending
from ftbc_lightning.graph.outputs import check_one_output
from ftbc_lightning.snn.frozen import FrozenNetwork
from ftbc_lightning.snn.network import SpikingNetwork
from ftbc_lightning.snn.stepping import State, SteppedNetwork

CONFIDENCES = tuple(n / 100 for n in (*range(20, 95, 5), *range(95, 100)))
"""What `exit_curve` tries."""


@dataclass(frozen=True)
class ExitPoint:
    """What one threshold of confidence gives.

    Attributes:
        confidence: The threshold; 1 where no sample stops early.
        accuracy: Share of the samples that are classified rightly when they stop.
        mean_steps: How many steps a sample takes on average.
    """

    confidence: float
    accuracy: float
    mean_steps: float


def confidence_of(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The largest softmax probability after each step, and its class; each `[T, B]`."""
    best = logits.float().softmax(-1).max(-1)
    return best.values, best.indices


def exit_step(confidence: Tensor, threshold: float) -> Tensor:
    """The first step, from 0, at which each sample is sure; the last step if it never is.

    Args:
        confidence: `[T, B]`, between 0 and 1.
        threshold: A sample stops at the first step whose confidence is not below it; at 1, which
            a softmax reaches by rounding alone, none stops early.

    Returns:
        int64 `[B]`.

    >>> exit_step(torch.tensor([[0.5, 0.2], [0.9, 0.3]]), 0.5).tolist()
    [0, 1]
    """
    sure = _sure(confidence, threshold)
    sure[-1] = True
    return sure.int().argmax(0)


def _sure(confidence: Tensor, threshold: float) -> Tensor:
    """Where a sample stops."""
    return confidence >= (threshold if threshold < 1 else torch.inf)


def stable_step(labels: Tensor) -> Tensor:
    """The first step, from 0, from which on the class of each sample no longer changes.

    Args:
        labels: The class after each step, `[T, B]`.

    Returns:
        int64 `[B]`.

    >>> stable_step(torch.tensor([[1, 2], [3, 2], [3, 2]])).tolist()
    [1, 0]
    """
    differs = labels != labels[-1]
    steps = torch.arange(1, len(labels) + 1, device=labels.device)
    return (differs * steps[:, None]).amax(0)


def exit_curve(
    logits: Tensor, labels: Tensor, *, confidences: Sequence[float] = CONFIDENCES
) -> list[ExitPoint]:
    """Accuracy against the mean number of steps, one point for each threshold of confidence.

    Args:
        logits: Of all steps, `[T, B, classes]`, from `simulate`.
        labels: int64 `[B]`.
        confidences: The thresholds.

    Returns:
        The points in the order of `confidences`, and last the one where all steps are taken.

    >>> logits = torch.tensor([[[0.0, 5.0], [0.1, 0.0]], [[0.0, 5.0], [0.0, 3.0]]])
    >>> [point.mean_steps for point in exit_curve(logits, torch.tensor([1, 1]), confidences=[0.9])]
    [1.5, 2.0]
    """
    confidence, classes = confidence_of(logits)
    points = []
    for threshold in (*confidences, 1.0):
        steps = exit_step(confidence, threshold)
        stopped = classes.gather(0, steps[None])[0]
        accuracy = float((stopped == labels).double().mean())
        points.append(ExitPoint(threshold, accuracy, float(steps.double().mean()) + 1))
    return points


def choose_confidence(curve: Sequence[ExitPoint], *, loss: float = 0.0) -> ExitPoint:
    """The point with the fewest steps among those that lose at most `loss` of the accuracy.

    Choose it on calibration samples, and report its accuracy on others.

    Args:
        curve: From `exit_curve`.
        loss: How much lower than at all steps the accuracy may be, 0 to 1.
    """
    enough = [point for point in curve if point.accuracy >= curve[-1].accuracy - loss]
    return min(enough, key=lambda point: (point.mean_steps, -point.confidence))


def check_confidence(confidence: float) -> None:
    """Raise `UserError` unless `confidence` can be a threshold."""
    if not 0 < confidence <= 1:
        raise UserError(f"early_exit is {confidence}; it must be above 0 and at most 1.")


@torch.no_grad()
def simulate_until_sure(
    snn: SpikingNetwork | FrozenNetwork, images: Tensor, *, confidence: float
) -> tuple[Tensor, Tensor]:
    """Run the network step by step and take each sample out when it is sure.

    What a sample does not run is not computed.

    Args:
        snn: A network with thresholds set.
        images: `[B, ...]`.
        confidence: Largest softmax probability at which a sample stops, above 0; at 1 none does.

    Returns:
        Logits `[T, B, classes]`, of which those after a sample's last step are its last ones; and
        how many steps each sample took, int64 `[B]`.

    Raises:
        UserError: The confidence is out of range, or thresholds are not set.
    """
    check_confidence(confidence)
    check_one_output(snn.layers, what="early exit")
    network, end = SteppedNetwork(snn), ending(snn.layers)
    images = snn.prepared(images)
    left = torch.arange(len(images), device=images.device)
    steps = torch.full_like(left, snn.timesteps)
    constants, state = network.constants(images), State()
    total = torch.zeros((), device=images.device)
    logits: list[Tensor] = []
    for t in range(snn.timesteps):
        output, state = network.step(constants, state, t)
        total = network.leak * total + output
        mean = output if network.averages else total / network.weight_so_far(t, total)
        now = (logits[-1] if logits else mean).clone()
        now[left] = mean
        logits.append(now)
        sure = _sure(confidence_of(class_scores(mean, end))[0], confidence)
        steps[left[sure]] = t + 1
        stay = ~sure
        left, total = left[stay], total[stay]
        if len(left) == 0:
            break
        state = {name: value[stay] for name, value in state.items()}
        constants = {
            name: value[stay] if name in network.sized_by_batch else value
            for name, value in constants.items()
        }
    logits += logits[-1:] * (snn.timesteps - len(logits))
    return torch.stack(logits), steps
