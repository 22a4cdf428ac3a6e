"""Figures of one run: the measure, biases, and what it costs. Drawn from rows alone."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullFormatter, NullLocator

from ftbc_lightning.report.measure import Measure, measure_of
from ftbc_lightning.report.rows import BiasRow, OperationRow, Result, StepRow
from ftbc_lightning.report.style import AFTER, MAP, label_of, new_figure, style_of

SPLITS = {"val": "validation", "test": "test"}

COLUMNS = 4
"""Panels side by side at most, where each layer has a panel."""

LEFT, RIGHT, TOP, BOTTOM = 0.85, 0.1, 0.6, 0.85
"""Inches around the panels, for labels, title and legend."""

BAR, LEGEND = 0.9, 0.3
"""Inches more at the right for a colour bar, and less below without a legend."""


def steps_figure(results: Sequence[Result], steps: Sequence[StepRow], *, split: str) -> Figure:
    """Left: the measure by T, each T converted for itself. Right: by step of the largest."""
    figure = new_figure(10, 4.6)
    left, right = figure.subplots(1, 2, sharey=True)
    rows = [row for row in results if row.split == split]
    measure = measure_of(rows)
    ann = next(row for row in rows if row.method == "ann")
    level, label = measure.drawn(ann.accuracy), f"ANN {measure.said(ann.accuracy)}"
    largest = max(row.timesteps or 0 for row in rows)
    for axes in (left, right):
        axes.axhline(level, label=label, **style_of("ann"))
        axes.grid(alpha=0.3)
    for method in dict.fromkeys(row.method for row in rows if row.timesteps):
        style = {"label": label_of(method), "markersize": 4, **style_of(method)}
        by_t = [row for row in rows if row.method == method and row.timesteps]
        values = [measure.drawn(row.accuracy) for row in by_t]
        left.plot([row.timesteps for row in by_t], values, **style)
        curve = [
            (row.step, measure.drawn(row.accuracy))
            for row in steps
            if (row.split, row.method, row.timesteps) == (split, method, largest)
        ]
        right.plot([step for step, _ in curve], [value for _, value in curve], **style)
    log_ticks(left, sorted({row.timesteps for row in rows if row.timesteps}))
    left.set(xlabel="time steps T", ylabel=f"{measure.axis} ({SPLITS[split]}, n = {ann.n})")
    left.set_title("converted for each T", fontsize=10)
    right.set(xlabel="time step")
    step_ticks(right, largest)
    right.set_title(f"after each step of the networks for T = {largest}", fontsize=10)
    below(figure, left, columns=3)
    return figure


def log_ticks(axes: Axes, steps: Sequence[int]) -> None:
    """A logarithmic axis with a tick at each T and nowhere else."""
    axes.set_xscale("log", base=2)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(steps, [str(number) for number in steps])
    if len(steps) == 1:
        axes.set_xlim(steps[0] / 2, steps[0] * 2)


def step_ticks(axes: Axes, timesteps: int, *, most: int = 8) -> None:
    """A tick at the first step and at about `most` others, evenly apart.

    >>> axes = new_figure(3, 2).subplots()
    >>> step_ticks(axes, 16, most=4)
    >>> [int(tick) for tick in axes.get_xticks()]
    [1, 4, 8, 12, 16]
    """
    apart = -(-timesteps // most)
    axes.set_xticks(sorted({1, *range(apart, timesteps + 1, apart)}))


def below(figure: Figure, axes: Axes, *, columns: int) -> None:
    """One legend under all panels, where it covers no line."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=columns, fontsize=8, frameon=False
    )


def panels(
    names: Sequence[str],
    *,
    title: str,
    xlabel: str,
    ylabel: str,
    sharey: bool = False,
    bar: bool = False,
) -> tuple[Figure, list[Axes]]:
    """A figure with a panel for each layer, titled with its name.

    Places are computed and not fitted to the labels, which would draw everything three times.

    Args:
        names: Of the layers.
        title: Above all.
        xlabel: Below the lowest panels.
        ylabel: Left of all.
        sharey: Whether all have one vertical axis.
        bar: Whether there is room for a colour bar at the right instead of a legend below.
    """
    rows, columns = grid_of(len(names))
    right = RIGHT + BAR * bar
    bottom = BOTTOM - LEGEND * bar
    width = max(4.0, 2.5 * columns + 0.5) + BAR * bar
    height = 1.75 * rows + 1.0 - LEGEND * bar
    across, down = 0.15 if sharey else 0.6, 0.3
    panel_width = (width - LEFT - right - across * (columns - 1)) / columns
    panel_height = (height - TOP - bottom - down * (rows - 1)) / rows
    figure = new_figure(width, height)
    figure.set_layout_engine("none")
    figure.suptitle(title, fontsize=10, y=1 - 0.1 / height)
    figure.supylabel(ylabel, fontsize=9, x=0.1 / width)
    places = {
        "left": LEFT / width,
        "right": 1 - right / width,
        "wspace": across / panel_width,
        "bottom": bottom / height,
        "top": 1 - TOP / height,
        "hspace": down / panel_height,
    }
    grid = figure.subplots(
        rows, columns, squeeze=False, sharex=True, sharey=sharey, gridspec_kw=places
    )
    shown = list(grid.flat)
    for axes in shown[len(names) :]:
        axes.remove()
    for index, (axes, name) in enumerate(zip(shown, names, strict=False)):
        axes.set_title(name, fontsize=8)
        lowest = index + columns >= len(names)
        axes.tick_params(labelsize=7, labelbottom=lowest)
        if lowest:
            axes.set_xlabel(xlabel, fontsize=8)
    return figure, shown[: len(names)]


