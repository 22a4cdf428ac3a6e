"""What the ANN's activations look like, channel by channel, as counts that add up over batches."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, fx

from ftbc_lightning.errors import UserError
from ftbc_lightning.graph.encoding import is_encoder
from ftbc_lightning.graph.propagation import Plan, Propagation, prepared
from ftbc_lightning.snn.device_bounds import carried_elements
from ftbc_lightning.snn.sample_shape import converted_for

Reduce = Callable[[Tensor, Literal["sum", "max"]], Tensor]
"""Merges a tensor of sums, counts or maxima over all processes."""

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is finished, and how much there is."""

Batches = Iterable[Tensor | tuple[Tensor, ...] | list[Tensor]]
"""Samples, or (samples, labels) of which the labels are not read."""

BINS = 1024

LARGEST_RANK = 16
"""Room for the numbers that processes tell each other about their samples."""


def identity(values: Tensor, kind: Literal["sum", "max"]) -> Tensor:
    """Merge nothing: there is one process."""
    return values


def silent(what: str, done: int, total: int) -> None:
    """Tell nobody."""


def muted(reduce: Reduce) -> Reduce:
    """The same merge with nothing of this process in it.

    A process without samples walks through the network on a stand-in, so that it takes part in
    every merge, and adds nothing to any.

    >>> muted(identity)(torch.ones(2), "sum"), muted(identity)(torch.ones(1), "max")
    (tensor([0., 0.]), tensor([-inf]))
    """

    def merge(values: Tensor, kind: Literal["sum", "max"]) -> Tensor:
        if kind == "sum":
            return reduce(torch.zeros_like(values), kind)
        lowest = -torch.inf if values.is_floating_point() else torch.iinfo(values.dtype).min
        return reduce(torch.full_like(values, lowest), kind)

    return merge


def present(samples: Sequence[Tensor], reduce: Reduce) -> tuple[Sequence[Tensor], Reduce]:
    """Batches that have samples; where none has, one empty sample and a muted merge."""
    filled = [batch for batch in samples if len(batch)]
    if filled:
        return filled, reduce
    return [samples[0].new_zeros(1, *samples[0].shape[1:])], muted(reduce)


def samples_of(
    batches: Batches, *, like: Tensor | None = None, reduce: Reduce = identity
) -> list[Tensor]:
    """Take the samples out of the batches and check them.

    Processes may hold unequal shares; one may have no sample at all. Every process is given
    equally many batches, the last of which may be empty, and raises what any of them found.

    Args:
        batches: Samples `[B, ...]` or tuples that begin with them.
        like: A tensor on the device and in the precision of the network.
        reduce: Merges over processes.

    Raises:
        UserError: There is no sample, a batch is none, or a pixel is NaN or infinite.
    """
    if isinstance(batches, Tensor):
        raise UserError("The batches are one tensor; give a list of batches, such as [samples].")
    samples = [_samples(batch) for batch in batches]
    samples = [batch for batch in samples if len(batch)]
    broken = [i for i, batch in enumerate(samples) if not batch.isfinite().all()]
    shape = samples[0].shape[1:] if samples else ()
    integers = bool(samples) and not samples[0].is_floating_point()
    own = [len(samples), broken[0] + 1 if broken else 0, int(integers), len(shape), *shape]
    device = samples[0].device if like is None and samples else getattr(like, "device", None)
    summary = torch.tensor(own + [0] * (LARGEST_RANK - len(own)), device=device)
    most, first_broken, whole, axes, *sizes = reduce(summary, "max").tolist()
    if most == 0:
        raise UserError("The calibration set is empty; give at least one batch of samples.")
    if first_broken:
        raise UserError(
            f"Calibration batch {first_broken - 1} holds NaN or infinite pixels; mend or leave "
            "out those samples."
        )
    dtype = torch.int64 if whole else torch.float32
    empty = torch.zeros(0, *sizes[:axes], device=device, dtype=dtype)
    samples += [empty.to(samples[0]) if samples else empty] * (most - len(samples))
    if like is None:
        return samples
    return [prepared(batch, like) for batch in samples]


def _samples(batch: Any) -> Tensor:
    first = batch[0] if isinstance(batch, tuple | list) and batch else batch
    if not isinstance(first, Tensor):
        raise UserError(
            f"A calibration batch is a {type(batch).__name__}, or begins with no tensor; give "
            "tensors of samples, or tuples that begin with them."
        )
    return first


