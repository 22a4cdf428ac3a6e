"""Calibrate a spiking network in forward passes only."""

from ftbc_lightning.snn.calibration.calibrate import (
    CalibrationTrace,
    Method,
    Target,
    calibrate,
)

__all__ = ["CalibrationTrace", "Method", "Target", "calibrate"]