def grid_of(number: int) -> tuple[int, int]:
    """Rows and columns of panels, with as few places left over as may be.

    >>> grid_of(3), grid_of(6), grid_of(33)
    ((1, 3), (2, 3), (9, 4))
    """
    rows = -(-number // COLUMNS)
    return rows, -(-number // rows)


def bias_figure(biases: Sequence[BiasRow], *, title: str) -> Figure:
    """The temporal bias of each layer over the steps, as quantile bands over channels."""
    names = list(dict.fromkeys(row.layer for row in biases))
    figure, shown = panels(names, title=title, xlabel="time step", ylabel="bias / threshold")
    for axes, name in zip(shown, names, strict=True):
        rows = [row for row in biases if row.layer == name]
        steps = [row.step for row in rows]
        low, first, middle, third, high = zip(*(row.quantiles for row in rows), strict=True)
        axes.fill_between(steps, low, high, color=AFTER, alpha=0.2, label="5 to 95 % of channels")
        axes.fill_between(steps, first, third, color=AFTER, alpha=0.4, label="25 to 75 %")
        axes.plot(steps, middle, color=AFTER, label="median", marker="o", markersize=2.5)
        axes.axhline(0, color="black", linewidth=0.6)
        step_ticks(axes, len(rows), most=4)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
        axes.grid(alpha=0.2)
    below(figure, shown[0], columns=3)
    return figure


def bias_map_figure(biases: Sequence[BiasRow], *, title: str) -> Figure:
    """The temporal bias of each layer as an image, channels by steps."""
    names = list(dict.fromkeys(row.layer for row in biases))
    values = sorted(abs(value) for row in biases for value in row.channels)
    limit = values[int(0.98 * (len(values) - 1))] or 1.0
    figure, shown = panels(names, title=title, xlabel="time step", ylabel="channel", bar=True)
    for axes, name in zip(shown, names, strict=True):
        rows = [row for row in biases if row.layer == name]
        image = list(zip(*(row.channels for row in rows), strict=True))
        extent = (0.5, len(rows) + 0.5, len(image) - 0.5, -0.5)
        drawn = axes.imshow(
            image,
            aspect="auto",
            interpolation="nearest",
            cmap=MAP,
            vmin=-limit,
            vmax=limit,
            extent=extent,
        )
        step_ticks(axes, len(rows), most=4)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=3))
    width, height = figure.get_size_inches()
    tall = min(3.0, height - TOP - BOTTOM + LEGEND)
    place = (1 - BAR / width, (height - tall) / 2 / height, 0.12 / width, tall / height)
    bar = figure.colorbar(drawn, cax=figure.add_axes(place), extend="both")
    bar.set_label("bias / threshold", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return figure


def energy_figure(rows: Sequence[OperationRow], measure: Measure, *, split: str) -> Figure:
    """The measure against energy: each point is a T; the ANN dense, effective and quantised."""
    figure = new_figure(7.5, 4.8)
    axes = figure.subplots()
    single = {"ann": "ANN, products that are not 0", "ann_dense": "ANN, all products"}
    for row in rows:
        if row.method in single:
            marker = "*" if row.method == "ann" else "s"
            style: dict[str, Any] = {"color": "black", "linestyle": "none", "marker": marker}
            fill = "black" if row.method == "ann" else "none"
            label = single[row.method]
            value = measure.drawn(row.accuracy)
            axes.plot(row.energy_once, value, mfc=fill, label=label, markersize=9, **style)
    for method in dict.fromkeys(row.method for row in rows if row.method not in single):
        line = [row for row in rows if row.method == method]
        style = {"label": label_of(method), "markersize": 5, **style_of(method)}
        values = [measure.drawn(row.accuracy) for row in line]
        axes.plot([row.energy_once for row in line], values, **style)
        # Uncalibrated points lie beside the calibrated ones of the same T: one number is enough.
        for row in line if method != "snn_uncalibrated" else ():
            axes.annotate(
                f"{row.timesteps}",
                (row.energy_once, measure.drawn(row.accuracy)),
                xytext=(0, -13 if method.startswith("ann_quantized") else 7),
                textcoords="offset points",
                ha="center",
                fontsize=7,
                color=style["color"],
            )
    axes.set_xscale("log")
    readable_energies(axes, [row.energy_once for row in rows])
    axes.set(
        xlabel=f"nJ for a sample in synapses (estimate, {rows[0].table}, first layer once)",
        ylabel=f"{measure.axis} ({SPLITS[split]})",
    )
    axes.margins(y=0.12)
    axes.grid(alpha=0.3)
    axes.set_title("numbers at the points: time steps T", fontsize=9)
    below(figure, axes, columns=2)
    return figure


def readable_energies(axes: Axes, energies: Sequence[float]) -> None:
    """Ticks at 1, 2 and 5 times powers of ten, as plain numbers."""
    low, high = min(energies) / 1.3, max(energies) * 1.3
    ticks = [
        factor * 10.0**power
        for power in range(-6, 10)
        for factor in (1, 2, 5)
        if low <= factor * 10.0**power <= high
    ]
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.set_xticks(ticks, [f"{tick:,g}" for tick in ticks])
    axes.xaxis.set_minor_formatter(NullFormatter())
