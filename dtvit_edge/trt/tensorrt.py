"""TensorRT: engines that `build` made for this GPU."""

from __future__ import annotations

from functools import partial

from dtvit_edge.cuda import device
from dtvit_edge.trt import backend, library, releases

NAME = releases.TENSORRT
INSTALL = library.INSTALL[NAME] + "; pycuda: " + device.INSTALL
HINTS = backend.HINTS
PRECISIONS = releases.PRECISIONS
RUNS = backend.RUNS

unavailable = partial(backend.unavailable, NAME)
open_backend = partial(backend.EngineBackend, NAME)
