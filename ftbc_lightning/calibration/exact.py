"""FTBC in closed form: the bias of a step is an order statistic of its potentials."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ftbc_lightning.calibration.cut import cuts_of
from ftbc_lightning.calibration.layer import Corrected, Layer, Step, StepRule, correct_step_by_step
from ftbc_lightning.calibration.settings import CalibrationSettings
from ftbc_lightning.calibration.stage import Stage
from ftbc_lightning.calibration.targets import aim_of


def exact() -> StepRule:
    """The bias with which each channel emits the wanted number of spikes.

        b = theta - Q_{1-p}(u0),   p = E[a] / theta clipped to [0, 1]

    P(u0 + b >= theta) grows with b, so one quantile of the potentials u0, taken before the bias,
    solves E[theta * s[t]] = E[a] up to one spike: theta / N. The cut lies in the middle between
    two neighbouring potentials. Where many are equal up to rounding, all or none of them fire,
    whichever is nearer. Where none (or all) shall fire and they do so without a bias, the bias
    is 0.

    A neuron with several levels, or with a sign, emits as many spikes as there are potentials at
    theta or above among those of all its levels (`IFNeuron.crossings`), so its bias is a quantile
    of these, with the same bound: theta / N.

    Not in the paper, whose heuristic approaches the same solution; see `iterative`.
    """
    solver: _Solver | None = None

    def rule(step: Step) -> Tensor:
        nonlocal solver
        if solver is None or solver.layer is not step.layer:
            solver = _Solver(step.layer)
        solver.aim(step.wanted)
        return solver.bias(step)

    return rule


class _Solver:
    """One layer, with what stays the same over its steps."""

    def __init__(self, layer: Layer) -> None:
        self.layer, self.threshold = layer, layer.neuron.threshold
        neuron, count = layer.neuron, layer.count()
        self.below = neuron.below * neuron.levels
        self.count, all_levels = count, (self.below + neuron.levels) * count
        self.cuts = cuts_of(layer, all_levels)
        lowest = (self.below + neuron.lowest) * count
        self.ends = self.threshold.new_tensor([all_levels, lowest], dtype=torch.float64)
        self.unbounded = self.threshold.new_tensor([-torch.inf, torch.inf])
        self.wanted: Tensor | None = None

    def aim(self, wanted: Tensor) -> None:
        """Set the mean that theta * s[t] shall have, float64 `[C]`."""
        if wanted is self.wanted:
            return
        share = wanted / self.layer.theta * self.count
        if self.below:
            share = share + self.below * self.count
        spikes = share.round()
        self.cuts.aim(share, spikes)
        reached = spikes[:, None] == self.ends
        self.limits = self.unbounded.expand_as(reached).masked_fill(reached, 0.0)
        self.wanted = wanted

    def bias(self, step: Step) -> Tensor:
        """The bias of a step, `[C]`."""
        found = torch.sub(self.threshold, self.cuts.of(self._crossings(step)).sum(1), alpha=0.5)
        highest = self.limits[:, 1]
        if step.silent is not None:  # else a negative spike of one may make up for that of another
            highest = highest.where(step.silent, torch.inf)
        return found.clamp(self.limits[:, 0], highest)

    def _crossings(self, step: Step) -> Sequence[Tensor]:
        neuron = self.layer.neuron
        if self.below + neuron.levels == 1:
            return step.potentials
        pairs = zip(step.potentials, step.owed, strict=True)
        return [level for u, owed in pairs for level in neuron.crossings(u, owed)]


def _make(settings: CalibrationSettings) -> Callable[[Layer], Corrected]:
    def correct(layer: Layer) -> Corrected:
        return correct_step_by_step(layer, exact(), aim_of(layer, settings.target))

    return correct


STAGE = Stage("biases", "ftbc_exact", "FTBC exact", _make)
