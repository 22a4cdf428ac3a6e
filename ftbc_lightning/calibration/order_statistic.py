"""The k-th smallest value of each channel and its neighbours, over batches and processes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ftbc_lightning.snn.statistics import Reduce, identity

SORTED_AT_ONCE = 1024
"""A row this short is sorted; a longer one is first cut down to a window around its rank."""

CACHED_ELEMENTS = 2**20
"""How many values are looked at together, so that the several looks at them find them in cache."""

EXACT_SUM = 2**24
"""Ones in float32 add up without error to this number."""

SAMPLE = 512
"""How many values of a row that window is taken from."""

SPREAD = 3.0
"""Half the width of that window, in standard deviations of the rank in a sample."""


@dataclass
class Place:
    """Where a rank lies among the values of each channel.

    Those that count as equal to the k-th smallest value lie within the tolerance of it.

    Attributes:
        least: The smallest that counts as equal to the k-th smallest value, `[C]`.
        most: The largest that does, `[C]`.
        lower: The largest value below those, `[C]`; minus infinity if there is none.
        higher: The smallest value above those, `[C]`; infinity if there is none.
        above: How many values lie above those, int64 `[C]`.
        at_least: How many are not below those, int64 `[C]`.
    """

    least: Tensor
    most: Tensor
    lower: Tensor
    higher: Tensor
    above: Tensor
    at_least: Tensor


def kth_smallest(values: Sequence[Tensor], k: Tensor, *, reduce: Reduce = identity) -> Tensor:
    """The k-th smallest value of each channel over all of `values` and all processes.

    Args:
        values: Pieces `[C, n]`; a process may have none with n above 0.
        k: Rank for each channel, int64 `[C]`, 1 to N where N is the number over all processes.
        reduce: Merges counts over processes.

    Returns:
        `[C]`.

    >>> kth_smallest([torch.tensor([[3.0, 1.0]]), torch.tensor([[2.0]])], torch.tensor([2]))
    tensor([2.])
    """
    if reduce is not identity:
        return _bisect(values, k, reduce)
    return place_of(values, k).least


def place_of(
    values: Sequence[Tensor],
    k: Tensor,
    *,
    reduce: Reduce = identity,
    tolerance: Tensor | None = None,
) -> Place:
    """The k-th smallest value of each channel, the values beside it and how many lie above.

    In one process it is found by selection (Floyd and Rivest, 1975): a sorted sample gives two
    bounds that enclose the rank almost surely, and only what lies between them is looked at
    again. Over several it is found by bisection on the number line of floating-point numbers: 32
    (float64: 64) rounds, each of which sends one count for each channel. Both are exact. Selection
    asks how many values there are; `cut.Sorted` is what does without, for a GPU.

    Args:
        values: Pieces `[C, n]`; a process may have none with n above 0.
        k: Rank for each channel, int64 `[C]`, 1 to N where N is the number over all processes.
        reduce: Merges counts and maxima over processes.
        tolerance: How far from the k-th smallest value others count as equal to it, `[C]`; 0 if
            not given.
    """
    near = values[0].new_zeros(len(k)) if tolerance is None else tolerance
    if reduce is not identity:
        return _around(values, _bisect(values, k, reduce), near, reduce)
    joined = (values[0] if len(values) == 1 else torch.cat(list(values), dim=1)).contiguous()
    at_once = max(1, CACHED_ELEMENTS // joined.shape[1])
    found = [
        _select(*parts)
        for parts in zip(*(torch.split(of, at_once) for of in (joined, k, near)), strict=True)
    ]
    return Place(*(torch.cat([getattr(p, f.name) for p in found]) for f in fields(Place)))


def _select(rows: Tensor, k: Tensor, near: Tensor) -> Place:
    """The place of the k-th smallest value of each row, `[C, n]`."""
    place, missed = _Window.around(rows, k).place(k, rows.shape[1], near)
    if bool(missed.any()):
        rows = rows[missed]
        pivots = [row.kthvalue(rank).values for row, rank in zip(rows, k[missed], strict=True)]
        found = _around([rows], torch.stack(pivots), near[missed], identity)
        for name, part in vars(found).items():
            getattr(place, name)[missed] = part
    return place


@dataclass
class _Window:
    """Of each row all values between two of its own, in order.

    Attributes:
        low: The bound below, itself a value of the row, `[C]`; minus infinity for no bound.
        high: The bound above, likewise.
        before: How many values of the row do not exceed `low`, int64 `[C]`.
        sizes: How many lie between the bounds, int64 `[C]`.
        values: Those, `[C, width]`; what is left of the width is infinity.
    """

    low: Tensor
    high: Tensor
    before: Tensor
    sizes: Tensor
    values: Tensor

    @classmethod
    def around(cls, rows: Tensor, k: Tensor) -> "_Window":
        """A window that holds the k-th smallest value of nearly every row, sorted."""
        low = torch.full_like(rows[:, 0], -torch.inf)
        sizes = torch.full_like(k, rows.shape[1])
        window = cls(low, -low, torch.zeros_like(k), sizes, rows)
        while window.values.shape[1] > SORTED_AT_ONCE:
            smaller = window.narrowed(k)
            if smaller.values.shape[1] > 0.75 * window.values.shape[1]:
                break
            window = smaller
        window.values = _sorted(window.values)
        return window

    def narrowed(self, k: Tensor) -> "_Window":
        """A smaller window around rank k, its bounds taken from a sample."""
        width = self.values.shape[1]
        # Odd, so that it does not fall on the same column of every sample.
        stride = max(3, width // SAMPLE | 1)
        sample = _sorted(self.values[:, ::stride])
        drawn = sample.shape[1]
        rank = (k - self.before).clamp(1, width)
        # How far the sample is off at this rank is counted; only the rest of it is uncertain.
        guess = (rank * (drawn / width)).long().clamp_max(drawn - 1)
        pivot = sample.gather(1, guess[:, None])
        counted = width - _total(_marks(torch.gt, self.values, pivot))
        shift = (rank - counted) * (drawn / width)
        spread = SPREAD * (shift.abs() + 1).sqrt() + 2
        left = (guess + shift - spread).floor().long()
        right = (guess + shift + spread).ceil().long()
        low = sample.gather(1, left.clamp(0, drawn - 1)[:, None])[:, 0]
        high = sample.gather(1, right.clamp(0, drawn - 1)[:, None])[:, 0]
        low = torch.where(left < 0, self.low, low)
        high = torch.where(right >= drawn, self.high, torch.minimum(high, self.high))
        above = _marks(torch.gt, self.values, low[:, None])
        before = self.before + width - _total(above)
        inside = _marks(torch.lt, self.values, high[:, None]).mul_(above)
        # By indices, because masked_select is ten times as slow on several threads as on one.
        places = inside.bool().flatten().nonzero()[:, 0]
        ends = torch.arange(len(k) + 1, device=k.device) * width
        sizes = torch.searchsorted(places, ends).diff()
        pieces = torch.split(self.values.flatten()[places], sizes.tolist())
        values = pad_sequence(list(pieces), batch_first=True, padding_value=torch.inf)
        if values.shape[1] == 0:
            values = torch.full_like(low, torch.inf)[:, None]
        return _Window(low, high, before, sizes, values)

    def holds(self, k: Tensor) -> Tensor:
        """Which rows have their k-th smallest value between the bounds, bool `[C]`."""
        return (self.before < k) & (k <= self.before + self.sizes)

    def place(self, k: Tensor, count: int, near: Tensor) -> tuple[Place, Tensor]:
        """The place of rank k in each row, and for which rows, bool `[C]`, it does not count."""
        width = self.values.shape[1]
        index = (k - self.before - 1).clamp(0, width - 1)[:, None]
        pivot = self.values.gather(1, index)
        down, up = pivot - near[:, None], pivot + near[:, None]
        first = torch.searchsorted(self.values, down)
        after = torch.searchsorted(self.values, up, right=True).minimum(self.sizes[:, None])
        found = [
            self.values.gather(1, place.clamp(0, width - 1))[:, 0]
            for place in (first, after - 1, first - 1, after)
        ]
        first, after = first[:, 0], after[:, 0]
        lower = torch.where(first == 0, self.low, found[2])
        higher = torch.where(after >= self.sizes, self.high, found[3])
        whole = (lower < down[:, 0]) & (higher > up[:, 0]) | pivot[:, 0].isinf()
        place = Place(
            *(found[0], found[1], lower, higher),
            *(count - self.before - after, count - self.before - first),
        )
        return place, ~(self.holds(k) & whole)


def _sorted(rows: Tensor) -> Tensor:
    """The values of each row in order: on a CPU by NumPy, which is several times as fast."""
    if rows.device.type == "cpu":
        return torch.from_numpy(np.sort(rows.numpy(), axis=1))
    return rows.sort(dim=1).values


def _marks(compare: Callable[..., Tensor], values: Tensor, bound: Tensor) -> Tensor:
    """Where a comparison holds, as zeros and ones in the type of the values.

    Booleans, and their sums, take several times as long.
    """
    marks: Tensor = compare(values, bound, out=torch.empty_like(values))
    return marks


def _total(marks: Tensor) -> Tensor:
    """How many ones each row of zeros and ones has, int64 `[C]`."""
    return torch.stack([part.sum(1).long() for part in torch.split(marks, EXACT_SUM, dim=1)]).sum(0)


def _around(values: Sequence[Tensor], pivot: Tensor, near: Tensor, reduce: Reduce) -> Place:
    """The place of a value that is known already."""
    down, up = (pivot - near)[:, None], (pivot + near)[:, None]
    infinity = torch.tensor(torch.inf, dtype=pivot.dtype, device=pivot.device)
    above = reduce(torch.stack([(v > up).sum(1) for v in values]).sum(0), "sum")
    at_least = reduce(torch.stack([(v >= down).sum(1) for v in values]).sum(0), "sum")
    filled = [v for v in values if v.shape[1] > 0] or [pivot[:, None]]
    # Each is a maximum, for the minima of the negative, because processes merge maxima.
    parts = [
        [torch.where(v >= down, -v, -infinity).amax(1) for v in filled],
        [torch.where(v <= up, v, -infinity).amax(1) for v in filled],
        [torch.where(v < down, v, -infinity).amax(1) for v in filled],
        [torch.where(v > up, -v, -infinity).amax(1) for v in filled],
    ]
    least, most, lower, higher = (reduce(torch.stack(part).amax(0), "max") for part in parts)
    return Place(-least, most, lower, -higher, above, at_least)


def _bisect(values: Sequence[Tensor], k: Tensor, reduce: Reduce) -> Tensor:
    """Smallest representable x with at least k values that do not exceed it."""
    dtype = values[0].dtype
    integer = torch.int32 if dtype == torch.float32 else torch.int64
    bits = torch.iinfo(integer).bits
    # Beyond the infinities the bits mean NaN, which no value is compared with.
    infinity = int(torch.tensor(torch.inf, dtype=dtype).view(integer))
    low, high = torch.full_like(k, -infinity - 1), torch.full_like(k, infinity)
    for _ in range(bits):
        # The mean of two integers of one sign or of two, without overflow.
        middle = (low >> 1) + (high >> 1) + (low & high & 1)
        bound = _to_float(middle, dtype)[:, None]
        counts = torch.stack([(piece <= bound).sum(1) for piece in values]).sum(0)
        enough = reduce(counts, "sum") >= k
        high = torch.where(enough, middle, high)
        low = torch.where(enough, low, middle + 1)
    return _to_float(high, dtype)


def _to_float(key: Tensor, dtype: torch.dtype) -> Tensor:
    """The float at a place of the number line; the inverse of sorting floats by their bits."""
    integer = torch.int32 if dtype == torch.float32 else torch.int64
    bits = torch.iinfo(integer).bits
    place = key.to(integer)
    return (place ^ ((place >> (bits - 1)) & torch.iinfo(integer).max)).view(dtype)
