"""CUDA graphs: launches recorded once, then launched as one (CUDA driver API, section "Graph Management").

pycuda has no call for them, so that the driver library is called directly, on pycuda's streams.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from dtvit_edge.cuda.driver import load_driver
from dtvit_edge.errors import DeviceFault

_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads may go on allocating


class CaptureRefused(Exception):
    """The sequence cannot be recorded; it can still be launched one by one."""


class Graph:
    """A recorded sequence, ready to be launched."""

    def __init__(self, driver: Any, executable: ctypes.c_void_p) -> None:
        self._driver = driver
        self._executable = executable

    def launch(self, stream: Any) -> None:
        """Launch it in a stream's order.

        Raises:
            DeviceFault: the driver says no.
        """
        status = self._driver.cuGraphLaunch(self._executable, ctypes.c_void_p(stream.handle))
        if status != 0:
            raise DeviceFault(f"the CUDA driver answers {status} to cuGraphLaunch")

    def free(self) -> None:
        """Give it back."""
        self._driver.cuGraphExecDestroy(self._executable)


def capture(stream: Any, launches: Callable[[], None]) -> Graph:
    """Record what a function launches in a stream; nothing of it runs.

    Raises:
        CaptureRefused: something in it cannot be recorded.
    """
    driver, handle = load_driver(), ctypes.c_void_p(stream.handle)
    graph, executable = ctypes.c_void_p(), ctypes.c_void_p()
    _check(driver.cuStreamBeginCapture_v2(handle, _THREAD_LOCAL), "cuStreamBeginCapture")
    refusal: Exception | None = None
    try:
        launches()
    except Exception as error:
        # The capture must be ended all the same: until then whatever is launched in the stream is recorded, not run.
        refusal = error
    status = driver.cuStreamEndCapture(handle, ctypes.byref(graph))
    if refusal is not None or status != 0 or not graph:
        raise CaptureRefused(str(refusal or f"the CUDA driver answers {status} to cuStreamEndCapture"))
    try:
        _check(
            driver.cuGraphInstantiateWithFlags(ctypes.byref(executable), graph, ctypes.c_ulonglong(0)),
            "cuGraphInstantiateWithFlags",
        )
    finally:
        driver.cuGraphDestroy(graph)  # the executable holds all that it needs
    return Graph(driver, executable)


def _check(status: int, call: str) -> None:
    if status != 0:
        raise CaptureRefused(f"the CUDA driver answers {status} to {call}")
