"""What networks are compared by: how a figure is called, written, drawn and judged."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from ftbc_lightning.errors import UserError
from ftbc_lightning.report.rows import Result

NEAR = 0.05
"""How much worse than the ANN a figure that is no share of the samples may be and still be as good:
a share of the ANN's."""


@dataclass(frozen=True)
class Measure:
    """One way to judge a network by a number.

    Attributes:
        name: In files, and in the column `measure` of `results.csv`.
        key: In what is logged, as in `val/acc`.
        label: For people, within a sentence.
        higher_is_better: Whether a larger number is a better network.
        percent: Whether it is a share, which people read in percent.
        bound: How much worse than the ANN's a figure may be and still be as good, where neither
            chance nor the ANN's own figure says so.
    """

    name: str
    key: str
    label: str
    higher_is_better: bool
    percent: bool
    bound: float | None = None

    @property
    def axis(self) -> str:
        """Beside an axis, and within a title.

        >>> ACCURACY.axis, RMSE.axis
        ('accuracy in %', 'RMSE')
        """
        return f"{self.label} in %" if self.percent else self.label

    @property
    def title(self) -> str:
        """Above a table.

        >>> ACCURACY.title, RMSE.title
        ('Accuracy in %', 'RMSE')
        """
        return _capital(self.axis)

    @property
    def heading(self) -> str:
        """Above a figure, before further words."""
        return _capital(self.label)

    def drawn(self, value: float) -> float:
        """A value on an axis."""
        return 100 * value if self.percent else value

    def cell(self, value: float) -> str:
        """A value in a table: percent with two decimals, or four significant digits.

        >>> ACCURACY.cell(0.98765), RMSE.cell(0.71), RMSE.cell(53.4567), RMSE.cell(25003.4)
        ('98.77', '0.7100', '53.46', '25003')
        """
        return f"{100 * value:.2f}" if self.percent else _four_digits(value)

    def short(self, value: float) -> str:
        """A value in a table of the page: percent with one decimal, or four digits."""
        return f"{100 * value:.1f}" if self.percent else _four_digits(value)

    def said(self, value: float) -> str:
        """A value in a sentence.

        >>> ACCURACY.said(0.98765), RMSE.said(0.71)
        ('98.8 %', '0.7100')
        """
        return f"{self.short(value)} %" if self.percent else self.short(value)

    def exactly(self, value: float) -> str:
        """A value in a sentence, with the digits of a table."""
        return f"{self.cell(value)} %" if self.percent else self.cell(value)

    def spread(self, values: Sequence[float]) -> str:
        """Mean and standard deviation of several draws; of one draw, the value.

        >>> ACCURACY.spread([0.98, 0.99]), RMSE.spread([0.71, 0.73]), RMSE.spread([0.71])
        ('98.5 ±0.7', '0.7200 ±0.0141', '0.7100')
        """
        if len(values) == 1:
            return self.cell(values[0])
        middle = self.short(mean(values))
        apart = stdev([self.drawn(value) for value in values])
        return f"{middle} ±{apart:.{len(middle.partition('.')[2])}f}"

    def size(self, difference: float) -> str:
        """How large a difference is, in a sentence.

        >>> ACCURACY.size(0.015), RMSE.size(0.0355)
        ('1.5 points', '0.0355')
        """
        return f"{100 * difference:.1f} points" if self.percent else f"{difference:.3g}"

    def change(self, difference: float) -> str:
        """A difference with its sign, in a sentence.

        >>> ACCURACY.change(0.015), RMSE.change(-0.0355)
        ('+1.5 points', '-0.0355')
        """
        return f"{100 * difference:+.1f} points" if self.percent else f"{difference:+.3g}"

    def gained(self, gain: float) -> str:
        """What a gain does to the figure, with its sign."""
        return self.change(gain if self.higher_is_better else -gain)

    def gain(self, value: float, base: float) -> float:
        """By how much `value` is better than `base`; below 0 where it is worse."""
        return value - base if self.higher_is_better else base - value

    def margin(self, value: float, n: int) -> float:
        """How much worse than the ANN a network may be and still be as good as it.

        One standard error of a share p of n samples, sqrt(p (1 - p) / n); the measure's own bound
        if it has one; 5 % of any other figure.

        Args:
            value: The ANN's.
            n: Over how many samples.

        >>> MIOU.margin(0.9, 100), RMSE.margin(2.0, 100)
        (0.02, 0.1)
        """
        if self.bound is not None:
            return self.bound
        return math.sqrt(value * (1 - value) / n) if self.percent else NEAR * value

    @property
    def by_chance(self) -> bool:
        """Whether the margin is what chance does to a share of the samples."""
        return self.percent and self.bound is None

    def margin_said(self, margin: float) -> str:
        """What that margin is, before "of the ANN"."""
        if self.bound is not None:
            return self.size(margin)
        kind = "one standard error" if self.percent else f"{100 * NEAR:.0f} %"
        return f"{kind} ({self.size(margin)})"

    def margin_explained(self, margin: float) -> str:
        """What that margin is, as a sentence."""
        if self.bound is not None:
            return f"{self.size(margin)} of {self.label} are a fixed bound and no standard error."
        kind = "One standard error" if self.percent else f"{100 * NEAR:.0f} %"
        return f"{kind} of the ANN's {self.label} is {self.size(margin)}."

    def little(self, margin: float) -> str:
        """Behind "it gains no more than": what chance can do to a share, twice the margin."""
        return "chance could" if self.by_chance else self.size(2 * margin)

    def doubt(self, margin: float) -> str:
        """Behind a difference of two shares: how small a one may be chance."""
        size = self.size(2 * margin)
        return f"; below about {size} this may be chance" if self.by_chance else ""


def _four_digits(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:#.4g}".rstrip(".")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


ACCURACY = Measure("accuracy", "acc", "accuracy", higher_is_better=True, percent=True)
RMSE = Measure("rmse", "rmse", "RMSE", higher_is_better=False, percent=False)
F1 = Measure("f1", "f1", "micro F1", higher_is_better=True, percent=False)
AGREEMENT = Measure(
    *("agreement", "agreement", "agreement with the ANN"),
    higher_is_better=True,
    percent=True,
    bound=0.01,
)
R2 = Measure("r2", "r2", "R2 against the ANN", higher_is_better=True, percent=False, bound=0.01)
F1_TO_ANN = Measure(
    *("f1_to_ann", "f1_to_ann", "micro F1 against the ANN"),
    higher_is_better=True,
    percent=False,
    bound=0.01,
)
"""Without labels: the share of samples of which the ANN says the same, the coefficient of
determination of its outputs, and F1 of its labels. The ANN's own is 1."""

MIOU = Measure("miou", "miou", "mean IoU", higher_is_better=True, percent=True, bound=0.02)
MIOU_TO_ANN = Measure(
    *("miou_to_ann", "miou_to_ann", "mean IoU with the ANN"),
    higher_is_better=True,
    percent=True,
    bound=0.02,
)

MEASURES = {
    measure.name: measure
    for measure in (ACCURACY, RMSE, F1, MIOU, AGREEMENT, R2, F1_TO_ANN, MIOU_TO_ANN)
}
"""Every measure by the name that files give it."""


def measure_of(results: Sequence[Result]) -> Measure:
    """What the rows of a file are measured in.

    Raises:
        UserError: A measure that this program does not know, of another program's file.
    """
    name = results[0].measure
    if name not in MEASURES:
        raise UserError(
            f"The results are measured in {name!r}, which is not known here; there are: "
            f"{', '.join(MEASURES)}."
        )
    return MEASURES[name]
