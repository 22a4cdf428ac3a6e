"""What a run says, in sentences: which T to use, which layer is worst."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ftbc_lightning.analysis.diagnosis import SMALL, advice_on
from ftbc_lightning.report.layer_figures import last_steps
from ftbc_lightning.report.rows import LayerRow, Result
from ftbc_lightning.report.style import label_of, stages_of


@dataclass(frozen=True)
class Recommendation:
    """Which network to use.

    Attributes:
        chosen: Its result on validation samples.
        ann: That of the ANN.
        baseline: The uncalibrated network of the same T, if there is one.
        standard_error: Of the ANN's accuracy.
        reached: Whether it is within one standard error of the ANN.
        helped: Where calibration gains most: its result, and the gain in points.
    """

    chosen: Result
    ann: Result
    baseline: Result | None
    standard_error: float
    reached: bool
    helped: tuple[Result, float] | None = None

    @property
    def headline(self) -> str:
        """The answer in a few words."""
        return f"Use T = {self.chosen.timesteps} with {label_of(self.chosen.method)}"

    @property
    def reason(self) -> str:
        """Why, with the figures."""
        chosen, ann = 100 * self.chosen.accuracy, 100 * self.ann.accuracy
        error = 100 * self.standard_error
        found = f"{chosen:.1f} % on {self.ann.n} validation samples; the ANN has {ann:.1f} %"
        if self.reached:
            why = f"the smallest T within one standard error ({error:.1f} points) of the ANN"
        else:
            why = (
                f"no T comes within one standard error ({error:.1f} points) of the ANN; this one "
                f"is nearest, {ann - chosen:.1f} points below"
            )
        return f"{found}. It is {why}." if self.reached else f"{found}. {why[0].upper()}{why[1:]}."

    @property
    def gain(self) -> str:
        """What calibration adds at this T, or where it would add something."""
        if self.baseline is None:
            return ""
        if self.baseline.method == self.chosen.method:
            found = f"At T = {self.chosen.timesteps} no calibration is needed"
            if self.helped is None or self.helped[1] <= 200 * self.standard_error:
                return f"{found}, and at no T does it gain more than chance could."
            best, points = self.helped
            return (
                f"{found}. It gains most at T = {best.timesteps}: {points:+.1f} points with "
                f"{label_of(best.method)} ({100 * best.accuracy:.1f} %)."
            )
        points = 100 * (self.chosen.accuracy - self.baseline.accuracy)
        return (
            f"Calibration changes accuracy by {points:+.1f} points at T = {self.chosen.timesteps} "
            f"(uncalibrated {100 * self.baseline.accuracy:.1f} %); below about "
            f"{200 * self.standard_error:.1f} points this may be chance."
        )


def recommend(results: Sequence[Result]) -> Recommendation:
    """The smallest T within one standard error of the ANN, and its best network.

    Args:
        results: Of the validation split: test samples choose nothing.
    """
    ann = next(row for row in results if row.method == "ann")
    error = math.sqrt(ann.accuracy * (1 - ann.accuracy) / ann.n)
    networks = [row for row in results if row.timesteps is not None]
    good = [row for row in networks if row.accuracy >= ann.accuracy - error]
    if good:
        chosen = min(good, key=lambda row: (row.timesteps, -row.accuracy))
    else:
        chosen = max(networks, key=lambda row: (row.accuracy, -(row.timesteps or 0)))
    plain = {row.timesteps: row for row in networks if row.method == "snn_uncalibrated"}
    gains = [
        (row, 100 * (row.accuracy - plain[row.timesteps].accuracy))
        for row in networks
        if row.timesteps in plain and row.method != "snn_uncalibrated"
    ]
    helped = max(gains, key=lambda pair: pair[1], default=None)
    return Recommendation(chosen, ann, plain.get(chosen.timesteps), error, bool(good), helped)


@dataclass(frozen=True)
class LayerVerdict:
    """One layer in the table of the page."""

    layer: str
    before: float | None
    after: float
    added: float
    advice: str


def worst_layers(
    before: Sequence[LayerRow], after: Sequence[LayerRow], *, plain: bool = False
) -> list[LayerVerdict]:
    """The layers, first the one that adds most error, each with advice.

    Args:
        before: Of the uncalibrated network, if there is one.
        after: Of the calibrated one.
        plain: Whether ranks and advice are on the uncalibrated network.
    """
    old, new = last_steps(before), last_steps(after)
    rows = sorted((old if plain else new).values(), key=lambda row: -row.added)
    return [
        LayerVerdict(
            row.layer,
            old[row.layer].total if row.layer in old else None,
            new[row.layer].total,
            row.added,
            _advice(row),
        )
        for row in rows
    ]


def _advice(row: LayerRow) -> str:
    kinds = {stage.kind for stage in stages_of(row.method)}
    words = advice_on(
        row.cause,  # type: ignore[arg-type]
        row.added,
        bias="biases" in kinds,
        weights="weights" in kinds,
    )
    return f"{row.cause}: {words}" if row.added > SMALL else words
