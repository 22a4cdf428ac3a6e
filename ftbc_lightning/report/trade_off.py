"""Networks of several kinds beside each other: the measure by T, and against energy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from ftbc_lightning.report.figures import below, log_ticks, readable_energies
from ftbc_lightning.report.measure import Measure
from ftbc_lightning.report.style import new_figure, style_of

LOOKS: tuple[dict[str, Any], ...] = (
    {"color": "#D55E00", "marker": "D", "linestyle": "-"},
    {"color": "#0072B2", "marker": "s", "linestyle": "--"},
    {"color": "#009E73", "marker": "^", "linestyle": "-."},
    {"color": "#E69F00", "marker": "v", "linestyle": (0, (5, 1))},
    {"color": "#CC79A7", "marker": "P", "linestyle": ":"},
    {"color": "#56B4E9", "marker": "X", "linestyle": (0, (3, 1, 1, 1))},
)
"""Okabe and Ito's colours with a marker and dashes each, in the order of the kinds."""


@dataclass(frozen=True)
class Reached:
    """What a network reaches, and what it costs.

    Attributes:
        kind: What it stands for in the legend: a neuron, a method.
        timesteps: T; None for the ANN.
        accuracy: In the measure of the figure.
        energy: Of one sample, in nJ.
    """

    kind: str
    timesteps: int | None
    accuracy: float
    energy: float


def trade_off_figure(
    rows: Sequence[Reached], measure: Measure, *, samples: str, energy: str
) -> Figure:
    """Left: the measure by T, a line for each kind. Right: the same points against energy.

    The ANN is a line at its height, and a star at what it costs.

    Args:
        rows: One for each kind and T, and one for the ANN if it is to be shown.
        measure: What the networks are compared by.
        samples: On which samples, such as "validation, n = 360".
        energy: By which cost table, such as "45nm-fp32, first layer once".
    """
    figure = new_figure(10, 4.8)
    left, right = figure.subplots(1, 2, sharey=True)
    for row in rows:
        if row.timesteps is None:
            height = measure.drawn(row.accuracy)
            label = f"{row.kind} {measure.said(row.accuracy)}"
            for axes in (left, right):
                axes.axhline(height, label=label, **style_of("ann"))
            right.plot(row.energy, height, color="black", marker="*", markersize=10)
    kinds = dict.fromkeys(row.kind for row in rows if row.timesteps is not None)
    for place, kind in enumerate(kinds):
        own = sorted((r.timesteps, r) for r in rows if r.kind == kind and r.timesteps is not None)
        heights = [measure.drawn(row.accuracy) for _, row in own]
        look = {"label": kind, "markersize": 5, **LOOKS[place % len(LOOKS)]}
        left.plot([timesteps for timesteps, _ in own], heights, **look)
        right.plot([row.energy for _, row in own], heights, **look)
    steps = sorted({row.timesteps for row in rows if row.timesteps is not None})
    log_ticks(left, steps)
    left.set(xlabel="time steps T", ylabel=f"{measure.axis} ({samples})")
    right.set_xscale("log")
    readable_energies(right, [row.energy for row in rows])
    right.set(xlabel=f"nJ for a sample (estimate, {energy})")
    left.set_title("converted for each T", fontsize=10)
    right.set_title("the same points, T from left to right; star: the ANN", fontsize=10)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    below(figure, left, columns=3)
    return figure
