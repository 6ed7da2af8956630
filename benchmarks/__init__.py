"""`dtvit-edge bench`: how fast, how much memory and energy, and how right a bundle is on this machine.

The accuracy of every configuration (a backend, a precision, a hint) is measured first, on the very backend that is
timed afterwards; one that fails has no latency. What was measured is records (`evaluation.records`), and the report is
written from nothing but those.

`measure` takes the times, `peers` holds what a bundle is compared with, `results` the records, `report` what is made of
them; `standalone` are single questions with a command each, `gpu_check` asks all that needs a GPU.
"""

import dtvit_edge  # noqa: F401  (telemetry is off before a module of this room loads a library)
import evaluation  # noqa: F401  (matplotlib keeps nothing in the home folder)
