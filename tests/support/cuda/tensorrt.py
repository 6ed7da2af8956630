"""TensorRT's runtime on the stand-in GPU: engines are ONNX models that ONNX Runtime runs.

Each release has what it has, and nothing that it lacks (sources: the Python modules of 8.6.0 and of TensorRT for RTX
1.7, the bindings' source of 10.x). A context remembers its shape: a graph that was captured in it answers garbage once
that has changed, and a capture is invalidated by a shape that changes in it or that was never enqueued before. Below
8.6 an optimization profile belongs to one context. A context that outlives its engine is remembered as lost.
"""

from __future__ import annotations

import json
import weakref
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from dtvit_edge.spec import INPUT_NAME, OUTPUT_NAMES
from tests.support.cuda.device import GARBAGE, Gpu, MemoryError

ACTIVATIONS = 1 << 16
LAYER_MS = 0.5
TAKEN = "Profile {} has been chosen by another IExecutionContext. Use another profileIndex or destroy that one."
_MARK = b"\n-- profiles: "


def plan(model: bytes, max_batch: int, *, copies: int = 1) -> bytes:
    """A plan of the stand-in: the model, and the engine's profiles, the largest `copies` times."""
    profiles = [[1, 1, 1], *([[1, max_batch, max_batch]] * copies if max_batch > 1 else [])]
    return model + _MARK + json.dumps(profiles).encode()


def tensorrt(gpu: Gpu, version: str = "10.3.0", *, rtx: bool = False) -> ModuleType:
    """A stand-in for `tensorrt` or `tensorrt_rtx` whose plans are ONNX models, run by ONNX Runtime."""
    trt: Any = ModuleType("tensorrt_rtx" if rtx else "tensorrt")
    trt.__version__ = version
    trt.ILogger = type("ILogger", (), {"__init__": lambda self: None})
    trt.IProfiler = type("IProfiler", (), {"__init__": lambda self: None})
    trt.TensorIOMode = SimpleNamespace(INPUT="in", OUTPUT="out")
    trt.DataType = SimpleNamespace(UINT8="uint8", FLOAT="float")
    numbers = (11,) if rtx else tuple(int(part) for part in version.split("."))
    if numbers >= (10,):
        trt.ExecutionContextAllocationStrategy = SimpleNamespace(STATIC=0, ON_PROFILE_CHANGE=1, USER_MANAGED=2)
    if rtx:
        trt.CudaGraphStrategy = SimpleNamespace(DISABLED=0, WHOLE_GRAPH_CAPTURE=1)
    trt.Runtime = lambda logger: _Runtime(gpu, numbers, rtx, logger)
    return trt


class _Runtime:
    def __init__(self, gpu: Gpu, numbers: tuple[int, ...], rtx: bool, logger: Any) -> None:
        gpu.born("runtime")
        self.gpu, self.numbers, self.rtx, self.logger = gpu, numbers, rtx, logger

    def __del__(self) -> None:
        if hasattr(self, "gpu"):
            self.gpu.dies("runtime")
            if self.gpu.objects["engine"]:
                self.gpu.lost.append("runtime before its engine")

    def deserialize_cuda_engine(self, data: bytes) -> Any:
        import onnxruntime

        model, _, profiles = data.partition(_MARK)
        try:
            session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        except Exception:
            self.logger.log(1, "Serialization assertion stdVersionRead == kSERIALIZATION_VERSION failed.")
            return None
        return _Engine(self, session, json.loads(profiles or "[[1, 1, 1], [1, 8, 8]]"))


class _Engine:
    """Attributes that a release does not have are an AttributeError, as there."""

    def __init__(self, runtime: _Runtime, session: Any, profiles: list[list[int]]) -> None:
        runtime.gpu.born("engine")
        self._gpu, self._logger, self._numbers = runtime.gpu, runtime.logger, runtime.numbers
        self._session, self._profiles = session, profiles
        self._slice = tuple(session.get_inputs()[0].shape[1:])
        self._inputs = [i.name for i in session.get_inputs()]
        self._names = [*self._inputs, *(o.name for o in session.get_outputs())]
        self._contexts: weakref.WeakSet[_Context] = weakref.WeakSet()
        self.num_io_tensors, self.num_optimization_profiles = len(self._names), len(profiles)
        if self._numbers < (11,):
            self.device_memory_size = ACTIVATIONS
            self.create_execution_context_without_device_memory = _weakly(self, _Engine._create)
        if self._numbers >= (10, 1):
            self.device_memory_size_v2 = ACTIVATIONS
        if runtime.rtx:
            self.create_runtime_config = lambda: _RuntimeConfig()

    def __del__(self) -> None:
        if hasattr(self, "_gpu"):
            self._gpu.dies("engine")
            if self._contexts:
                self._gpu.lost.append("engine before its contexts")

    def get_tensor_name(self, index: int) -> str:
        return self._names[index]

    def get_tensor_mode(self, name: str) -> str:
        return "in" if name in self._inputs else "out"

    def get_tensor_dtype(self, name: str) -> str:
        return "uint8" if name == INPUT_NAME else "float"

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, *self._slice)

    def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, ...]]:
        return [(batch, *self._slice) for batch in self._profiles[index]]

    def create_execution_context(self, how: Any = None) -> Any:
        config = how if isinstance(how, _RuntimeConfig) else None
        strategy = config.strategy if config is not None else how
        if self._numbers < (10,):
            assert how is None, "TypeError: incompatible function arguments"
        return self._create(managed=strategy == 2, graphs=config is not None and config.cuda_graph_strategy == 1)

    def _create(self, *, managed: bool = True, graphs: bool = False) -> Any:
        try:
            context = _Context(self, graphs)
        except MemoryError:
            self._logger.log(1, "[defaultAllocator] Cuda Runtime (out of memory)")
            return None
        if not managed:
            context.memory = self._gpu.allocate(ACTIVATIONS)  # never given back: nobody should ask for it
        if not context.take(0):
            self._logger.log(1, TAKEN.format(0))
        self._contexts.add(context)
        return context


