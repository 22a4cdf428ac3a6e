"""What a run says, in sentences: which T to use, which layer is worst."""

from collections.abc import Sequence
from dataclasses import dataclass

from ftbc_lightning.analysis.diagnosis import SMALL, advice_on
from ftbc_lightning.errors import UserError
from ftbc_lightning.report.layer_figures import last_steps
from ftbc_lightning.report.measure import Measure, measure_of
from ftbc_lightning.report.rows import LayerRow, Result
from ftbc_lightning.report.style import label_of, stages_of


@dataclass(frozen=True)
class Recommendation:
    """Which network to use.

    Attributes:
        chosen: Its result on validation samples.
        ann: That of the ANN.
        baseline: The uncalibrated network of the same T, if there is one.
        measure: What networks are compared by.
        margin: How much worse than the ANN a network may be, see `Measure.margin`.
        reached: Whether it is within the margin.
        helped: Where calibration gains most: its result, and the gain.
    """

    chosen: Result
    ann: Result
    baseline: Result | None
    measure: Measure
    margin: float
    reached: bool
    helped: tuple[Result, float] | None = None

    @property
    def headline(self) -> str:
        """The answer in a few words."""
        return f"Use T = {self.chosen.timesteps} with {label_of(self.chosen.method)}"

    @property
    def reason(self) -> str:
        """Why, with the figures."""
        measure, margin = self.measure, self.measure.margin_said(self.margin)
        found = (
            f"{measure.said(self.chosen.accuracy)} on {self.ann.n} validation samples; the ANN has "
            f"{measure.said(self.ann.accuracy)}"
        )
        if self.reached:
            return f"{found}. It is the smallest T within {margin} of the ANN."
        behind = measure.gain(self.ann.accuracy, self.chosen.accuracy)
        return (
            f"{found}. No T comes within {margin} of the ANN; this one is nearest, "
            f"{measure.size(behind)} {'below' if measure.higher_is_better else 'above'}."
        )

    @property
    def gain(self) -> str:
        """What calibration adds at this T, or where it would add something."""
        if self.baseline is None:
            return ""
        measure = self.measure
        if self.baseline.method == self.chosen.method:
            found = f"At T = {self.chosen.timesteps} no calibration is needed"
            if self.helped is None or self.helped[1] <= 2 * self.margin:
                return f"{found}, and at no T does it gain more than {measure.little(self.margin)}."
            best, gain = self.helped
            return (
                f"{found}. It gains most at T = {best.timesteps}: {measure.gained(gain)} with "
                f"{label_of(best.method)} ({measure.said(best.accuracy)})."
            )
        change = measure.change(self.chosen.accuracy - self.baseline.accuracy)
        return (
            f"Calibration changes {measure.label} by {change} at T = {self.chosen.timesteps} "
            f"(uncalibrated {measure.said(self.baseline.accuracy)}){measure.doubt(self.margin)}."
        )

    @property
    def explanation(self) -> str:
        """What the margin is."""
        return self.measure.margin_explained(self.margin)


def recommend(results: Sequence[Result]) -> Recommendation:
    """The smallest T that is as good as the ANN within the measure's margin, and its best network.

    The margin of an accuracy is one standard error of the ANN's, that of an error 5 % of the
    ANN's, that of a mean intersection over union 2 points.

    Args:
        results: Of the validation split: test samples choose nothing.
    """
    ann = next((row for row in results if row.method == "ann"), None)
    if ann is None or all(row.timesteps is None for row in results):
        raise UserError(
            "The results have no row of the ANN, or none of a spiking network; run the calibration "
            "again."
        )
    measure = measure_of(results)
    margin = measure.margin(ann.accuracy, ann.n)
    networks = [row for row in results if row.timesteps is not None]

    def lead(row: Result) -> float:
        return measure.gain(row.accuracy, ann.accuracy)

    good = [row for row in networks if lead(row) >= -margin]
    if good:
        chosen = min(good, key=lambda row: (row.timesteps, -lead(row)))
    else:
        chosen = max(networks, key=lambda row: (lead(row), -(row.timesteps or 0)))
    plain = {row.timesteps: row for row in networks if row.method == "snn_uncalibrated"}
    gains = [
        (row, measure.gain(row.accuracy, plain[row.timesteps].accuracy))
        for row in networks
        if row.timesteps in plain and row.method != "snn_uncalibrated"
    ]
    helped = max(gains, key=lambda pair: pair[1], default=None)
    baseline = plain.get(chosen.timesteps)
    return Recommendation(chosen, ann, baseline, measure, margin, bool(good), helped)


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
