"""Forecasts: windows of a series, divided in time, and the values that follow each of them."""

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ftbc_lightning.data.base import Split
from ftbc_lightning.data.in_memory import InMemorySamples
from ftbc_lightning.data.regression import RegressionDataModule
from ftbc_lightning.errors import UserError, check_counts

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")
"""In time: nothing that is trained on comes after what it is judged by."""


class ForecastDataModule(RegressionDataModule):
    """The last `window` values of a series, and the next `horizon` as targets.

    A subclass answers `series`. Each series is cut twice in time: its end tests, what lies before
    that validates, its beginning trains. A window lies within one part, targets included, so no
    value is in two parts. Each channel is standardised by its part that trains alone,

        x' = (x - mean(x_train)) / std(x_train),

    so an error of 1 is about that of always saying the mean.

    An input is `[window]` of a series `[N]`, or `[channels, window]` of one `[N, channels]`; the
    targets are `[horizon]`, or those of one channel after another, `[channels * horizon]`.

    Args:
        window: How many values of the past are read.
        horizon: How many values that follow are foretold.
        test_fraction: Share of each series, its end, that tests; above 0 and below 1.
        settings: Those of `RegressionDataModule`.

    Raises:
        UserError: A setting is out of range.
    """

    def __init__(
        self, *, window: int, horizon: int, test_fraction: float = 0.2, **settings: Any
    ) -> None:
        super().__init__(**settings)
        check_counts(window=window, horizon=horizon)
        if not 0 < test_fraction < 1:
            raise UserError(f"test_fraction is {test_fraction}; it must lie between 0 and 1.")
        self.window, self.horizon, self.test_fraction = window, horizon, test_fraction

    @abstractmethod
    def series(self) -> Tensor | Sequence[Tensor]:
        """The series in order of time, `[N]` or `[N, channels]`, or several of the same kind."""

    # known once the series are read: the base class has them as attributes
    @cached_property
    def input_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """Shape of one input, `(window,)` or `(channels, window)`."""
        return (*self._read[0].shape[1:], self.window)

    @cached_property
    def num_outputs(self) -> int:  # type: ignore[override]
        """How many targets a sample has."""
        return self.horizon * self._read[0].shape[1:].numel()

    def check_available(self) -> None:
        """Read the series, and raise `UserError` unless each part of it has a window."""
        _ = self._windows

    def targets(self, split: Split) -> Tensor:
        """The values that follow each window, `[N, outputs]`; those that validate come last."""
        return torch.cat([self._windows[part][1] for part in _of(split)])

    def dataset(self, split: Split, *, augmented: bool) -> Dataset[Any]:
        """The windows of a split; nothing is augmented."""
        inputs = torch.cat([self._windows[part][0] for part in _of(split)])
        return InMemorySamples(inputs, self.targets(split))

    def divided(self) -> tuple[list[int], list[int]]:
        """The windows of the part that trains, and behind them those that validate."""
        train, validation, _ = (len(self._windows[part][0]) for part in PARTS)
        return list(range(train)), list(range(train, train + validation))

    def persistence_error(self, part: Part) -> float:
        """The root mean squared error of saying the last value again: the plainest forecast."""
        inputs, targets = self._windows[part]
        last = inputs[..., -1:].expand(*inputs.shape[:-1], self.horizon).flatten(1)
        return float((last - targets).double().square().mean().sqrt())

    @cached_property
    def _read(self) -> list[Tensor]:
        found = self.series()
        read = [found] if isinstance(found, Tensor) else list(found)
        for each in read:
            check_series(each, like=read[0], where=type(self).__name__)
        if not read:
            raise UserError(f"{type(self).__name__} has no series.")
        return [each.double() for each in read]

    @cached_property
    def _windows(self) -> dict[Part, tuple[Tensor, Tensor]]:
        """Inputs and targets of each part, over all series."""
        cut = [self._cut(each) for each in self._read]
        return {
            part: (torch.cat([c[n][0] for c in cut]), torch.cat([c[n][1] for c in cut]))
            for n, part in enumerate(PARTS)
        }

    def _cut(self, series: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Inputs and targets of the three parts of one series."""
        test = round(len(series) * self.test_fraction)
        validation = round((len(series) - test) * self.validation_fraction)
        parts = torch.split(series, [len(series) - test - validation, validation, test])
        needed = self.window + self.horizon
        for part, values in zip(PARTS, parts, strict=True):
            if len(values) < needed:
                raise UserError(
                    f"{type(self).__name__} has a series of {len(series)} values, {len(values)} of "
                    f"them in the part {part!r}; one window and what follows it are {needed}. Give "
                    "a longer series, or set window, horizon, validation_fraction or "
                    "test_fraction."
                )
        mean, deviation = parts[0].mean(0), parts[0].std(0)
        if not (deviation > 0).all():
            raise UserError(
                f"{type(self).__name__} has a series that never changes in the part 'train'; leave "
                "it out."
            )
        return [windows((p - mean) / deviation, self.window, self.horizon) for p in parts]


def windows(values: Tensor, window: int, horizon: int) -> tuple[Tensor, Tensor]:
    """Every window of a series, and the values that follow it.

    Args:
        values: `[N]` or `[N, channels]`.
        window: Values in a window.
        horizon: Values that follow.

    Returns:
        float32 `[n, window]` and `[n, horizon]`, or `[n, channels, window]` and
        `[n, channels * horizon]`, of n = N - window - horizon + 1.

    >>> inputs, targets = windows(torch.arange(5.0), 3, 1)
    >>> inputs.tolist(), targets.tolist()
    ([[0.0, 1.0, 2.0], [1.0, 2.0, 3.0]], [[3.0], [4.0]])
    """
    found = values.float().unfold(0, window + horizon, 1)
    return found[..., :window].contiguous(), found[..., window:].flatten(1)


def check_series(series: Tensor, *, like: Tensor, where: str) -> None:
    """Raise `UserError` unless a series is `[N]` or `[N, channels]` of finite numbers.

    Args:
        series: The values in order of time.
        like: A series that has as many channels.
        where: Named in the message.

    >>> check_series(torch.zeros(1, 2, 3), like=torch.zeros(1), where="Prices")
    Traceback (most recent call last):
    ftbc_lightning.errors.UserError: Prices has a series of shape [1, 2, 3]; [N] or [N, channels] \
is needed, of at least one channel, the same for all series.
    """
    if series.ndim not in (1, 2) or series.shape[1:] != like.shape[1:] or 0 in series.shape[1:]:
        raise UserError(
            f"{where} has a series of shape {list(series.shape)}; [N] or [N, channels] is needed, "
            "of at least one channel, the same for all series."
        )
    if not series.isfinite().all():
        raise UserError(
            f"{where} has a series with values that are NaN or infinite; fill the gaps first."
        )


def _of(split: Split) -> tuple[Part, ...]:
    return PARTS[:2] if split == "train" else PARTS[2:]
