"""Engines of TensorRT and TensorRT for RTX through pycuda; the two backends beside this module name the library.

Everything of CUDA happens in the device's owner thread. I/O is bound by name (TensorRT 8.5 and newer).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dtvit_edge.backends.base import ENGINES, Logits, check_names
from dtvit_edge.cuda import device as cuda_device
from dtvit_edge.cuda.device import Device
from dtvit_edge.cuda.graphs import CaptureRefused, Graph, capture
from dtvit_edge.cuda.memory import Buffer, DeviceMemory
from dtvit_edge.errors import BundleError, ConfigError, DeviceFault, EngineError, OutOfDeviceMemory
from dtvit_edge.spec import INPUT_NAME, OUTPUT_NAMES, OUTPUT_SIZES
from dtvit_edge.trt import library
from dtvit_edge.trt.gpu import Gpu, find
from dtvit_edge.trt.versions import Release

RUNS = ENGINES
HINTS: tuple[str, ...] = ()
_WARNING = 2
_KEPT_GRAPHS = 32

log = logging.getLogger(__name__)


class Plan(Protocol):
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


# Given the library's version and the GPU.
PlanLoader = Callable[[str, Gpu], Plan]


def unavailable(flavour: str) -> str | None:
    """Why engines of a library cannot run here, or None; the driver is asked for a GPU, no context is made."""
    why_not = library.unavailable(flavour) or cuda_device.unavailable()
    if why_not is not None:
        return why_not
    try:
        return None if find() else "no GPU that CUDA can use is here"
    except DeviceFault as error:
        return str(error)


def open_plan(flavour: str, plan: Plan, precision: str) -> EngineBackend:
    """A backend for an engine that is not installed yet: the self-test's way to it.

    Args:
        precision: the key of its tolerance in the manifest.
    """
    return EngineBackend(flavour, lambda version, gpu: plan, precision)


class EngineBackend:
    """An engine on the GPU.

    Args:
        flavour: `tensorrt` or `tensorrt-rtx`.
        load: gives the plan for the library and GPU that are here, when the backend is opened; it is not kept.
        precision: of the engine, for results and errors.

    Attributes:
        device: opened with the backend; its owner thread runs everything.
        engine: what the owner thread runs, while the backend is open; proven: it has passed a self-test before.
    """

    batch = 1
    proven = False
    engine: RunningEngine

    def __init__(self, flavour: str, load: PlanLoader, precision: str = "fp32", *, threads: int | None = None) -> None:
        if threads is not None:
            raise ConfigError(f"--threads is for CPU backends; {flavour} runs on the GPU")
        self.name = flavour
        self.load = load
        self.precision = precision
        self.device = Device()
        self._described: dict[str, str] = {}

    def __enter__(self) -> EngineBackend:
        trt, release = library.load(self.name)
        gpu = find()
        if gpu is None:
            raise DeviceFault("no GPU that CUDA can use is here any more")
        plan = self.load(release.text, gpu)
        self.device.__enter__()
        try:
            self.engine = self.device.call(RunningEngine, trt, release, self.device, plan)
        except BaseException:
            self.device.__exit__(None, None, None)
            raise
        self.batch, self.proven = self.engine.max_batch, plan.proven
        self._described = {
            "backend": self.name,
            "version": release.text,
            "device": gpu.name,
            "compute_capability": gpu.sm,
            "cuda_driver": gpu.driver,
            "max_batch": str(self.batch),
        }
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.device.broken:
            self.device.call(self.engine.free)
        del self.engine
        self.device.__exit__(kind, error, trace)

    def describe(self) -> dict[str, str]:
        """Library, version, device, driver and the profile's largest batch."""
        return dict(self._described)

    def infer(self, pixels: NDArray[np.uint8]) -> Logits:
        """Run one batch of any size, cut to the engine's profile; see `Backend.infer`."""
        parts = [pixels[i : i + self.batch] for i in range(0, len(pixels), self.batch)]
        found = [self.device.call(self.engine.infer, part) for part in parts]
        return {name: np.concatenate([logits[name] for logits in found]) for name in OUTPUT_NAMES}


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

    def __init__(self, trt: Any, release: Release, device: Device, plan: Plan) -> None:
        self._errors: list[str] = []
        self._logger = library.logger(trt, self._said)
        self._runtime = trt.Runtime(self._logger)  # kept: the engine is its
        self._engine = self._runtime.deserialize_cuda_engine(plan.plan)
        if self._engine is None:
            raise EngineError(f"{release.title} does not take the engine: {self._words()}")
        self.max_batch = plan.max_batch
        self._shape = _checked(trt, self._engine)
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise OutOfDeviceMemory(
                f"{release.title} makes no execution context for batches up to {self.max_batch}: {self._words()}; "
                "an engine with a smaller --max-batch needs less memory"
            )
        self._device = device
        self.stream = device.stream()
        self._pixels = Buffer(device, self.max_batch * int(np.prod(self._shape)))
        self.input = self._pixels.address
        sizes = {name: 4 * self.max_batch * size for name, size in OUTPUT_SIZES.items()}
        self._outputs = {name: DeviceMemory(device, nbytes) for name, nbytes in sizes.items()}
        self._answers = EngineAnswers(device, self.max_batch)
        for name, address in ((INPUT_NAME, self.input), *((n, m.address) for n, m in self._outputs.items())):
            if not self._context.set_tensor_address(name, address):
                raise BundleError(f"{release.title} refuses an address for {name}: {self._words()}")
        self._graphs: dict[bytes, Graph] = {}
        self._seen: set[bytes] = set()
        self._refused = False

    def infer(self, pixels: NDArray[np.uint8]) -> Logits:
        """Run (N, C, side, side) uint8 with N up to `max_batch`, and wait."""
        if pixels.shape[1:] != self._shape:
            raise BundleError(f"the engine takes slices of {self._shape}, not {pixels.shape[1:]}")
        count = len(pixels)
        self.stream.synchronize()  # on a Jetson the host's bytes are the input itself, and may be in use
        self._pixels.host[: pixels.nbytes] = pixels.reshape(-1)
        self._pixels.upload(self.stream, pixels.nbytes)
        self.run(count, b"", lambda: None)
        self.fetch(count, self._answers)
        self.stream.synchronize()
        return self._answers.logits(count)

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
        self._enqueue(count)
        if key in self._seen and not self._refused:
            self._record(count, key, before)
        self._seen.add(key)

    def fetch(self, count: int, answers: EngineAnswers) -> None:
        """Queue the copy of the logits to the host, on `stream`."""
        answers.download(self.stream, count, self._outputs)

    def forget_graphs(self) -> None:
        """Drop what was recorded: it holds addresses that change. Nothing may be under way."""
        for graph in self._graphs.values():
            graph.free()
        self._graphs.clear()
        self._seen.clear()

    def free(self) -> None:
        """Give everything back, in the order in which the library wants it."""
        self.stream.synchronize()
        self.forget_graphs()
        del self._context, self._engine, self._runtime
        for memory in self._outputs.values():
            memory.free()
        self._pixels.free()
        self._answers.free()

    def _enqueue(self, count: int) -> None:
        if not self._context.set_input_shape(INPUT_NAME, (count, *self._shape)):
            raise DeviceFault(f"the engine refuses a batch of {count}: {self._words()}")
        if not self._context.execute_async_v3(self.stream.handle):
            raise DeviceFault(f"the engine does not run: {self._words()}")

    def _record(self, count: int, key: bytes, before: Callable[[], None]) -> None:
        """Capture the same calls; the library wants to have run once with a shape before it can be captured."""

        def launches() -> None:
            before()
            self._enqueue(count)

        if len(self._graphs) >= _KEPT_GRAPHS:
            self.stream.synchronize()
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


class EngineAnswers:
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

    def logits(self, count: int) -> Logits:
        """A copy of what has arrived."""
        return {name: rows[:count].copy() for name, rows in self._host.items()}

    def free(self) -> None:
        """Give it back."""
        for rows in self._host.values():
            rows.base.free()


def _checked(trt: Any, engine: Any) -> tuple[int, ...]:
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
