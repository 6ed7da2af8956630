"""A serialised engine, running: its execution context, its tensors and its CUDA graphs.

Everything here is for the device's owner thread. I/O is bound by name (TensorRT 8.5 and newer).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dtvit_edge.backend import Logits, check_names
from dtvit_edge.cuda.device import Device
from dtvit_edge.cuda.graphs import CaptureRefused, Graph, capture
from dtvit_edge.cuda.memory import Buffer, DeviceMemory
from dtvit_edge.errors import BundleError, DeviceFault, EngineError, OutOfDeviceMemory
from dtvit_edge.spec import INPUT_NAME, OUTPUT_NAMES, OUTPUT_SIZES
from dtvit_edge.trt import library
from dtvit_edge.trt.releases import Release

_WARNING = 2
# Every graph takes memory. A run repeats a few sequences; where there are more than this, they are not worth keeping.
_KEPT_GRAPHS = 32

log = logging.getLogger(__name__)


class SerializedEngine(Protocol):
    """A serialised engine whose digest was checked on these very bytes."""

    @property
    def plan(self) -> bytes:
        """The bytes."""
        ...

    @property
    def max_batch(self) -> int:
        """The profile's largest batch."""
        ...

    @property
    def proven(self) -> bool:
        """It has passed a self-test on such a device."""
        ...


class RunningEngine:
    """An engine, its execution context and its tensors. For the owner thread alone.

    Attributes:
        input: address of (max_batch, C, side, side) uint8.
        stream: on which it runs; what is queued there before it is ready when it begins.

    Raises:
        EngineError: the library does not take the plan.
        BundleError: an engine of another graph.
        OutOfDeviceMemory: the execution context does not fit.
    """

    def __init__(self, trt: Any, release: Release, device: Device, serialized: SerializedEngine) -> None:
        self._errors: list[str] = []
        self._trt, self._title = trt, release.title
        self._logger = library.logger(trt, self._said)
        self._runtime = trt.Runtime(self._logger)  # kept: the engine is its
        self._engine = self._runtime.deserialize_cuda_engine(serialized.plan)
        if self._engine is None:
            raise EngineError(f"{self._title} does not take the engine: {self._words()}")
        self.max_batch = serialized.max_batch
        self._shape = _input_shape(trt, self._engine)
        self._context = self._make_context()
        self._plan_bytes = len(serialized.plan)
        self._device = device
        self.stream = device.stream()
        self._pixels = Buffer(device, self.max_batch * int(np.prod(self._shape)))
        self.input = self._pixels.address
        sizes = {name: 4 * self.max_batch * size for name, size in OUTPUT_SIZES.items()}
        self._outputs = {name: DeviceMemory(device, nbytes) for name, nbytes in sizes.items()}
        self._host_logits = HostLogits(device, self.max_batch)
        self._bind(self._context)
        self._graphs: dict[bytes, Graph] = {}
        self._seen: set[bytes] = set()  # keys that have run once, launch by launch
        self._refused = False  # a capture failed once; it is not tried again with every batch

    def infer(self, pixels: NDArray[np.uint8]) -> Logits:
        """Run (N, C, side, side) uint8 with N up to `max_batch`, and wait."""
        self.put(pixels)
        self.upload(len(pixels))
        self.run(len(pixels), b"", lambda: None)
        self.fetch(len(pixels))
        # All three are only queued; before they are through, the host's logits are those of the call before.
        self.stream.synchronize()
        return self._host_logits.take(len(pixels))

    def put(self, pixels: NDArray[np.uint8]) -> None:
        """Lay (N, C, side, side) uint8 ready on the host, once nothing uses what lies there.

        Raises:
            BundleError: slices of another shape.
        """
        if pixels.shape[1:] != self._shape:
            raise BundleError(f"the engine takes slices of {self._shape}, not {pixels.shape[1:]}")
        self.stream.synchronize()  # on a Jetson the host's bytes are the input itself, and may be in use
        self._pixels.host[: pixels.nbytes] = pixels.reshape(-1)

    def upload(self, count: int) -> None:
        """Queue the copy of that many slices to the device, on `stream`."""
        self._pixels.upload(self.stream, count * int(np.prod(self._shape)))

    def run(self, count: int, key: bytes, before: Callable[[], None]) -> None:
        """Queue `before` and the engine on `stream`: as a CUDA graph from the third equal call on.

        Args:
            before: queues what makes the input's bytes.
            key: equal for calls whose `before` queues the very same.
        """
        key = count.to_bytes(4, "little") + key
        graph = self._graphs.get(key)
        if graph is not None:
            graph.launch(self.stream)
            return
        before()
        self._enqueue(self._context, count)
        # Not on the first call: TensorRT updates its state when a shape is new, which cannot be captured.
        if key in self._seen and not self._refused:
            self._record(count, key, before)
        self._seen.add(key)

    def fetch(self, count: int, into: HostLogits | None = None) -> None:
        """Queue the copy of the logits to the host, on `stream`."""
        (into or self._host_logits).download(self.stream, count, self._outputs)

    @property
    def device_bytes(self) -> int:
        """What was asked of the device: the plan, which is mostly weights, one execution context and the tensors.

        CUDA's context and the library's kernels come on top.
        """
        # TensorRT 10.1 brought the first; 11 does not have the second any more.
        names = ("device_memory_size_v2", "device_memory_size")
        context = next(getattr(self._engine, name) for name in names if hasattr(self._engine, name))
        tensors = self._pixels.nbytes + sum(memory.nbytes for memory in self._outputs.values())
        return self._plan_bytes + int(context) + tensors

    def layers_ms(self, count: int, calls: int) -> dict[str, float]:
        """Mean milliseconds by layer of `calls` calls on what was uploaded last, in the order of execution.

        They run in an execution context of their own: a profiler costs time, and forbids a CUDA graph.
        """
        mean_ms: dict[str, float] = {}

        def take(layer: str, elapsed_ms: float) -> None:
            mean_ms[layer] = mean_ms.get(layer, 0.0) + elapsed_ms / calls

        context = self._make_context()
        self._bind(context)
        profiler = library.profiler(self._trt, take)  # kept as long as the context, which does not own it
        context.profiler = profiler
        self._enqueue(context, count)  # the first call of a shape also sets it up
        self.stream.synchronize()
        mean_ms.clear()
        for _ in range(calls):
            self._enqueue(context, count)
            self.stream.synchronize()
        del context
        return mean_ms

    def forget_graphs(self) -> None:
        """Drop what was recorded: it holds addresses that change. Nothing may be under way."""
        for graph in self._graphs.values():
            graph.free()
        self._graphs.clear()
        self._seen.clear()

    def free(self) -> None:
        """Give everything back, in the order in which the library wants it."""
        self.stream.synchronize()  # memory that a launch still uses must not be freed
        self.forget_graphs()
        # A context must not outlive its engine, nor an engine its runtime: TensorRT does not check, it crashes.
        del self._context, self._engine, self._runtime
        for memory in self._outputs.values():
            memory.free()
        self._pixels.free()
        self._host_logits.free()

    def _make_context(self) -> Any:
        context = self._engine.create_execution_context()
        if context is None:
            raise OutOfDeviceMemory(
                f"{self._title} makes no execution context for batches up to {self.max_batch}: {self._words()}; "
                "an engine with a smaller --max-batch needs less memory"
            )
        return context

    def _bind(self, context: Any) -> None:
        for name, address in ((INPUT_NAME, self.input), *((n, m.address) for n, m in self._outputs.items())):
            if not context.set_tensor_address(name, address):
                raise BundleError(f"{self._title} refuses an address for {name}: {self._words()}")

    def _enqueue(self, context: Any, count: int) -> None:
        # The context keeps the last shape: without this line a smaller batch would run as the larger one before it.
        if not context.set_input_shape(INPUT_NAME, (count, *self._shape)):
            raise DeviceFault(f"the engine refuses a batch of {count}: {self._words()}")
        if not context.execute_async_v3(self.stream.handle):
            raise DeviceFault(f"the engine does not run: {self._words()}")

    def _record(self, count: int, key: bytes, before: Callable[[], None]) -> None:
        """Capture the same calls; `run` has launched them once before."""

        def launches() -> None:
            before()
            self._enqueue(self._context, count)

        if len(self._graphs) >= _KEPT_GRAPHS:
            self.stream.synchronize()  # one of them may be running
            self.forget_graphs()
        try:
            self._graphs[key] = capture(self.stream, launches)
        except CaptureRefused as error:
            self._refused = True
            log.info("no CUDA graph, each launch by itself: %s", error)

    def _said(self, severity: int, message: str) -> None:
        words = " ".join(message.split())
        if severity < _WARNING:
            self._errors.append(words)
        log.debug("%s", words)

    def _words(self) -> str:
        return "; ".join(self._errors[-3:]) or "no reason given"


