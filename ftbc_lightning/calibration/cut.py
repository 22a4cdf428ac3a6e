"""The cut of each channel: between the potentials that stay silent and those that fire."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from ftbc_lightning.calibration.by_channel import joined_by_channel
from ftbc_lightning.calibration.layer import Layer
from ftbc_lightning.calibration.order_statistic import place_of
from ftbc_lightning.snn.device_bounds import sorted_elements
from ftbc_lightning.snn.statistics import Reduce, identity

JOINED_ELEMENTS = 2**22
"""How many potentials lie side by side at once, copied from the pieces: 16 MiB in float32."""

LEAST_CHANNELS = 8
"""Fewer channels at once take longer to copy where channels are stored last."""

MARGIN = 0.01
"""How far, in thresholds, the last potential stays from theta where no other one bounds it."""

TIE = 32
"""How many of the last digits of theta two potentials may differ by and count as equal.

Neurons that see the same spikes, or none, have equal potentials, but sums that differ in the order
of their terms round differently. A cut between such copies would leave it to rounding whether a
large part of a layer fires.
"""


class Cuts(Protocol):
    """Finds where to cut the potentials of a layer."""

    def aim(self, share: Tensor, spikes: Tensor) -> None:
        """Say how many shall fire.

        Args:
            share: Of each channel, 0 to N, float64 `[C]`.
            spikes: The nearest whole number, float64 `[C]`.
        """

    def of(self, potentials: Sequence[Tensor]) -> Tensor:
        """The largest potential that stays silent and the smallest that fires, `[C, 2]`.

        Where there is none on one side, one that is `MARGIN` twice away from the other.

        Args:
            potentials: Pieces `[B, C, ...]`.
        """


def cuts_of(layer: Layer, count: int) -> Cuts:
    """How the cuts of a layer are found; the same cuts, by what is fast where its tensors lie.

    Args:
        layer: The layer.
        count: How many potentials a channel has, all levels and processes together.
    """
    threshold = layer.neuron.threshold
    if threshold.device.type == "cpu" or layer.reduce is not identity:
        return Selected(threshold, count, layer.reduce)
    return Sorted(threshold, count)


class Selected:
    """By selection in one process on a CPU, by bisection on counts over several processes.

    Args:
        threshold: theta, `[C]`.
        count: N, how many potentials a channel has over all processes.
        reduce: Merges counts and maxima over processes.
    """

    def __init__(self, threshold: Tensor, count: int, reduce: Reduce) -> None:
        self.count, self.reduce = count, reduce
        self.equal = TIE * torch.finfo(threshold.dtype).eps * threshold
        margin = 2 * MARGIN * threshold
        self.margins = torch.stack([-margin, margin], dim=1)
        self.at_once = max(JOINED_ELEMENTS // count, LEAST_CHANNELS)  # alike in all processes

    def aim(self, share: Tensor, spikes: Tensor) -> None:
        """See `Cuts.aim`."""
        self.share, self.rank = share, (self.count - spikes.long()).clamp_min(1)

    def of(self, potentials: Sequence[Tensor]) -> Tensor:
        """See `Cuts.of`."""
        starts = range(0, len(self.rank), self.at_once)
        cuts = [self._cut(potentials, slice(start, start + self.at_once)) for start in starts]
        return torch.cat(cuts)

    def _cut(self, potentials: Sequence[Tensor], few: slice) -> Tensor:
        """That of a few channels."""
        rows, share = [joined_by_channel([part[:, few] for part in potentials])], self.share[few]
        place = place_of(rows, self.rank[few], reduce=self.reduce, tolerance=self.equal[few])
        include = (place.at_least - share).abs() < (place.above - share).abs()
        silent = torch.where(include, place.lower, place.most)
        cut = torch.stack([silent, torch.where(include, place.least, place.higher)], dim=1)
        return torch.where(cut.isinf(), cut.flip(1) + self.margins[few], cut)


class Sorted:
    """By sorting all channels at once: the host is not asked, so a GPU never waits for it.

    One sort, one copy before it, and twelve operations on vectors of the size of the channels.

    Args:
        threshold: theta, `[C]`.
        count: N, how many potentials a channel has.
    """

    def __init__(self, threshold: Tensor, count: int) -> None:
        self.count = count
        near = TIE * torch.finfo(threshold.dtype).eps
        factors = threshold.new_tensor([-near, near, -2 * MARGIN, 2 * MARGIN])
        self.near, self.margins = (threshold[:, None] * factors).chunk(2, dim=1)
        # Room on both sides for the potentials that bound the first and the last.
        self.rows = threshold.new_empty(len(threshold), count + 2)
        self.rows[:, :: count + 1] = threshold.new_tensor([-torch.inf, torch.inf])
        self.infinity = self.rows[0, -1]
        self.sides = torch.arange(-1, 1, device=threshold.device)
        self.at_once = max(1, sorted_elements(threshold.device) // (count + 2))

    def aim(self, share: Tensor, spikes: Tensor) -> None:
        """See `Cuts.aim`."""
        self.place = (self.count - spikes).clamp_min(1).long()[:, None]
        # From here on the tied ones are nearer to the share if they fire; twice, and 1 from 0.
        self.middle = torch.rsub(share, 2 * (self.count + 1), alpha=2)

    def of(self, potentials: Sequence[Tensor]) -> Tensor:
        """See `Cuts.of`."""
        joined_by_channel(potentials, out=self.rows[:, 1:-1])
        channels = (self.rows, self.place, self.middle, self.near, self.margins)
        groups = zip(*(torch.split(of, self.at_once) for of in channels), strict=True)
        found = [self._cut(*group) for group in groups]
        return found[0] if len(found) == 1 else torch.cat(found)

    def _cut(
        self, rows: Tensor, place: Tensor, middle: Tensor, near: Tensor, margins: Tensor
    ) -> Tensor:
        last = self.count + 1
        ordered = rows.sort(dim=1).values
        tied = ordered.gather(1, place) + near
        tied[:, 1].nextafter_(self.infinity)
        ends = torch.searchsorted(ordered, tied)  # the first of those that are tied, the one behind
        firing = torch.where(ends.sum(1) > middle, ends[:, 0], ends[:, 1])
        inner = ordered[:, 1 : last : max(last - 2, 1)]
        torch.add(inner, margins, out=ordered[:, ::last])
        # Clamped because a potential that is not finite must not make a GPU fail.
        return ordered.gather(1, (firing[:, None] + self.sides).clamp_(0, last))
