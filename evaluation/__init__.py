"""What training, calibration and benchmarks share: labels, sampling, metrics, the gate, thresholds, tables, records."""

import dtvit_edge  # noqa: F401  (telemetry is off before a module of this room loads a library)
from evaluation.figure_settings import use_a_passing_folder

use_a_passing_folder()
