"""Lightning callbacks."""

from ftbc_lightning.training.callbacks.ftbc import ForwardTemporalBiasCorrection
from ftbc_lightning.training.callbacks.layer_curves import LayerCurves
from ftbc_lightning.training.callbacks.result_files import ResultFiles
from ftbc_lightning.training.callbacks.run_json import RunRecord
from ftbc_lightning.training.callbacks.safeguard import Safeguard

__all__ = [
    "ForwardTemporalBiasCorrection",
    "LayerCurves",
    "ResultFiles",
    "RunRecord",
    "Safeguard",
]
