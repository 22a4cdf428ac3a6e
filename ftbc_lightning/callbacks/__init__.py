"""Lightning callbacks."""

from ftbc_lightning.callbacks.curves import LayerCurves
from ftbc_lightning.callbacks.ftbc import ForwardTemporalBiasCorrection
from ftbc_lightning.callbacks.record import RunRecord
from ftbc_lightning.callbacks.results import ResultFiles
from ftbc_lightning.callbacks.safeguard import Safeguard

__all__ = [
    "ForwardTemporalBiasCorrection",
    "LayerCurves",
    "ResultFiles",
    "RunRecord",
    "Safeguard",
]
