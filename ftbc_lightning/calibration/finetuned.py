"""The name of what has been trained after its calibration; no calibration makes it."""

from collections.abc import Callable, Iterable
from typing import Any

from ftbc_lightning.calibration.settings import CalibrationSettings
from ftbc_lightning.calibration.stage import Stage
from ftbc_lightning.errors import UserError

NAME = "finetuned"


def refuse_training(methods: Iterable[str]) -> None:
    """Raise `UserError` where a calibration is asked for a network that was trained after it."""
    for method in methods:
        if method.split("+")[-1] == NAME:
            raise UserError(
                f"{method} is no calibration: such a network is trained, on a calibrated one, by "
                "`ftbc finetune` (in Python with ftbc_lightning.TrainableNetwork)."
            )


def _make(settings: CalibrationSettings) -> Callable[..., Any]:
    raise AssertionError("refuse_training comes first")


STAGE = Stage("training", NAME, "fine-tuned", _make)
