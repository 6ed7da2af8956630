"""What training, calibration and benchmarks share: labelled sets, sampling, metrics, the gate, thresholds, tables, records."""
