"""`ftbc compare`: all methods by T over several calibration draws, one network at a time."""

from ftbc_lightning.training.comparison.evaluation_samples import EvaluationSamples, fixed_by
from ftbc_lightning.training.comparison.run import Comparison

__all__ = ["Comparison", "EvaluationSamples", "fixed_by"]
