"""What a calibration is made of: stages, at most one of each kind at every layer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ftbc_lightning.calibration.settings import CalibrationSettings

Kind = Literal["weights", "membranes", "biases", "training"]

KINDS: tuple[Kind, ...] = get_args(Kind)
"""In the order in which they are done at a layer, and stand in the name of a method."""


@dataclass(frozen=True)
class Stage:
    """One way to correct a layer.

    Attributes:
        kind: What it corrects.
        name: Its part of a name in results: `ftbc_exact` of `snn_weights_ftbc_exact`.
        label: What it is called in tables.
        make: From the settings, what is done at each layer. Weights: a function on a `Regression`
            that changes the layer's weights. Membranes: one on a `Layer` that changes
            `membrane_correction`. Biases: one on a `Layer` that writes the temporal bias and
            returns the spikes of each piece and the errors (`correct_step_by_step`).
        passes: How often it goes through the steps of a layer.
        by_batch: Whether it sees one batch after the other, in `rounds`, rather than all at once.
    """

    kind: Kind
    name: str
    label: str
    make: Callable[[CalibrationSettings], Callable[..., Any]]
    passes: int = 1
    by_batch: bool = False
