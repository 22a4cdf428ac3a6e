"""How methods are called and drawn, the same in every table and figure."""

from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

LABELS = {
    "ann": "ANN",
    "snn_uncalibrated": "SNN uncalibrated",
    "snn_static": "SNN + static bias",
    "snn_ftbc_iterative": "SNN + FTBC iterative",
    "snn_ftbc_exact": "SNN + FTBC exact",
}

# Okabe and Ito's colours, told apart by colour-blind readers; markers and dashes do it in grey.
STYLES: dict[str, dict[str, Any]] = {
    "ann": {"color": "black", "linestyle": "--"},
    "snn_uncalibrated": {"color": "#999999", "marker": "o", "linestyle": ":"},
    "snn_static": {"color": "#E69F00", "marker": "s", "linestyle": "-."},
    "snn_ftbc_iterative": {"color": "#0072B2", "marker": "^", "linestyle": "--"},
    "snn_ftbc_exact": {"color": "#D55E00", "marker": "D", "linestyle": "-"},
}


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, width and height in inches, that needs no screen."""
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure
