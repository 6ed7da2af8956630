"""The paper's recipe (Fan, Lu, Fan, arXiv 2405.06814) over labelled slices: `dtvit-edge train` and `evaluate`."""

import dtvit_edge  # noqa: F401  (telemetry is off before a module of this room loads a library)
import evaluation  # noqa: F401  (matplotlib keeps nothing in the home folder)
