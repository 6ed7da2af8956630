"""CUDA graphs: launches recorded once, then launched as one (CUDA driver API, section "Graph Management").

pycuda has no call for them, so that the driver library is called directly, on pycuda's streams.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable
from typing import Any

from dtvit_edge.cuda.driver import load_driver
from dtvit_edge.errors import DeviceFault

_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads may go on allocating
# Every graph takes memory. A run repeats a few sequences; where there are more than this, they are not worth keeping.
_KEPT_GRAPHS = 32

log = logging.getLogger(__name__)


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


class GraphCache:
    """Sequences of launches in one stream: recorded when they come again, launched as one from then on."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._graphs: dict[tuple[int, bytes], Graph] = {}
        self._launched: set[tuple[int, bytes]] = set()
        self._refused: set[int] = set()

    def replay(self, count: int, key: bytes) -> bool:
        """Launch what was recorded of a sequence; False where there is nothing.

        Args:
            count: slices in the batch; key: equal for launches that are the very same.
        """
        graph = self._graphs.get((count, key))
        if graph is not None:
            graph.launch(self._stream)
        return graph is not None

    def record(self, count: int, key: bytes, launches: Callable[[], None]) -> None:
        """Take note of launches that were just queued one by one; from the second time on record them.

        The first enqueue of a shape updates the library's state, which cannot be captured: it must be through.
        A batch size whose capture is refused once is not tried again.
        """
        if count in self._refused:
            return
        if (count, key) not in self._launched:
            self._launched.add((count, key))
            return
        self._stream.synchronize()
        if len(self._graphs) >= _KEPT_GRAPHS:
            self.forget()
        try:
            self._graphs[count, key] = capture(self._stream, launches)
        except CaptureRefused as error:
            self._refused.add(count)
            log.info("no CUDA graph for batches of %d, each launch by itself: %s", count, str(error))

    def forget(self) -> None:
        """Drop what was recorded: it holds addresses that change. Nothing may be under way."""
        for graph in self._graphs.values():
            graph.free()
        self._graphs.clear()
        self._launched.clear()


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
    if not graph:
        raise CaptureRefused(str(refusal or f"the CUDA driver answers {status} to cuStreamEndCapture"))
    try:
        if refusal is not None:
            raise CaptureRefused(str(refusal))
        _check(status, "cuStreamEndCapture")
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
