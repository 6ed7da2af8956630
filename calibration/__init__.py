"""INT8: ranges, outlier smoothing, Q/DQ placement and sensitivity; `evaluation.gate` decides what is installed."""

import dtvit_edge  # noqa: F401  (telemetry is off before a module of this room loads a library)
