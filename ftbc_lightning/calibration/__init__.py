"""Calibrate a spiking network in forward passes only."""

from ftbc_lightning.calibration.calibrate import CalibrationTrace, calibrate
from ftbc_lightning.calibration.expected import CalibrationSamples
from ftbc_lightning.calibration.method import Stages, parse_method
from ftbc_lightning.calibration.settings import CalibrationSettings

__all__ = [
    "CalibrationSamples",
    "CalibrationSettings",
    "CalibrationTrace",
    "Stages",
    "calibrate",
    "parse_method",
]
