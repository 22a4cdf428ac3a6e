"""How methods are called and drawn, the same in every table and figure."""

import zlib
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

LABELS = {
    "ann": "ANN",
    "ann_dense": "ANN, all products",
    "ann_quantized": "quantised ANN, T + 1 levels",
    "snn_uncalibrated": "SNN uncalibrated",
    "snn_static": "SNN + static bias",
    "snn_ftbc_iterative": "SNN + FTBC iterative",
    "snn_ftbc_exact": "SNN + FTBC exact",
}

# Okabe and Ito's colours, told apart by colour-blind readers; markers and dashes do it in grey.
STYLES: dict[str, dict[str, Any]] = {
    "ann": {"color": "black", "linestyle": "--"},
    "ann_quantized": {"color": "#009E73", "marker": "v", "linestyle": (0, (5, 1))},
    "snn_uncalibrated": {"color": "#777777", "marker": "o", "linestyle": ":"},
    "snn_static": {"color": "#E69F00", "marker": "s", "linestyle": "-."},
    "snn_ftbc_iterative": {"color": "#0072B2", "marker": "^", "linestyle": "--"},
    "snn_ftbc_exact": {"color": "#D55E00", "marker": "D", "linestyle": "-"},
}

SPARE_COLORS = ("#56B4E9", "#CC79A7", "#F0E442", "#009E73", "#0072B2", "#E69F00")
SPARE_MARKERS = ("P", "X", "<", ">", "p", "h", "*")

BEFORE, AFTER = "#777777", "#D55E00"
"""Uncalibrated and calibrated, wherever two are compared."""

MAP = "cividis"
"""Of heat maps: even in lightness, so it is read the same in grey and by colour-blind readers."""


def label_of(method: str) -> str:
    """The label of a method in results; one that is not listed is called by its own name.

    >>> label_of("snn_uncalibrated"), label_of("snn_weights+exact")
    ('SNN uncalibrated', 'SNN + weights+exact')
    """
    name = method.removeprefix("snn_").replace("_", " ")
    return LABELS.get(method, f"SNN + {name}" if method.startswith("snn_") else name)


def style_of(method: str) -> dict[str, Any]:
    """Colour, marker and dashes of a method; the same in every run for one not listed too."""
    if method in STYLES:
        return STYLES[method]
    place = zlib.crc32(method.encode())
    return {
        "color": SPARE_COLORS[place % len(SPARE_COLORS)],
        "marker": SPARE_MARKERS[place % len(SPARE_MARKERS)],
        "linestyle": (0, (3, 1, 1, 1)),
    }


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, width and height in inches, that needs no screen."""
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure
