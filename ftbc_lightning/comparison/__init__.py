"""`ftbc compare`: all methods by T over several calibration draws, one network at a time."""

from ftbc_lightning.comparison.pictures import EvaluationPictures, fixed_by
from ftbc_lightning.comparison.rows import Row, RowFile
from ftbc_lightning.comparison.run import Comparison

__all__ = ["Comparison", "EvaluationPictures", "Row", "RowFile", "fixed_by"]
