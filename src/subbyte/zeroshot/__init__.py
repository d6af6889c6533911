"""Calibration without data: inputs synthesized from the statistics that batch norms keep."""
