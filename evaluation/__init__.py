"""What training, calibration and benchmarks share: labels, sampling, metrics, the gate, thresholds, tables, records."""
