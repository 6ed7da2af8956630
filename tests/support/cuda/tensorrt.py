"""TensorRT's runtime on the stand-in GPU: engines are ONNX models that ONNX Runtime runs."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from dtvit_edge.spec import INPUT_NAME, OUTPUT_NAMES
from tests.support.cuda.device import Gpu

ACTIVATIONS = 1 << 20
LAYER_MS = 0.5


def tensorrt(gpu: Gpu, version: str = "10.3.0") -> ModuleType:
    """A stand-in for `tensorrt` whose plans are ONNX models, run by ONNX Runtime."""
    trt: Any = ModuleType("tensorrt")
    trt.__version__ = version
    trt.ILogger = type("ILogger", (), {"__init__": lambda self: None})
    trt.IProfiler = type("IProfiler", (), {"__init__": lambda self: None})
    trt.TensorIOMode = SimpleNamespace(INPUT="in", OUTPUT="out")
    trt.DataType = SimpleNamespace(UINT8="uint8", FLOAT="float")

    def deserialize(logger: Any, plan: bytes) -> Any:
        import onnxruntime

        try:
            session = onnxruntime.InferenceSession(plan, providers=["CPUExecutionProvider"])
        except Exception:
            logger.log(1, "Serialization assertion stdVersionRead == kSERIALIZATION_VERSION failed.")
            return None
        shape, inputs = session.get_inputs()[0].shape, [i.name for i in session.get_inputs()]
        names = [*inputs, *(o.name for o in session.get_outputs())]
        return SimpleNamespace(
            num_io_tensors=len(names),
            get_tensor_name=names.__getitem__,
            get_tensor_mode=lambda name: "in" if name in inputs else "out",
            get_tensor_dtype=lambda name: "uint8" if name == INPUT_NAME else "float",
            get_tensor_shape=lambda name: (-1, *shape[1:]),
            device_memory_size_v2=ACTIVATIONS,
            create_execution_context=lambda: _Context(gpu, session, tuple(shape[1:])),
        )

    trt.Runtime = lambda logger: SimpleNamespace(deserialize_cuda_engine=lambda plan: deserialize(logger, plan))
    return trt


class _Context:
    def __init__(self, gpu: Gpu, session: Any, shape: tuple[int, ...]) -> None:
        gpu.check()
        self.gpu, self.session, self.shape = gpu, session, shape
        self.addresses: dict[str, int] = {}
        self.count = 0
        self.profiler: Any = None

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.count = shape[0]
        return shape[1:] == self.shape

    def execute_async_v3(self, handle: int) -> bool:
        count, addresses = self.count, dict(self.addresses)

        def work() -> None:
            pixels = self.gpu.view(addresses[INPUT_NAME], count * int(np.prod(self.shape)))
            answer = self.session.run(list(OUTPUT_NAMES), {INPUT_NAME: pixels.reshape(count, *self.shape).copy()})
            if self.profiler is not None:
                for layer in ("whole", "whole"):  # a name can come twice
                    self.profiler.report_layer_time(layer, LAYER_MS)
            for name, logits in zip(OUTPUT_NAMES, answer, strict=True):
                self.gpu.view(addresses[name], logits.nbytes)[:] = logits.reshape(-1).view(np.uint8)

        self.gpu.streams[handle].add("engine", work)
        return True
