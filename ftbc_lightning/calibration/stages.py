"""Every stage by its name; one more is one file and one line here."""

from ftbc_lightning.calibration import (
    backpropagation,
    exact,
    finetuned,
    iterative,
    potential,
    static,
    weights,
)
from ftbc_lightning.calibration.stage import Stage

STAGES: dict[str, Stage] = {
    "weights": weights.STAGE,
    "backpropagation": backpropagation.STAGE,
    "potential": potential.STAGE,
    "none": static.NONE,
    "static": static.STAGE,
    "iterative": iterative.STAGE,
    "exact": exact.STAGE,
    "finetuned": finetuned.STAGE,
}


def calibrating() -> list[str]:
    """The names of those that a calibration consists of."""
    return [name for name, stage in STAGES.items() if stage.kind != "training"]


def of_kind(kind: str) -> list[str]:
    """The names of the stages of a kind.

    >>> of_kind("biases")
    ['none', 'static', 'iterative', 'exact']
    """
    return [name for name, stage in STAGES.items() if stage.kind == kind]
