"""How methods are called and drawn, the same in every table and figure."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from ftbc_lightning.calibration.stage import KINDS, Stage
from ftbc_lightning.calibration.stages import STAGES

Pixels = np.ndarray[Any, np.dtype[np.uint8]]

LABELS = {
    "ann": "ANN",
    "ann_dense": "ANN, all products",
    "ann_quantized": "quantised ANN",
    "ann_quantized_weights": "quantised ANN + weights",
    "snn_uncalibrated": "SNN uncalibrated",
}

# Okabe and Ito's colours, told apart by colour-blind readers; markers and dashes do it in grey.
STYLES: dict[str, dict[str, Any]] = {
    "ann": {"color": "black", "linestyle": "--"},
    "ann_quantized": {"color": "black", "marker": "h", "linestyle": (0, (5, 1))},
    "ann_quantized_weights": {"color": "#009E73", "marker": "H", "linestyle": (0, (5, 1))},
    "snn_uncalibrated": {"color": "#777777", "marker": "o", "linestyle": ":"},
    "snn_static": {"color": "#E69F00", "marker": "s", "linestyle": "-."},
    "snn_ftbc_iterative": {"color": "#0072B2", "marker": "^", "linestyle": "--"},
    "snn_ftbc_exact": {"color": "#D55E00", "marker": "D", "linestyle": "-"},
}

GROUPS: dict[tuple[str, ...], tuple[str, str]] = {
    ("weights",): ("#009E73", "v"),
    ("backpropagation",): ("#CC79A7", "P"),
    ("potential",): ("#56B4E9", "X"),
    ("weights", "potential"): ("#00513B", "<"),
    ("backpropagation", "potential"): ("#7A3B5E", ">"),
}
"""Colour and marker by what comes before the bias stage."""

OTHER = ("#8C564B", "*")
"""Of a stage that has no colour of its own."""

BIASES = {
    "static": {"linestyle": "-.", "fillstyle": "left"},
    "ftbc_iterative": {"linestyle": "--", "fillstyle": "bottom"},
    "ftbc_exact": {"linestyle": "-", "fillstyle": "full"},
}
"""Dashes and the filling of the marker by the bias stage."""

TRAINED = {"marker": "*", "markersize": 9, "linestyle": (0, (3, 1, 1, 1))}
"""Of what was trained after its calibration, in the colour of what it began with."""

NO_BIAS = {"linestyle": ":", "fillstyle": "none"}

BEFORE, AFTER = "#777777", "#D55E00"
"""Uncalibrated and calibrated, wherever two are compared."""

MAP = "cividis"
"""Of heat maps: even in lightness, so it is read the same in grey and by colour-blind readers."""


def stages_of(method: str) -> tuple[Stage, ...]:
    """The stages in a method's name in results, in their order; none if it is made of others.

    >>> [stage.name for stage in stages_of("snn_weights_ftbc_exact")]
    ['weights', 'ftbc_exact']
    """
    named = [stage for stage in STAGES.values() if stage.name]
    for chosen in product(*([None, *(s for s in named if s.kind == kind)] for kind in KINDS)):
        stages = tuple(stage for stage in chosen if stage)
        if stages and "_".join(["snn", *(stage.name for stage in stages)]) == method:
            return stages
    return ()


def label_of(method: str) -> str:
    """What a method is called, by its name in results; any combination of stages has a label.

    A name with a stage that is not there is its own label.

    >>> label_of("snn_weights_ftbc_exact")
    'SNN + weights + FTBC exact'
    """
    if method in LABELS:
        return LABELS[method]
    stages = stages_of(method)
    return " + ".join(["SNN", *(stage.label for stage in stages)]) if stages else method


def style_of(method: str) -> dict[str, Any]:
    """Colour, marker and dashes of a method; the same in every figure.

    A method that was trained on has the colour of its start.

    >>> style_of("snn_weights_ftbc_exact")["color"], style_of("snn_weights")["color"]
    ('#009E73', '#009E73')
    """
    if method in STYLES:
        return STYLES[method]
    stages = stages_of(method)
    trained = [stage.name for stage in stages if stage.kind == "training"]
    if trained:
        return {**style_of(method.removesuffix(f"_{trained[0]}")), **TRAINED}
    before = tuple(stage.name for stage in stages if stage.kind != "biases")
    color, marker = GROUPS.get(before, OTHER)
    bias = next((BIASES[s.name] for s in stages if s.name in BIASES), NO_BIAS)
    return {"color": color, "marker": marker, **bias}


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, width and height in inches, that needs no screen."""
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def pixels(figure: Figure) -> Pixels:
    """Draw a figure once, `[height, width, 3]`; `Figure.savefig` lays it out in a pass of its own.

    >>> pixels(new_figure(1.0, 0.5)).shape
    (60, 120, 3)
    """
    canvas: Any = figure.canvas
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure as PNG."""
    Image.fromarray(pixels(figure)).save(path, format="png")
