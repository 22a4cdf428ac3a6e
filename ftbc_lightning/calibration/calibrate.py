"""The one way in: choose a method, give batches, and the biases are written in place."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, fx, nn

from ftbc_lightning.calibration.expected import CalibrationSamples, Expected
from ftbc_lightning.calibration.finetuned import refuse_training
from ftbc_lightning.calibration.iterative import stops
from ftbc_lightning.calibration.layer import Corrected, Layer, LayerError
from ftbc_lightning.calibration.method import parse_method
from ftbc_lightning.calibration.places import correctable, left_alone
from ftbc_lightning.calibration.regression import Regression
from ftbc_lightning.calibration.settings import CalibrationSettings, Target
from ftbc_lightning.calibration.stages import STAGES
from ftbc_lightning.calibration.sweep import Correct, CorrectWeights, sweep
from ftbc_lightning.snn.network import SpikingNetwork
from ftbc_lightning.snn.sample_shape import converted_for
from ftbc_lightning.snn.statistics import (
    Batches,
    Progress,
    Reduce,
    identity,
    present,
    silent,
)
from ftbc_lightning.snn.weight_rounding import WeightRounding


@dataclass
class CalibrationTrace:
    """How the calibration went.

    Attributes:
        method: The method.
        errors: For each layer one `LayerError` a sweep, in order: |E[theta s[t]] - E[a]| before
            and after. `iterative` makes one sweep a batch and round, the others one in all.
        sweeps: How many sweeps belong together: one for the stages that see all batches at once,
            then for each round of `iterative` one a batch.
        rounds: How often `iterative` went through the batches.
        left_alone: The linear layers whose weights a weight stage has not changed: those that see
            the analog sample, those with no neuron right behind them, those used twice.
    """

    method: str
    errors: dict[str, list[LayerError]] = field(default_factory=dict)
    sweeps: list[int] = field(default_factory=list)
    rounds: int = 0
    left_alone: list[str] = field(default_factory=list)

    def extend(self, sweeps: Sequence[dict[str, LayerError]]) -> None:
        """Add the errors of sweeps that belong together."""
        self.sweeps.append(len(sweeps))
        for errors in sweeps:
            for name, error in errors.items():
                self.errors.setdefault(name, []).append(error)

    def by_round(self) -> Iterator[dict[str, LayerError]]:
        """The errors of each layer, averaged over the sweeps that belong together, in order."""
        end = 0
        for number in self.sweeps:
            first, end = end, end + number
            parts = {name: errors[first:end] for name, errors in self.errors.items()}
            yield {
                name: LayerError(
                    torch.stack([error.before for error in part]).mean(0),
                    torch.stack([error.after for error in part]).mean(0),
                )
                for name, part in parts.items()
            }

    def last(self) -> dict[str, Tensor]:
        """The error of each layer after the last sweep, `[T]`."""
        return {name: errors[-1].after for name, errors in self.errors.items()}


@torch.no_grad()
def calibrate(
    ann: nn.Module,
    snn: SpikingNetwork,
    batches: Batches | CalibrationSamples,
    *,
    method: str = "exact",
    target: Target = "auto",
    alpha: float = 0.5,
    rounds: int = 1,
    shrinkage: float = 0.03,
    iterations: int = 500,
    weight_bits: int | None = None,
    reduce: Reduce = identity,
    progress: Progress = silent,
) -> CalibrationTrace:
    """Find the temporal biases so that the mean spike output equals the ANN's mean activation.

        E[theta * s[t]] = E[a]   for each layer, channel and step t

    One pass of the ANN and one of the spiking network over each batch; no label. Biases, and with
    a weight stage or `weight_bits` the weights, are written into `snn` in place; a network that
    shares its linear layers with others (`sibling`) must not be given to either. What an earlier
    calibration has written is undone first. Source: FTBC, arXiv 2403.18388; each stage names its
    own.

    Args:
        ann: The network that was converted.
        snn: Its conversion, with thresholds set.
        batches: Calibration inputs, from the training split; as `CalibrationSamples` where several
            networks of one traced ANN are calibrated on them.
        method: Stages joined by `+`, see `parse_method`. "exact" solves each step in closed form
            over all batches at once; "iterative" is the paper's heuristic, batch after batch;
            "static" is one bias for all steps; "none" clears the biases; "weights+exact" corrects
            the weights of each layer in closed form before the biases behind it.
        target: At what exact and iterative aim; this and the next five are described in
            `ftbc_lightning.calibration.settings.CalibrationSettings`.
        alpha: See there.
        rounds: See there.
        shrinkage: See there.
        iterations: See there.
        weight_bits: See there.
        reduce: Merges sums and counts over processes.
        progress: Told the layer that is finished.

    Returns:
        The errors of each layer and step, before and after.

    Raises:
        UserError: Unknown method, a setting out of range, empty set, values not finite,
            thresholds not set, another ANN, samples that do not pass it.
    """
    stages = parse_method(method)
    chosen = CalibrationSettings(
        target=target,
        alpha=alpha,
        rounds=rounds,
        shrinkage=shrinkage,
        iterations=iterations,
        weight_bits=weight_bits,
    )
    refuse_training([stages.method])
    snn.check_thresholds()
    outcome = CalibrationTrace(stages.method)
    reference = snn.traced(ann)
    if stages.membranes:
        snn.correct_membranes()
    neurons = snn.neurons()
    for neuron in neurons.values():
        neuron.clear_correction()
    restore_weights(reference, snn)
    weights = STAGES[stages.weights].make(chosen) if stages.weights else None
    if weight_bits is not None:
        weights = _with_rounding(snn, weight_bits, weights)
    if stages.method == "none":
        return outcome
    if not isinstance(batches, CalibrationSamples):
        batches = CalibrationSamples(reference, batches, reduce=reduce)
    samples = batches.of(reference)
    run = partial(_sweep_share, reference, snn, reduce)
    told = partial(_tell, progress, stages.method)
    by_batch = STAGES[stages.biases].by_batch
    biases = STAGES[stages.biases].make(chosen)
    alone = by_batch and not (stages.weights or stages.membranes)
    total = (not alone) + by_batch * chosen.rounds * len(samples)
    if not alone:
        correct, passes = biases, STAGES[stages.biases].passes
        if stages.membranes:
            before = STAGES[stages.membranes].make(chosen)
            correct = partial(_with_membranes, membranes=before, biases=biases)
            passes += STAGES[stages.membranes].passes
        reached = partial(told, 0, total * len(neurons))
        expected = batches.known()
        outcome.extend(
            [
                run(
                    *(samples, correct),
                    correct_weights=weights,
                    passes=passes,
                    expected=expected,
                    reached=reached,
                )
            ]
        )
    if stages.weights:
        outcome.left_alone = left_alone(snn)
    if by_batch:
        errors: list[float] = []
        while len(errors) < chosen.rounds and not stops(errors):
            found = []
            for index, batch in enumerate(samples):
                sweeps = (not alone) + len(errors) * len(samples) + index
                reached = partial(told, sweeps * len(neurons), total * len(neurons))
                expected = batches.known(index)
                found.append(run([batch], biases, expected=expected, reached=reached))
            outcome.extend(found)
            errors.append(_mean_error(snn, found))
        outcome.rounds = len(errors)
    return outcome


def _sweep_share(
    reference: fx.GraphModule,
    snn: SpikingNetwork,
    reduce: Reduce,
    samples: Sequence[Tensor],
    correct: Correct,
    *,
    correct_weights: CorrectWeights | None = None,
    passes: int = 1,
    expected: dict[fx.Node, Expected],
    reached: Callable[[int], None],
) -> dict[str, LayerError]:
    """`sweep` over this process's share of the samples, which may be none."""
    filled, merge = present(samples, reduce)
    with converted_for(snn.input_shape, filled):
        return sweep(
            reference,
            snn,
            filled,
            correct,
            correct_weights=correct_weights,
            passes=passes,
            expected=expected,
            reduce=merge,
            reached=reached,
        )


def restore_weights(reference: fx.GraphModule, snn: SpikingNetwork) -> None:
    """Give the linear layers the ANN's weights again: a calibration does not build on another."""
    own = dict(snn.layers.named_parameters())
    pairs = [(own[name], value) for name, value in reference.named_parameters() if name in own]
    differ = torch.stack([(mine != value).any() for mine, value in pairs]).tolist()
    for (mine, value), differs in zip(pairs, differ, strict=True):
        if differs:
            mine.copy_(value)


def _with_rounding(
    snn: SpikingNetwork, bits: int, correct: CorrectWeights | None
) -> CorrectWeights | None:
    """Round what no stage changes, and each layer that one changes right behind its correction.

    So each correction sees what has been rounded before its layer, and the biases all of it.
    """
    rounding = WeightRounding(snn, bits)
    if correct is None:
        rounding.everything()
        return None
    waiting = {place.module for places in correctable(snn).values() for place in places}
    rounding.everything(but=waiting)

    def correct_and_round(regression: Regression) -> None:
        correct(regression)
        rounding.of(regression.module)

    return correct_and_round


def _with_membranes(
    layer: Layer, *, membranes: Callable[[Layer], None], biases: Correct
) -> Corrected:
    membranes(layer)
    return biases(layer)


def _mean_error(snn: SpikingNetwork, found: list[dict[str, LayerError]]) -> float:
    """The error that the batches of a round met, in thresholds, averaged over the layers."""
    errors = [
        sweep_[name].before.mean() / neuron.threshold.mean()
        for sweep_ in found
        for name, neuron in snn.neurons().items()
    ]
    return float(torch.stack(errors).mean())


def _tell(progress: Progress, method: str, offset: int, total: int, reached: int) -> None:
    progress(f"calibration: {method}", offset + reached, total)
