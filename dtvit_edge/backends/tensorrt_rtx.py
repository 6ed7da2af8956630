"""TensorRT for RTX: engines that `build` made for this GPU."""

from __future__ import annotations

from functools import partial

from dtvit_edge.backends import trt
from dtvit_edge.cuda import device
from dtvit_edge.trt import library, versions

NAME = versions.RTX
INSTALL = library.INSTALL[NAME] + "; pycuda: " + device.INSTALL
HINTS = trt.HINTS
PRECISIONS = versions.PRECISIONS
RUNS = trt.RUNS

unavailable = partial(trt.unavailable, NAME)
open_backend = partial(trt.EngineBackend, NAME)
