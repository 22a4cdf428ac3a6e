"""Lightning callbacks."""

from ftbc_lightning.callbacks.curves import LayerCurves
from ftbc_lightning.callbacks.ftbc import ForwardTemporalBiasCorrection
from ftbc_lightning.callbacks.results import ResultFiles

__all__ = ["ForwardTemporalBiasCorrection", "LayerCurves", "ResultFiles"]
