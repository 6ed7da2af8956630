"""INT8: ranges, outlier smoothing, Q/DQ placement and sensitivity; `evaluation.gate` decides what is installed."""
