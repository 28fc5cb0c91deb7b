"""Scores, their intervals, calibration and the like: pure statistics of arrays."""
