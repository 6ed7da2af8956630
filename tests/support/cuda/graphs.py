"""The CUDA driver's graphs on the stand-in GPU."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tests.support.cuda.device import Gpu

INVALIDATED = 901  # CUDA_ERROR_STREAM_CAPTURE_INVALIDATED


def graphs(gpu: Gpu) -> Any:
    """A stand-in for the driver library, as `dtvit_edge.cuda.graphs` and `dtvit_edge.cuda.driver` call it."""

    def begin(handle: Any, mode: int) -> int:
        gpu.streams[handle.value].recorded = []
        gpu.streams[handle.value].invalidated = False
        return 0

    def end(handle: Any, graph: Any) -> int:
        stream = gpu.streams[handle.value]
        assert stream.recorded is not None
        steps, stream.recorded = stream.recorded, None
        if gpu.refuses_capture or stream.invalidated:
            return INVALIDATED
        graph._obj.value = 1 + max(gpu.graphs, default=0)
        gpu.graphs[graph._obj.value] = steps
        return 0

    def instantiate(executable: Any, graph: Any, flags: Any) -> int:
        executable._obj.value = 0x100 + max(gpu.executables, default=0)
        gpu.executables[executable._obj.value] = gpu.graphs[graph.value]
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

    def destroy_graph(graph: Any) -> int:
        del gpu.graphs[graph.value]
        return 0

    def answer(pointer: Any, value: Any) -> int:
        pointer._obj.value = value
        return 0

    def name(memory: Any, size: int, device: Any) -> int:
        memory.value = gpu.names[device.value].encode()
        return 0

    return SimpleNamespace(
        cuStreamBeginCapture_v2=begin, cuStreamEndCapture=end, cuGraphInstantiateWithFlags=instantiate,
        cuGraphLaunch=launch, cuGraphDestroy=destroy_graph, cuGraphExecDestroy=destroy,
        cuInit=lambda flags: 0, cuDeviceGetName=name,
        cuDeviceGetCount=lambda count: answer(count, len(gpu.names)),
        cuDriverGetVersion=lambda version: answer(version, 12060),
        cuDeviceGet=lambda device, ordinal: answer(device, ordinal),
        cuDeviceGetAttribute=lambda value, attribute, device: answer(
            value, {75: 8, 76: 7, 18: int(gpu.integrated)}[attribute]
        ),
    )  # fmt: skip
