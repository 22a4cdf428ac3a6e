"""Figures of the layers: where the error is, how often neurons fire, what thresholds cut off."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import NullLocator

from ftbc_lightning.report.figures import below, panels, step_ticks
from ftbc_lightning.report.rows import HistogramRow, LayerRow
from ftbc_lightning.report.style import AFTER, BEFORE, MAP, label_of, new_figure, style_of

PARTS: dict[str, dict[str, Any]] = {
    "clipping": {"color": "#0072B2", "marker": "^"},
    "quantisation": {"color": "#009E73", "marker": "s"},
    "unevenness": {"color": "#CC79A7", "marker": "X"},
}

SHARES = (0.01, 0.1, 1, 10, 100)
"""Ticks in plain numbers: a power of ten is drawn by parts, which stay black on a dark page."""


def error_figure(before: Sequence[LayerRow], after: Sequence[LayerRow]) -> Figure:
    """Left: the error of each layer at the last step, before and after. Right: its parts, after.

    Layers run from the top, as the network does.
    """
    names = list(dict.fromkeys(row.layer for row in after))
    places = range(len(names))
    figure = new_figure(9.5, 0.26 * len(names) + 2.0)
    left, right = figure.subplots(1, 2, sharey=True)
    old, new = last_steps(before), last_steps(after)
    bars: dict[str, Any] = {"height": 0.38, "edgecolor": "black", "linewidth": 0.5}
    if old:
        left.barh(
            [place - 0.2 for place in places],
            [old[name].total for name in names],
            color=BEFORE,
            hatch="//",
            label="uncalibrated",
            **bars,
        )
    left.barh(
        [place + 0.2 for place in places],
        [new[name].total for name in names],
        color=style_of(after[0].method)["color"],
        label=label_of(after[0].method),
        **bars,
    )
    for part, style in PARTS.items():
        values = [getattr(new[name], part) for name in names]
        right.plot(values, list(places), linestyle="none", label=part, markersize=5, **style)
    left.set_yticks(list(places), names, fontsize=8)
    left.set_ylim(len(names) - 0.4, -0.6)
    left.set(xlabel="error / activation (root mean squares)")
    right.set(xlabel="error / activation (root mean squares)")
    timesteps = after[0].timesteps
    left.set_title(f"error at the last of {timesteps} steps", fontsize=10)
    right.set_title("its parts, calibrated", fontsize=10)
    for axes in (left, right):
        axes.grid(alpha=0.3, axis="x")
        axes.tick_params(labelsize=8)
        axes.set_xlim(left=0)
        axes.set_axisbelow(True)
    handles = [axes.get_legend_handles_labels() for axes in (left, right)]
    figure.legend(
        [handle for group, _ in handles for handle in group],
        [label for _, group in handles for label in group],
        loc="outside lower center",
        ncols=5,
        fontsize=8,
        frameon=False,
    )
    return figure


def last_steps(rows: Sequence[LayerRow]) -> dict[str, LayerRow]:
    """The row of each layer at its last step.

    >>> last_steps([])
    {}
    """
    return {row.layer: row for row in rows if row.step == row.timesteps}


def step_map_figure(before: Sequence[LayerRow], after: Sequence[LayerRow]) -> Figure:
    """Layers by steps: error before, error after on the same scale, and firing rates."""
    names = list(dict.fromkeys(row.layer for row in after))
    groups = [("error, uncalibrated", before)] if before else []
    groups.append(("error, calibrated", after))
    figure = new_figure(3.2 * len(groups) + 4.6, 0.24 * len(names) + 1.9)
    shown = list(figure.subplots(1, len(groups) + 1, sharey=True))
    top = max(row.total for row in (*before, *after))
    for axes, (title, rows) in zip(shown, groups, strict=False):
        drawn = _map(axes, [[r.total for r in rows if r.layer == n] for n in names], top)
        axes.set_title(title, fontsize=9)
    bar = figure.colorbar(drawn, ax=shown[:-1], shrink=0.9)
    bar.set_label("error / activation", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    rates = [[row.firing_rate for row in after if row.layer == name] for name in names]
    drawn = _map(shown[-1], rates, max(map(max, rates)) or 1.0)
    shown[-1].set_title("firing rate, calibrated", fontsize=9)
    bar = figure.colorbar(drawn, ax=shown[-1], shrink=0.9)
    bar.set_label("spikes for each neuron and step", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    shown[0].set_yticks(range(len(names)), names, fontsize=8)
    figure.supxlabel("time step", fontsize=9)
    return figure


def _map(axes: Axes, values: Sequence[Sequence[float]], top: float) -> AxesImage:
    step_ticks(axes, len(values[0]))
    axes.tick_params(labelsize=8)
    extent = (0.5, len(values[0]) + 0.5, len(values) - 0.5, -0.5)
    settings: dict[str, Any] = {"cmap": MAP, "vmin": 0, "vmax": top, "interpolation": "nearest"}
    return axes.imshow(values, aspect="auto", extent=extent, **settings)


def threshold_figure(histograms: Sequence[HistogramRow], *, timesteps: int) -> Figure:
    """The ANN's activations in units of theta: what lies right of 1 is clipped."""
    rows = [row for row in histograms if row.kind == "activation"]
    names = list(dict.fromkeys(row.layer for row in rows))
    figure, shown = panels(
        names,
        title=f"Activations against thresholds for T = {timesteps} (the last bin holds all above)",
        xlabel="activation / threshold",
        ylabel="% of activations that are not 0",
        sharey=True,
    )
    for axes, name in zip(shown, names, strict=True):
        bins = [row for row in rows if row.layer == name]
        edges = [row.left for row in bins] + [bins[-1].right]
        axes.stairs(
            [100 * row.share for row in bins], edges, fill=True, color="#56B4E9", label="activation"
        )
        axes.axvline(1, color="black", linestyle="--", linewidth=1, label="threshold")
        axes.set_yscale("log")
        axes.set_ylim(1e-3, 100)
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_yticks(SHARES, [f"{share:g}" for share in SHARES])
    below(figure, shown[0], columns=2)
    return figure


def membrane_figure(histograms: Sequence[HistogramRow], *, network: str) -> Figure:
    """Membranes after the reset at chosen steps: what stays there has not been passed on."""
    rows = [row for row in histograms if row.kind == "membrane"]
    names = list(dict.fromkeys(row.layer for row in rows))
    steps = sorted({row.step for row in rows})
    left, right = min(row.left for row in rows), max(row.left for row in rows)
    width = rows[0].right - rows[0].left
    styles = ((BEFORE, ":"), ("#0072B2", "--"), (AFTER, "-"))
    figure, shown = panels(
        names,
        title=f"Membranes of {network} (grey: 0 to 1; beyond the ends left out)",
        xlabel="membrane / threshold",
        ylabel="% of neurons",
    )
    for axes, name in zip(shown, names, strict=True):
        for step, (color, dashes) in zip(steps, styles[-len(steps) :], strict=True):
            bins = [row for row in rows if row.layer == name and row.step == step]
            edges = [row.left for row in bins] + [bins[-1].right]
            shares = [100 * row.share for row in bins]
            label = f"after step {step}"
            axes.stairs(shares, edges, baseline=None, color=color, linestyle=dashes, label=label)
        inner = [row.share for row in rows if row.layer == name and left < row.left < right]
        axes.axvspan(0, 1, color=BEFORE, alpha=0.2, linewidth=0)
        axes.set_xlim(left + width, right)
        axes.set_ylim(0, 115 * max(inner) or 1)
    below(figure, shown[0], columns=3)
    return figure
