"""The CUDA driver's graphs on the stand-in GPU."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from tests.support.cuda.device import Gpu


def graphs(gpu: Gpu) -> Any:
    """A stand-in for the driver library, as `dtvit_edge.cuda.graphs` calls it."""
    pending: dict[int, list[Callable[[], None]]] = {}

    def begin(handle: Any, mode: int) -> int:
        gpu.streams[handle.value].recorded = []
        return 0

    def end(handle: Any, graph: Any) -> int:
        stream = gpu.streams[handle.value]
        assert stream.recorded is not None
        steps, stream.recorded = stream.recorded, None
        if gpu.refuses_capture:
            return 901  # CUDA_ERROR_STREAM_CAPTURE_INVALIDATED
        graph._obj.value = 1 + len(pending)
        pending[graph._obj.value] = steps
        return 0

    def instantiate(executable: Any, graph: Any, flags: Any) -> int:
        executable._obj.value = 0x100 + len(gpu.executables)
        gpu.executables[executable._obj.value] = pending[graph.value]
        return 0

    def launch(executable: Any, handle: Any) -> int:
        steps = gpu.executables[executable.value]

        def replay() -> None:
            for step in steps:
                step()

        gpu.streams[handle.value].add("graph", replay)
        return 0

    def destroy(executable: Any) -> int:
        del gpu.executables[executable.value]
        return 0

    return SimpleNamespace(
        cuStreamBeginCapture_v2=begin, cuStreamEndCapture=end, cuGraphInstantiateWithFlags=instantiate,
        cuGraphLaunch=launch, cuGraphDestroy=lambda graph: 0, cuGraphExecDestroy=destroy,
    )  # fmt: skip
