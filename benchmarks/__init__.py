"""Measurements: accuracy first, then time; every figure is a record with its raw samples."""
