"""INT8: ranges, outlier smoothing, Q/DQ placement and sensitivity; the gate that judges it is `evaluation.gate`."""
