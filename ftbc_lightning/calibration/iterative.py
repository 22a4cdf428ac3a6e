"""FTBC as published: a damped step on the error of the mean, batch after batch."""

from collections.abc import Callable, Sequence

from torch import Tensor

from ftbc_lightning.calibration.layer import Corrected, Layer, Step, StepRule, correct_step_by_step
from ftbc_lightning.calibration.settings import CalibrationSettings
from ftbc_lightning.calibration.stage import Stage
from ftbc_lightning.calibration.targets import aim_of


def iterative(alpha: float) -> StepRule:
    """The paper's heuristic (arXiv 2403.18388, section 4).

        delta = E[theta * s[t]] - E[a],   b[t] <- b[t] - alpha * delta

    for each layer from front to back and each step, then fire again with the new b[t] and carry
    that membrane to step t + 1. E[a] is clipped to [0, theta]: without that the bias of a channel
    whose mean lies above theta grows without bound. The released program makes 2 * L * T passes a
    batch and picks the best round on the test set; here one pass gives the same biases, and
    nothing is picked.

    Args:
        alpha: Damping, above 0 and at most 1.
    """

    def rule(step: Step) -> Tensor:
        error = step.layer.mean(step.counts) - step.wanted
        return step.bias - alpha * error.to(step.bias.dtype)

    return rule


def stops(errors: Sequence[float]) -> bool:
    """Whether further rounds are of no use, judged on the calibration set alone.

    The error of a round is |E[theta * s[t]] - E[a]| that its batches met before their own
    correction, in thresholds, averaged over batches, steps, channels and layers. When a round's
    error is not below 99 % of the error of the round before, what is left is the difference
    between batches, and the rounds end. The biases stay as the last round has left them; accuracy
    is never looked at, and no round is picked.

    Args:
        errors: Of the rounds so far.

    >>> stops([0.2]), stops([0.2, 0.1]), stops([0.2, 0.1, 0.1])
    (False, False, True)
    """
    return len(errors) > 1 and errors[-1] >= 0.99 * errors[-2]


def _make(settings: CalibrationSettings) -> Callable[[Layer], Corrected]:
    rule = iterative(settings.alpha)
    return lambda layer: correct_step_by_step(layer, rule, aim_of(layer, settings.target))


STAGE = Stage("biases", "ftbc_iterative", "FTBC iterative", _make, by_batch=True)