class HostLogits:
    """The logits of one batch on the host, page-locked; several batches under way have one each."""

    def __init__(self, device: Device, max_batch: int) -> None:
        self._device = device
        self._host = {
            name: device.cuda.pagelocked_empty((max_batch, size), np.float32) for name, size in OUTPUT_SIZES.items()
        }

    def download(self, stream: Any, count: int, outputs: dict[str, DeviceMemory]) -> None:
        """Queue the copy of `count` rows."""
        for name, memory in outputs.items():
            self._device.cuda.memcpy_dtoh_async(self._host[name][:count], memory.address, stream)

    def take(self, count: int) -> Logits:
        """A copy of what has arrived: the next batch overwrites the page-locked rows."""
        return {name: rows[:count].copy() for name, rows in self._host.items()}

    def free(self) -> None:
        """Give it back."""
        for rows in self._host.values():
            rows.base.free()


def _input_shape(trt: Any, engine: Any) -> tuple[int, ...]:
    """The input's shape without its batch, after checking names and types.

    Raises:
        BundleError: they are not ours.
    """
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
    check_names(inputs, [name for name in names if name not in inputs])
    wrong = [n for n in OUTPUT_NAMES if engine.get_tensor_dtype(n) != trt.DataType.FLOAT]
    if wrong or engine.get_tensor_dtype(INPUT_NAME) != trt.DataType.UINT8:
        raise BundleError(f"the engine's {', '.join(wrong) or INPUT_NAME} has another type than a bundle's")
    return tuple(int(n) for n in engine.get_tensor_shape(INPUT_NAME))[1:]
