"""FTBC in closed form: the bias of a step is an order statistic of its potentials."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ftbc_lightning.calibration.layer import (
    Corrected,
    Layer,
    StepRule,
    correct_step_by_step,
    joined_by_channel,
)
from ftbc_lightning.calibration.order_statistic import Place, place_of
from ftbc_lightning.calibration.settings import CalibrationSettings
from ftbc_lightning.calibration.stage import Stage

MARGIN = 0.01
"""How far, in thresholds, the last potential stays from theta where no other one bounds it."""

TIE = 32
"""How many of the last digits of theta two potentials may differ by and count as equal.

Neurons that see the same spikes, or none, have equal potentials, but sums that differ in the order
of their terms round differently. A cut between such copies would leave it to rounding whether a
large part of a layer fires.
"""

ROUNDING_ATTEMPTS = 4


@dataclass(frozen=True)
class Aim:
    """What a step shall have: constant over the steps, unless the target is cumulative.

    Attributes:
        wanted: The mean of theta * s[t], float64 `[C]`.
        share: How many spikes that are, float64 `[C]`.
        rank: How many potentials may stay silent, and the one they end with, int64 `[C]`.
        equal: Within this distance potentials count as equal, `[C]`.
        margins: Between a potential and a cut that no other one bounds, `[C, 2]`.
        lowest: Of the bias, `[C]`: 0 where all fire anyway, else none.
        highest: Of the bias, `[C]`: 0 where none fires anyway, else none.
    """

    wanted: Tensor
    share: Tensor
    rank: Tensor
    equal: Tensor
    margins: Tensor
    lowest: Tensor
    highest: Tensor

    @classmethod
    def of(cls, layer: Layer, wanted: Tensor) -> "Aim":
        """For a layer and a mean."""
        threshold, count = layer.neuron.threshold, layer.count()
        share = wanted / threshold.double() * count
        spikes = share.round().long()
        margin = 2 * MARGIN * threshold
        none = torch.full_like(threshold, torch.inf)
        return cls(
            wanted,
            share,
            (count - spikes).clamp_min(1),
            TIE * torch.finfo(threshold.dtype).eps * threshold,
            torch.stack([-margin, margin], dim=1),
            torch.where(spikes == count, 0.0, -none),
            torch.where(spikes == 0, 0.0, none),
        )


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
    aim: Aim | None = None

    def step(
        layer: Layer, potentials: Sequence[Tensor], wanted: Tensor, counts: Tensor, bias: Tensor
    ) -> Tensor:
        nonlocal aim
        if aim is None or aim.wanted is not wanted:
            aim = Aim.of(layer, wanted)
        rows = [joined_by_channel(potentials)]
        place = place_of(rows, aim.rank, reduce=layer.reduce, tolerance=aim.equal)
        cut = _sides(place, aim.share)
        between = torch.where(cut.isinf(), cut.flip(1) + aim.margins, cut)
        threshold = layer.neuron.threshold
        found = threshold - (between[:, 0] + between[:, 1]) / 2
        return _mend_rounding(found.clamp(aim.lowest, aim.highest), cut, threshold)

    return step


def _sides(place: Place, share: Tensor) -> Tensor:
    """The largest potential that stays silent and the smallest that fires, `[C, 2]`."""
    include = (place.at_least - share).abs() < (place.above - share).abs()
    silent = torch.where(include, place.lower, place.most)
    return torch.stack([silent, torch.where(include, place.least, place.higher)], dim=1)


def _mend_rounding(bias: Tensor, cut: Tensor, threshold: Tensor) -> Tensor:
    """Move a bias by the last digits of theta where u0 + b rounds over the threshold.

    Rounding keeps the order of potentials, so what holds for the two beside the cut holds for all.
    A GPU is not asked whether any has to be moved: it would stand still meanwhile.
    """
    digit = torch.finfo(bias.dtype).eps * threshold
    for _ in range(ROUNDING_ATTEMPTS):
        charged = cut + bias[:, None]
        fired = torch.ge(charged, threshold[:, None], out=charged).sum(1)  # 1 where all is well
        if bias.device.type == "cpu" and bool((fired == 1).all()):
            break
        bias = torch.addcmul(bias, digit, 1 - fired)
    return bias


def _make(settings: CalibrationSettings) -> Callable[[Layer], Corrected]:
    cumulative = settings.target == "cumulative"
    return partial(correct_step_by_step, rule=exact(), cumulative=cumulative)


STAGE = Stage("biases", "ftbc_exact", "FTBC exact", _make)
