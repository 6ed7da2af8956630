"""A serialised engine, running: its tensors, its execution contexts and its CUDA graphs.

Everything here is for the device's owner thread. I/O is bound by name (TensorRT 8.5 and newer).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dtvit_edge.backend import Logits, check_names, check_pixels
from dtvit_edge.cuda.device import Device
from dtvit_edge.cuda.graphs import GraphCache
from dtvit_edge.cuda.memory import Buffer, DeviceMemory
from dtvit_edge.cuda.resources import Resources
from dtvit_edge.errors import BundleError, ConfigError, EngineError
from dtvit_edge.spec import INPUT_NAME, OUTPUT_NAMES, OUTPUT_SIZES
from dtvit_edge.trt import library
from dtvit_edge.trt.contexts import ExecutionContexts
from dtvit_edge.trt.host_logits import HostLogits
from dtvit_edge.trt.releases import Release

if TYPE_CHECKING:
    from dtvit_edge.trt.store import Engine

_WARNING = 2

log = logging.getLogger(__name__)


class RunningEngine:
    """An engine, its execution contexts and its tensors. For the owner thread alone.

    Attributes:
        slice_shape: (C, side, side).
        input: address of (max_batch, C, side, side) uint8, of the device; input_bytes: its size.
        stream: on which it runs; what is queued there before it is ready when it begins.

    Raises:
        EngineError: the library does not take the plan, or its profiles are not what its record says.
        BundleError: an engine of another graph.
        OutOfDeviceMemory: its tensors or its activations do not fit.
    """

    def __init__(self, trt: Any, release: Release, device: Device, serialized: Engine) -> None:
        self._errors: list[str] = []
        self._trt, self._release = trt, release
        self._logger = library.logger(trt, self._said)
        self.max_batch = serialized.max_batch
        self._plan_bytes = len(serialized.plan)
        with Resources() as undo:
            # The engine is the runtime's, contexts are the engine's: TensorRT does not check the order, it crashes.
            undo.add(self._drop_engine)
            self._runtime = library.runtime(trt, release, self._logger)
            self._engine = self._runtime.deserialize_cuda_engine(serialized.plan)
            if self._engine is None:
                raise EngineError(f"{release.title} does not take the engine: {self._words()}")
            self.slice_shape = _input_shape(trt, self._engine)
            profiles = _profiles(self._engine, self.max_batch)
            undo.add(self._drop_stream)
            self.stream = device.stream()
            self._device = device
            self.input_bytes = self.max_batch * int(np.prod(self.slice_shape))
            # Not mapped: the first layer reads its input many times, and a Jetson's GPU does not cache mapped memory.
            self._pixels = Buffer(device, self.input_bytes, mapped=False)
            undo.add(self._pixels.free)
            self.input = self._pixels.address
            self._outputs: dict[str, DeviceMemory] = {}
            for name, size in OUTPUT_SIZES.items():
                self._outputs[name] = DeviceMemory(device, 4 * self.max_batch * size)
                undo.add(self._outputs[name].free)
            self._host_logits = HostLogits(device, self.max_batch)
            undo.add(self._host_logits.free)
            addresses = {INPUT_NAME: self.input} | {name: memory.address for name, memory in self._outputs.items()}
            self._contexts = ExecutionContexts(
                trt, release, self._engine, device, self.stream, profiles, addresses, self.slice_shape, self._words
            )
            undo.add(self._contexts.free)
            self._contexts.open()
            self._graphs = GraphCache(self.stream)
            undo.add(self._graphs.forget)
            undo.add(self.stream.synchronize)  # memory that a launch still uses must not be freed
            self._resources = undo

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
            ConfigError: slices of another type or shape, or too many.
        """
        check_pixels(pixels, self.slice_shape)
        if len(pixels) > self.max_batch:
            raise ConfigError(f"the engine takes batches up to {self.max_batch}, not {len(pixels)}")
        self.stream.synchronize()  # a copy of what lies there may still run
        self._pixels.host[: pixels.nbytes] = pixels.reshape(-1)

    def upload(self, count: int) -> None:
        """Queue the copy of that many slices to the device, on `stream`."""
        self._pixels.upload(self.stream, count * int(np.prod(self.slice_shape)))

    def read_input(self, count: int) -> NDArray[np.uint8]:
        """Wait, and copy so many slices of the input back: what preprocessing on the device has made."""
        nbytes = count * int(np.prod(self.slice_shape))
        self._pixels.download(self.stream, nbytes)
        self.stream.synchronize()
        return self._pixels.host[:nbytes].reshape(count, *self.slice_shape).copy()

    def run(self, count: int, key: bytes, before: Callable[[], None]) -> None:
        """Queue `before` and the engine on `stream`; as a CUDA graph from the third equal call of a captured size on.

        Args:
            before: queues what makes the input's bytes.
            key: equal for calls whose `before` queues the very same.
        """
        if self._graphs.replay(count, key):
            return
        context = self._contexts.of(count)

        def launches() -> None:
            before()
            context.enqueue(self.stream)

        launches()
        if context.captured:
            self._graphs.record(count, key, launches)

    def run_on(self, count: int, pixels: DeviceMemory) -> None:
        """Queue a copy of that many slices to `input`, and the engine; see `run`.

        The input's address stays one: TensorRT wants an execution context for each captured graph, and TensorRT for RTX
        captures anew whenever an address changes. The copy takes the device microseconds.
        """
        nbytes = count * int(np.prod(self.slice_shape))
        copy = self._device.cuda.memcpy_dtod_async
        self.run(count, b"%d" % pixels.address, lambda: copy(self.input, pixels.address, nbytes, self.stream))

    def fetch(self, count: int, into: HostLogits | None = None) -> None:
        """Queue the copy of the logits to the host, on `stream`."""
        (into or self._host_logits).download(self.stream, count, self._outputs)

    @property
    def device_bytes(self) -> int:
        """What was asked of the device: the plan, which is mostly weights, one activation memory and the tensors.

        CUDA's context and the library's kernels come on top.
        """
        tensors = self._pixels.nbytes + sum(memory.nbytes for memory in self._outputs.values())
        return self._plan_bytes + self._contexts.nbytes + tensors

    def layers_ms(self, count: int, calls: int) -> dict[str, float]:
        """Mean milliseconds by layer of `calls` calls on what was uploaded last, in the order of execution.

        They run in a context of their own, on the profile that `count` runs on: a profiler costs time, and forbids a
        CUDA graph.
        """
        mean_ms: dict[str, float] = {}

        def take(layer: str, elapsed_ms: float) -> None:
            mean_ms[layer] = mean_ms.get(layer, 0.0) + elapsed_ms / calls

        self.stream.synchronize()
        self.forget_graphs()
        with self._contexts.alone(count) as context:
            context.profile_with(library.profiler(self._trt, take))
            context.enqueue(self.stream)  # the first call of a shape also sets it up
            self.stream.synchronize()
            mean_ms.clear()
            for _ in range(calls):
                context.enqueue(self.stream)
                self.stream.synchronize()
        return mean_ms

    def forget_graphs(self) -> None:
        """Drop what was recorded: it holds addresses that change. Nothing may be under way."""
        self._graphs.forget()

    def free(self) -> None:
        """Give everything back, in the order in which the library wants it; a step that fails stops no other."""
        self._resources.free()

    def _drop_engine(self) -> None:
        self._engine = None
        self._runtime = None

    def _drop_stream(self) -> None:
        self._graphs = self.stream = None  # type: ignore[assignment]

    def _said(self, severity: int, message: str) -> None:
        words = " ".join(message.split())
        if severity < _WARNING:
            self._errors.append(words)
        log.debug("%s", words)

    def _words(self) -> str:
        """What the library complained of since it was last asked."""
        words, self._errors[:] = self._errors[-3:], []
        return "; ".join(words) or "no reason given"


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


def _profiles(engine: Any, max_batch: int) -> list[tuple[int, int]]:
    """(lowest, highest) batch of each optimization profile, as the engine itself has them.

    Raises:
        EngineError: they are not those of an engine that `build` makes for batches up to `max_batch`.
    """
    shapes = [engine.get_tensor_profile_shape(INPUT_NAME, i) for i in range(engine.num_optimization_profiles)]
    profiles = [(int(lowest[0]), int(highest[0])) for lowest, _, highest in shapes]
    if (
        profiles[0] != (1, 1)
        or any(profile != (1, max_batch) for profile in profiles[1:])
        or (len(profiles) == 1 and max_batch > 1)
    ):
        found = ", ".join(f"{lowest} to {highest}" for lowest, highest in profiles)
        raise EngineError(f"the engine's profiles are for batches {found}; expected 1 alone and 1 to {max_batch}")
    return profiles
