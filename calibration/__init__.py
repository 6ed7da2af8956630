"""INT8: slice choice, ranges, smoothing, Q/DQ placement, sensitivity, and the gate that every precision has to pass."""
