"""What the ANN becomes: neurons, thresholds, conversion, simulation, calibration. Pure torch."""