class ActivationStatistics:
    """Count, sum, maximum and histogram of one layer's activations for each channel.

    The histogram of channel c has `BINS` bins of equal width from 0 to `span[c]`, a power of two
    times a fixed unit. When a larger value comes, neighbouring bins are added together and the
    span doubles, so one pass over the data is enough and no result depends on its order. Values
    are in float32, whatever the default is.

    Attributes:
        count: How many activations were seen in each channel.
        total: Their sum, float64 `[C]`.
        maximum: The largest, `[C]`.
        span: The upper end of the histogram, `[C]`.
        histogram: Counts, int64 `[C, BINS]`.
    """

    def __init__(self, channels: int, device: torch.device) -> None:
        self.count = 0
        self.total = torch.zeros(channels, dtype=torch.float64, device=device)
        self.maximum = torch.zeros(channels, dtype=torch.float32, device=device)
        self.span = torch.full_like(self.maximum, 2.0**-20)
        self.histogram = torch.zeros(channels, BINS, dtype=torch.int64, device=device)

    def update(self, activations: Tensor) -> None:
        """Add activations `[B, C, ...]`, none of them negative; a few channels at a time."""
        values = activations.detach().transpose(0, 1)
        number = values[0].numel()
        at_once = max(1, carried_elements(values.device) // number)
        starts = range(0, len(values), at_once)
        self.count += number
        for few in (slice(start, start + at_once) for start in starts):
            rows = values[few].flatten(1).float()
            self.total[few] += rows.sum(1, dtype=torch.float64)
            self.maximum[few] = torch.maximum(self.maximum[few], rows.amax(1))
            self.widen(self.maximum[few], few)
            position = (rows * (BINS / self.span[few])[:, None]).long().clamp_(0, BINS - 1)
            position += torch.arange(len(rows), device=rows.device)[:, None] * BINS
            self.histogram[few] += _counted(position.flatten(), len(rows) * BINS).view(-1, BINS)

    def widen(self, maximum: Tensor, few: slice = slice(None)) -> None:
        """Double each channel's span, adding bins together, until it holds `maximum` `[C]`.

        How often is read off the exponents of both, so that the host need not wait for the answer.
        """
        span, histogram = self.span[few], self.histogram[few]
        fraction, exponent = maximum.frexp()  # maximum = fraction * 2^exponent, 1/2 <= fraction < 1
        wanted = exponent - (fraction == 0.5).int()  # the least n with maximum <= 2^n
        grows = maximum > span
        doublings = (wanted - (span.frexp().exponent - 1)).where(grows, 0)
        bins = torch.arange(BINS, device=span.device).expand_as(histogram)
        bins = bins >> doublings.clamp_max(BINS.bit_length())[:, None]
        self.histogram[few] = torch.zeros_like(histogram).scatter_add_(1, bins, histogram)
        self.span[few] = torch.where(grows, torch.ones_like(span).ldexp(wanted), span)

    def reduce(self, reduce: Reduce) -> None:
        """Merge with the statistics of the other processes."""
        if reduce is identity:
            return
        self.maximum = reduce(self.maximum, "max")
        self.widen(self.maximum)
        spans = reduce(self.span, "max")
        self.widen(spans)
        self.total = reduce(self.total, "sum")
        self.histogram = reduce(self.histogram, "sum")
        count = torch.tensor([self.count], dtype=torch.int64, device=self.total.device)
        self.count = int(reduce(count, "sum"))

    @property
    def centers(self) -> Tensor:
        """The middle of each bin, `[C, BINS]`; the first bin stands for silence and is 0."""
        places = torch.arange(BINS, device=self.span.device, dtype=self.span.dtype) + 0.5
        places[0] = 0.0
        return places * (self.span / BINS)[:, None]


@torch.no_grad()
def observe(
    reference: fx.GraphModule,
    channels: Mapping[str, int],
    batches: Batches,
    *,
    shape: Sequence[int] | None = None,
    reduce: Reduce = identity,
    progress: Progress = silent,
) -> dict[str, ActivationStatistics]:
    """Run the ANN once over the batches and gather the statistics of its activations.

    Of what an encoder reads the magnitude counts: its levels lie alike on both sides of 0.

    Args:
        reference: The traced ANN.
        channels: For each activation node its number of channels.
        batches: Calibration samples.
        shape: Of the sample that the network was converted with, where it is known.
        reduce: Merges sums and maxima over processes.
        progress: Told after each batch.

    Returns:
        Statistics by node name.

    Raises:
        UserError: The set is empty, samples do not pass the network, or an activation is NaN or
            infinite.
    """
    like = next(iter(reference.parameters()))
    samples = [b for b in samples_of(batches, like=like, reduce=reduce) if len(b)]
    plan = Plan(reference)
    statistics = {name: ActivationStatistics(c, like.device) for name, c in channels.items()}
    for index, batch in enumerate(samples):
        progress("activations of the ANN", index, len(samples))
        propagation = Propagation(plan, batch, steps=1)
        finite = {}
        for node in plan.nodes:
            with converted_for(shape, [batch]):
                value = propagation.advance(node)
            if node.name in statistics:
                finite[node.name] = value.isfinite().all()
                statistics[node.name].update(value.abs() if is_encoder(node) else value)
        _check_finite(finite)
    progress("activations of the ANN", len(samples), len(samples))
    for collected in statistics.values():
        collected.reduce(reduce)
    return statistics


def _counted(positions: Tensor, size: int) -> Tensor:
    """How often each of 0 .. size - 1 stands in `positions`, int64 `[size]`.

    On a GPU `bincount` would first have to know the largest one.
    """
    if positions.device.type == "cpu":
        return torch.bincount(positions, minlength=size)
    counts = torch.zeros(size, dtype=torch.int64, device=positions.device)
    return counts.scatter_add_(0, positions, counts.new_ones(()).expand_as(positions))


def _check_finite(finite: Mapping[str, Tensor]) -> None:
    """Raise `UserError` naming the first activation that is not finite; one look for all."""
    if not finite or bool(torch.stack(list(finite.values())).all()):
        return
    name = next(name for name, whole in finite.items() if not whole)
    raise UserError(
        f"Activation {name} of the ANN is NaN or infinite on calibration samples; check the "
        "weights that were loaded and the normalisation of the samples."
    )
