"""Calibrate a spiking network in forward passes only."""

from ftbc_lightning.calibration.calibrate import CalibrationTrace, Target, calibrate
from ftbc_lightning.calibration.method import Stages, parse_method

__all__ = ["CalibrationTrace", "Stages", "Target", "calibrate", "parse_method"]
