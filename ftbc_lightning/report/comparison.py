"""One table and one figure of `ftbc compare`."""

from collections import defaultdict
from collections.abc import Sequence
from statistics import mean, stdev

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table

from ftbc_lightning.report.comparison_rows import Row
from ftbc_lightning.report.measure import Measure, measure_of
from ftbc_lightning.report.rows import PLAIN
from ftbc_lightning.report.style import label_of, new_figure, style_of
from ftbc_lightning.report.tables import training_note


def comparison_table(rows: Sequence[Row], *, title: str) -> Table:
    """Methods by T, mean and standard deviation over the draws; the ANN on top.

    Neurons are compared among their like: first the paper's, then each other kind by itself.

    The last column is the mean over the draws of the seconds that thresholds and calibration took
    for all T together.

    Args:
        rows: Of one comparison.
        title: Says on which samples; how many draws is added.
    """
    steps = sorted({row.timesteps for row in rows if row.timesteps is not None})
    measure = measure_of(rows)
    shown = Table(title=f"{title}\n{draws_of(rows)}", caption=training_note(rows) or None)
    shown.add_column("", no_wrap=True)
    for number in steps:
        shown.add_column(f"T={number}", justify="right")
    shown.add_column("seconds", justify="right")
    for neuron, like in by_neuron(rows).items():
        if neuron != PLAIN:
            shown.add_section()
            shown.add_row(f"neuron: {neuron}", style="italic")
        for method in dict.fromkeys(row.method for row in like):
            own = [row for row in like if row.method == method]
            cells = [
                _cell(measure, [r.accuracy for r in own if r.timesteps in (t, None)]) for t in steps
            ]
            shown.add_row(label_of(method), *cells, _seconds(own))
    return shown


def by_neuron(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each neuron; those of the paper's, and of the ANN, first."""
    names = dict.fromkeys([PLAIN, *(row.neuron for row in rows)])
    return {name: [row for row in rows if row.neuron == name] for name in names}


def comparison_figure(rows: Sequence[Row], *, title: str) -> Figure:
    """The measure by T of every method, a panel a neuron; bars are the spread over the draws."""
    groups = by_neuron([row for row in rows if row.method != "ann"])
    groups = {name: like for name, like in groups.items() if like} or groups
    ann = [row for row in rows if row.method == "ann"]
    figure = new_figure(2.5 + 5.0 * len(groups), 4.8)
    panels = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    steps = sorted({row.timesteps for row in rows if row.timesteps is not None})
    for axes, (neuron, like) in zip(panels, groups.items(), strict=True):
        _draw(axes, [*ann, *like], steps)
        if len(groups) > 1:
            axes.set_title(f"neuron: {neuron}", fontsize=9)
    panels[0].set_ylabel(measure_of(rows).axis)
    figure.suptitle(f"{title}\n{draws_of(rows)}", fontsize=9)
    return figure


def _draw(axes: Axes, rows: Sequence[Row], steps: Sequence[int]) -> None:
    measure = measure_of(rows)
    for method in dict.fromkeys(row.method for row in rows):
        own = [row for row in rows if row.method == method]
        if method == "ann":
            level = own[0].accuracy
            label = f"{label_of(method)} {measure.said(level)}"
            axes.axhline(measure.drawn(level), label=label, **style_of(method))
            continue
        there = [t for t in steps if any(row.timesteps == t for row in own)]
        values = [[measure.drawn(row.accuracy) for row in own if row.timesteps == t] for t in there]
        spread = [stdev(found) if len(found) > 1 else 0.0 for found in values]
        style = {"markersize": 5, "capsize": 2, "linewidth": 1.2, **style_of(method)}
        axes.errorbar(there, list(map(mean, values)), spread, label=label_of(method), **style)
    axes.set_xscale("log", base=2)
    axes.set_xticks(steps, [str(number) for number in steps])
    axes.set_xlabel("time steps T")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="lower right" if measure.higher_is_better else "upper right")


def draws_of(rows: Sequence[Row]) -> str:
    """What the figures are a mean of.

    >>> row = Row("test", "snn_static", 2, 0.5, 10, 0, 1.0)
    >>> draws_of([row])
    'one calibration draw'
    """
    seeds = defaultdict(set)
    for row in rows:
        if row.seed is not None:
            seeds[row.neuron, row.method, row.timesteps].add(row.seed)
    counts = sorted({len(found) for found in seeds.values()})
    if counts in ([], [1]):
        return "one calibration draw"
    some = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
    return f"mean \u00b1 standard deviation over {some} calibration draws"


def _cell(measure: Measure, values: Sequence[float]) -> str:
    return measure.spread(values) if values else ""


def _seconds(rows: Sequence[Row]) -> str:
    by_draw: dict[int | None, dict[int, float]] = defaultdict(dict)
    for row in rows:
        if row.seconds is not None and row.timesteps is not None:
            by_draw[row.seed][row.timesteps] = row.seconds
    totals = [sum(found.values()) for found in by_draw.values()]
    return f"{mean(totals):.1f}" if totals else ""