class _RuntimeConfig:
    cuda_graph_strategy = strategy = 0

    def set_execution_context_allocation_strategy(self, strategy: int) -> None:
        self.strategy = strategy


class _Context:
    profiler: Any = None

    def __init__(self, engine: _Engine, graphs: bool) -> None:
        engine._gpu.born("execution context")
        self._gpu, self._logger, self._session, self._slice = (
            engine._gpu,
            engine._logger,
            engine._session,
            engine._slice,
        )
        self._profiles, self._siblings, self._numbers = engine._profiles, engine._contexts, engine._numbers
        self.graphs = graphs
        self.memory = 0
        self.profile: int | None = None
        self.count = self.generation = self.settled = 0
        self._addresses: dict[str, int] = {}
        if self._numbers >= (10, 1):
            self.set_device_memory = _weakly(self, _Context._give)

    def __del__(self) -> None:
        if hasattr(self, "_gpu"):
            self._gpu.dies("execution context")

    @property
    def device_memory(self) -> int:
        raise AttributeError("unreadable attribute")

    @device_memory.setter
    def device_memory(self, address: int) -> None:
        self._give(address, ACTIVATIONS)

    def _give(self, address: int, nbytes: int) -> None:
        assert nbytes >= ACTIVATIONS
        self._gpu.view(address, nbytes)
        self.memory = address

    def take(self, profile: int) -> bool:
        others = [c for c in self._siblings if c is not self]
        if self._numbers < (8, 6) and any(c.profile == profile for c in others):
            return False
        self.profile = profile
        self.count = 0
        return True

    def set_optimization_profile_async(self, profile: int, handle: int) -> bool:
        self._gpu.check()
        if profile >= len(self._profiles) or not self.take(profile):
            self._logger.log(1, TAKEN.format(profile))
            return False
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        for stream in self._gpu.streams.values():
            stream.invalidated |= stream.recorded is not None and shape[0] != self.count
        lowest, _, highest = (0, 0, -1) if self.profile is None else self._profiles[self.profile]
        if shape[1:] != self._slice or not lowest <= shape[0] <= highest:
            self._logger.log(1, f"Static dimension mismatch or out of the range of profile {self.profile}: {shape}")
            return False
        self.generation += shape[0] != self.count
        self.count = shape[0]
        return True

    def execute_async_v3(self, handle: int) -> bool:
        self._gpu.check()
        if not self.count or not self.memory or len(self._addresses) != 1 + len(OUTPUT_NAMES):
            self._logger.log(1, "Parameter check failed: a shape, an address or the device memory is not set")
            return False
        count, addresses, generation, profile = self.count, dict(self._addresses), self.generation, self.profile
        stream, me = self._gpu.streams[handle], weakref.ref(self)
        captured = stream.recorded is not None
        if captured and (self.settled != generation or self.profiler is not None or self.graphs):
            stream.invalidated = True
        self.settled = self.settled if captured else generation

        def work() -> None:
            context = me()
            assert context is not None, "its execution context is not there any more"
            context._run(count, addresses, profile, stale=captured and context.generation != generation)

        stream.add("engine", work)
        return True

    def _run(self, count: int, addresses: dict[str, int], profile: int | None, *, stale: bool) -> None:
        self._gpu.view(self.memory, ACTIVATIONS)[:] = count % 256
        self._gpu.launched.append(f"profile {profile}, batch {count}")
        pixels = self._gpu.view(addresses[INPUT_NAME], count * int(np.prod(self._slice)))
        answers = self._session.run(list(OUTPUT_NAMES), {INPUT_NAME: pixels.reshape(count, *self._slice).copy()})
        if self.profiler is not None:
            for layer in ("whole", "whole"):  # a name can come twice
                self.profiler.report_layer_time(layer, LAYER_MS)
        for name, logits in zip(OUTPUT_NAMES, answers, strict=True):
            rows = self._gpu.view(addresses[name], logits.nbytes)
            rows[:] = GARBAGE if stale else logits.reshape(-1).view(np.uint8)


def _weakly(self: Any, method: Any) -> Any:
    """A bound method that keeps nothing alive."""
    me = weakref.ref(self)
    return lambda *arguments, **options: method(me(), *arguments, **options)
