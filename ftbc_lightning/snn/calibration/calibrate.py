"""The one way in: choose a method, give batches, and the biases are written in place."""

from dataclasses import dataclass, field
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor, fx, nn

from ftbc_lightning.ann.tracing import trace
from ftbc_lightning.errors import UserError, check_choice
from ftbc_lightning.snn.calibration.exact import exact
from ftbc_lightning.snn.calibration.iterative import iterative
from ftbc_lightning.snn.calibration.layer import LayerError, correct_step_by_step
from ftbc_lightning.snn.calibration.static import static
from ftbc_lightning.snn.calibration.sweep import Correct, sweep
from ftbc_lightning.snn.calibration.weights import correct_weights
from ftbc_lightning.snn.network import SpikingNetwork
from ftbc_lightning.snn.statistics import (
    Batches,
    Progress,
    Reduce,
    identity,
    pictures_of,
    present,
    silent,
)

Method = Literal["none", "static", "iterative", "exact", "weights"]
Target = Literal["step", "cumulative"]


@dataclass
class CalibrationTrace:
    """How the calibration went.

    Attributes:
        method: The method.
        errors: For each layer one `LayerError` a sweep, in order: |E[theta s[t]] - E[a]| before
            and after. `iterative` makes one sweep a batch and round, the others one in all.
    """

    method: str
    errors: dict[str, list[LayerError]] = field(default_factory=dict)

    def append(self, errors: dict[str, LayerError]) -> None:
        """Add the errors of one sweep."""
        for name, error in errors.items():
            self.errors.setdefault(name, []).append(error)

    def last(self) -> dict[str, Tensor]:
        """The error of each layer after the last sweep, `[T]`."""
        return {name: errors[-1].after for name, errors in self.errors.items()}


@torch.no_grad()
def calibrate(
    ann: nn.Module,
    snn: SpikingNetwork,
    batches: Batches,
    *,
    method: Method = "exact",
    target: Target = "step",
    alpha: float = 0.5,
    rounds: int = 1,
    shrinkage: float = 0.1,
    reduce: Reduce = identity,
    progress: Progress = silent,
) -> CalibrationTrace:
    """Find the temporal biases so that the mean spike output equals the ANN's mean activation.

        E[theta * s[t]] = E[a]   for each layer, channel and step t

    One pass of the ANN and one of the spiking network over each batch; no gradient, no label, no
    weight change. Biases are written into `snn` in place. Source: FTBC, arXiv 2403.18388.

    Args:
        ann: The network that was converted.
        snn: Its conversion, with thresholds set.
        batches: Calibration inputs, from the training split.
        method: "exact" solves each step in closed form over all batches at once; "iterative" is
            the paper's heuristic, batch after batch; "static" is one bias for all steps;
            "weights" corrects the weights in closed form, then does what "exact" does; "none"
            clears the biases.
        target: "step": the mean of s[t] alone; "cumulative": the mean of s[0..t]. Not for static.
        alpha: Damping of "iterative", above 0 and at most 1 (paper: 0.5, with QCFS 0.4).
        rounds: How often "iterative" goes through the batches.
        shrinkage: Ridge of "weights", above 0, in units of the mean square of the inputs.
        reduce: Merges sums and counts over processes.
        progress: Told the layer that is finished.

    Returns:
        The errors of each layer and step, before and after.

    Raises:
        UserError: Unknown method, alpha or rounds out of range, empty set, values not finite,
            thresholds not set.
    """
    check_method(method, alpha=alpha, rounds=rounds, shrinkage=shrinkage)
    check_choice("target", target, get_args(Target))
    snn.check_thresholds()
    outcome = CalibrationTrace(method)
    reference = trace(ann)
    if method != "iterative":
        for neuron in snn.neurons().values():
            neuron.temporal_bias.zero_()
    restore_weights(reference, snn)
    if method == "none":
        return outcome
    neurons = snn.neurons()
    like = next(iter(neurons.values())).threshold
    pictures = pictures_of(batches, like=like, reduce=reduce)
    together = [[batch] for batch in pictures] * rounds if method == "iterative" else [pictures]
    correct = _correction(method, alpha=alpha, cumulative=target == "cumulative")
    weights = partial(correct_weights, shrinkage=shrinkage) if method == "weights" else None
    total = len(together) * len(neurons)
    for index, batch in enumerate(together):
        filled, merge = present(batch, reduce)
        reached = partial(_report, progress, method, index * len(neurons), total)
        outcome.append(
            sweep(
                reference,
                snn,
                filled,
                correct,
                correct_weights=weights,
                reduce=merge,
                reached=reached,
            )
        )
    return outcome


def restore_weights(reference: fx.GraphModule, snn: SpikingNetwork) -> None:
    """Give the linear layers the ANN's weights again: a calibration does not build on another."""
    own = dict(snn.layers.named_parameters())
    for name, parameter in reference.named_parameters():
        if name in own and not torch.equal(own[name], parameter):
            own[name].copy_(parameter)


def check_method(
    method: str, *, alpha: float = 0.5, rounds: int = 1, shrinkage: float = 0.1
) -> None:
    """Raise `UserError` if a method is unknown or a setting of it is out of range."""
    if method not in get_args(Method):
        known = ", ".join(get_args(Method))
        raise UserError(f"Calibration method {method!r} is unknown; choose one of {known}.")
    if not 0 < alpha <= 1:
        raise UserError(f"alpha is {alpha}; it must be above 0 and at most 1.")
    if not shrinkage > 0:
        raise UserError(f"shrinkage is {shrinkage}; it must be above 0.")
    if rounds < 1:
        raise UserError(f"rounds is {rounds}; at least 1 is needed.")


def _correction(method: Method, *, alpha: float, cumulative: bool) -> Correct:
    if method == "static":
        return static
    rule = iterative(alpha) if method == "iterative" else exact
    return partial(correct_step_by_step, rule=rule, cumulative=cumulative)


def _report(progress: Progress, method: str, offset: int, total: int, reached: int) -> None:
    progress(f"calibration: {method}", offset + reached, total)
