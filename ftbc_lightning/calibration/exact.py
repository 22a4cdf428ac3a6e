"""FTBC in closed form: the bias of a step is an order statistic of its potentials."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from ftbc_lightning.calibration.cut import cuts_of
from ftbc_lightning.calibration.layer import Corrected, Layer, StepRule, correct_step_by_step
from ftbc_lightning.calibration.settings import CalibrationSettings
from ftbc_lightning.calibration.stage import Stage


def exact() -> StepRule:
    """The bias with which the share p of the potentials fires, for each channel.

        b = theta - Q_{1-p}(u0),   p = E[a] / theta clipped to [0, 1]

    P(u0 + b >= theta) grows with b, so one quantile of the potentials u0, taken before the bias,
    solves E[theta * s[t]] = E[a] up to one spike: theta / N. The cut lies in the middle between
    two neighbouring potentials. Where many are equal up to rounding, all or none of them fire,
    whichever is nearer. Where none (or all) shall fire and they do so without a bias, the bias
    is 0.

    Not in the paper, whose heuristic approaches the same solution; see `iterative`.
    """
    solver: _Solver | None = None

    def step(
        layer: Layer, potentials: Sequence[Tensor], wanted: Tensor, counts: Tensor, bias: Tensor
    ) -> Tensor:
        nonlocal solver
        if solver is None or solver.layer is not layer:
            solver = _Solver(layer)
        solver.aim(wanted)
        return solver.bias(potentials)

    return step


class _Solver:
    """One layer, with what stays the same over its steps."""

    def __init__(self, layer: Layer) -> None:
        self.layer, self.threshold = layer, layer.neuron.threshold
        self.count, self.cuts = layer.count(), cuts_of(layer)
        self.ends = self.threshold.new_tensor([self.count, 0.0], dtype=torch.float64)
        self.unbounded = self.threshold.new_tensor([-torch.inf, torch.inf])
        self.wanted: Tensor | None = None

    def aim(self, wanted: Tensor) -> None:
        """Set the mean that theta * s[t] shall have, float64 `[C]`."""
        if wanted is self.wanted:
            return
        share = wanted / self.layer.theta * self.count
        spikes = share.round()
        self.cuts.aim(share, spikes)
        reached = spikes[:, None] == self.ends
        self.limits = self.unbounded.expand_as(reached).masked_fill(reached, 0.0)
        self.wanted = wanted

    def bias(self, potentials: Sequence[Tensor]) -> Tensor:
        """The bias of a step, `[C]`."""
        found = torch.sub(self.threshold, self.cuts.of(potentials).sum(1), alpha=0.5)
        return found.clamp(self.limits[:, 0], self.limits[:, 1])


def _make(settings: CalibrationSettings) -> Callable[[Layer], Corrected]:
    cumulative = settings.target == "cumulative"
    return partial(correct_step_by_step, rule=exact(), cumulative=cumulative)


STAGE = Stage("biases", "ftbc_exact", "FTBC exact", _make)
