"""How methods are called and drawn, the same in every table and figure."""

from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

WORDS = {
    "backpropagation": "back-propagated weights",
    "weights": "weights",
    "potential": "potential",
    "static": "static bias",
    "ftbc_iterative": "FTBC iterative",
    "ftbc_exact": "FTBC exact",
}
"""The stages in a method's name, in the order in which they stand there."""

# Okabe and Ito's colours, told apart by colour-blind readers; markers and dashes do it in grey.
GROUPS: dict[tuple[str, ...], tuple[str, str]] = {
    ("weights",): ("#009E73", "v"),
    ("backpropagation",): ("#CC79A7", "P"),
    ("potential",): ("#56B4E9", "X"),
    ("weights", "potential"): ("#00513B", "<"),
    ("backpropagation", "potential"): ("#7A3B5E", ">"),
}
"""Colour and marker by what comes before the bias stage."""

BIASES = {
    "static": {"linestyle": "-.", "fillstyle": "left"},
    "ftbc_iterative": {"linestyle": "--", "fillstyle": "bottom"},
    "ftbc_exact": {"linestyle": "-", "fillstyle": "full"},
}
"""Dashes and the filling of the marker by the bias stage."""

NO_BIAS = {"linestyle": ":", "fillstyle": "none"}


class Labels(dict[str, str]):
    """What a method is called, by its name in results; any combination of stages has a label.

    >>> LABELS["snn_weights_ftbc_exact"]
    'SNN + weights + FTBC exact'
    """

    def __missing__(self, name: str) -> str:
        return " + ".join(["SNN", *(word for stage, word in WORDS.items() if stage in name)])


class Styles(dict[str, dict[str, Any]]):
    """How a method's line is drawn, by its name in results; the same in every figure.

    >>> STYLES["snn_weights_ftbc_exact"]["color"], STYLES["snn_weights"]["color"]
    ('#009E73', '#009E73')
    """

    def __missing__(self, name: str) -> dict[str, Any]:
        before = tuple(
            stage for stage in ("weights", "backpropagation", "potential") if stage in name
        )
        color, marker = GROUPS[before]
        bias = next((style for stage, style in BIASES.items() if stage in name), NO_BIAS)
        return {"color": color, "marker": marker, **bias}


LABELS = Labels(ann="ANN", snn_uncalibrated="SNN uncalibrated")
STYLES = Styles(
    ann={"color": "black", "linestyle": "--"},
    snn_uncalibrated={"color": "#999999", "marker": "o", "linestyle": ":"},
    snn_static={"color": "#E69F00", "marker": "s", "linestyle": "-."},
    snn_ftbc_iterative={"color": "#0072B2", "marker": "^", "linestyle": "--"},
    snn_ftbc_exact={"color": "#D55E00", "marker": "D", "linestyle": "-"},
)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, width and height in inches, that needs no screen."""
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure
