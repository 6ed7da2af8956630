"""The CUDA path: `preprocess.cu` launched through pycuda. For the device's owner thread alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from dtvit_edge.cuda.device import Device
from dtvit_edge.cuda.graphs import GraphCache
from dtvit_edge.cuda.memory import Buffer, DeviceMemory, GrowableMemory
from dtvit_edge.cuda.resources import Resources
from dtvit_edge.preprocess import compiled, kernel
from dtvit_edge.spec import PreprocessSpec

# Up to so many slices for each processor a batch is spread: with fewer, some would idle while others work on a whole
# slice. With more all have work, and a slice a block saves two launches and the way of its mask through memory.
SPREAD_SLICES_A_PROCESSOR = 1
BLOCKS_A_PROCESSOR = 2  # of 512 threads with 64 registers each, which is all of a processor's registers
# Room for a table of each of some 14 encodings; a run has a few. Where it is full, what is there is sent anew.
CONSTANT_BYTES = 1 << 20


@dataclass(frozen=True)
class Launch:
    """One launch of one kernel."""

    entry: str
    blocks: int
    shared: int


@dataclass(frozen=True)
class Launches:
    """The launches that prepare one batch, whole: equal ones can be recorded once and replayed.

    Attributes:
        arguments: one `kernel.ARGUMENTS`, the same for all.
    """

    count: int
    steps: tuple[Launch, ...]
    arguments: np.void

    @property
    def key(self) -> bytes:
        """Equal for equal launches."""
        return repr(self.steps).encode() + self.arguments.tobytes()


class CudaPreprocessor:
    """Stored pixels that the GPU can read -> the model's bytes, on the device.

    Args:
        spread: each slice over several blocks, or a slice a block; None chooses by the batch.

    Attributes:
        stream: in whose order everything runs; whoever uses what it makes must wait for it.

    Raises:
        MissingDependency, BuildError: no kernel for this GPU.
        ConfigError: a spec that the kernel does not take.
    """

    def __init__(self, device: Device, spec: PreprocessSpec, *, spread: bool | None = None) -> None:
        self._device = device
        self._spec = spec
        self._spread_always = spread
        self._kernel_spec = kernel.spec_of(spec)[()]
        self._constants = kernel.Constants(spec)
        self._functions: dict[str, Any] = {}
        self._threads: dict[str, int] = {}
        with Resources() as undo:
            undo.add(self._drop_functions)
            self._load(device.cuda)
            undo.add(self._drop_stream)
            self.stream = device.stream()
            self._graphs = GraphCache(self.stream)
            undo.add(self._graphs.forget)
            self._scratch = GrowableMemory(device, DeviceMemory)
            undo.add(self._scratch.free)
            # Not mapped: a Jetson's GPU would fetch every table entry and weight from memory that it does not cache.
            self._constant_memory = GrowableMemory(device, partial(Buffer, mapped=False))
            undo.add(self._constant_memory.free)
            undo.add(self.stream.synchronize)
            self._resources = undo

    def prepare(self, slices: Sequence[kernel.PlacedSlice], inputs: Buffer, out: int, stats: int) -> Launches:
        """Send what the kernels need beside the pixels; what will be launched.

        Args:
            slices: their pixels are there when `stream` comes to the launches.
            inputs: at least N of `kernel.SLICE_INPUT`; overwritten.
            out: address for (N, C, crop, crop) uint8; stats: address for (N,) of `kernel.HEAD_STATS`.

        Raises:
            ConfigError: a matrix or an encoding that the spec or the kernel does not take.
        """
        count, size = len(slices), kernel.largest(slices)
        constants = self._send_constants(slices)
        packed = self._constants.inputs(slices).view(np.uint8)
        inputs.host[: packed.nbytes] = packed
        inputs.upload(self.stream, packed.nbytes)
        spread = self._spread_always
        if spread is None:
            spread = count <= SPREAD_SLICES_A_PROCESSOR * self._device.processors
        steps, shared = self._spread(count, size) if spread else self._whole(count, size)
        places = count if spread else steps[0].blocks
        each = kernel.scratch_bytes(*size, self._spec.channels, kernel.RUN_CAPACITY)
        memory = self._grown(self._scratch, places * each)
        scratch = (memory.address, each, kernel.RUN_CAPACITY, shared.runs, kernel.TILES, shared.masks)
        addresses = (inputs.address, constants.address, out, stats)
        arguments: Any = np.array((*addresses, scratch, self._kernel_spec, count), kernel.ARGUMENTS)
        return Launches(count, steps, arguments[()])

    def launch(self, launches: Launches) -> None:
        """Queue them on `stream`; several as a CUDA graph from the third time on."""
        if len(launches.steps) == 1:
            self._launch(launches)
        elif not self._graphs.replay(launches.count, launches.key):
            self._launch(launches)
            self._graphs.record(launches.count, launches.key, lambda: self._launch(launches))

    def shrink(self) -> None:
        """Wait, and give the scratch back."""
        self.stream.synchronize()
        self._graphs.forget()
        self._scratch.free()

    def free(self) -> None:
        """Wait, and give everything back."""
        self._resources.free()

    def launch_step(self, launches: Launches, step: Launch) -> None:
        """Queue one of them on `stream`."""
        block = (self._threads[step.entry], 1, 1)
        function = self._functions[step.entry]
        function(launches.arguments, grid=(step.blocks, 1), block=block, shared=step.shared, stream=self.stream)

    def _launch(self, launches: Launches) -> None:
        for step in launches.steps:
            self.launch_step(launches, step)

    def _whole(self, count: int, size: kernel.Shape) -> tuple[tuple[Launch, ...], kernel.SharedMemory]:
        blocks, most = min(count, BLOCKS_A_PROCESSOR * self._device.processors), self._device.shared_bytes
        half = kernel.SharedMemory.within((most + 1024) // 2 - 1024, *size)  # the driver takes 1 KiB of each block
        shared = half if half.masks else kernel.SharedMemory.within(most, *size)
        return (Launch(kernel.WHOLE, blocks, shared.nbytes),), shared

    def _spread(self, count: int, size: kernel.Shape) -> tuple[tuple[Launch, ...], kernel.SharedMemory]:
        shared = kernel.SharedMemory.within(self._device.shared_bytes, *size)
        tiles, resize_bytes = count * kernel.TILES, 4 * kernel.SMALL_WORDS + kernel.ROOM_BYTES
        binarise, mask, resize = kernel.SPREAD
        steps = (Launch(binarise, tiles, 0), Launch(mask, count, shared.nbytes), Launch(resize, tiles, resize_bytes))
        return steps, shared

    def _send_constants(self, slices: Sequence[kernel.PlacedSlice]) -> Buffer:
        """The memory of tables and weights, with what these slices need in it."""
        held = self._constant_memory
        parts = self._constants.add(slices)
        if self._constants.end > held.nbytes:
            self._constants.clear()
            parts = self._constants.add(slices)
            self.stream.synchronize()  # launches of before still read what will be overwritten
        memory = self._grown(held, max(self._constants.end, CONSTANT_BYTES))
        for start, part in parts:
            memory.host[start : start + part.nbytes] = part
        if parts:
            first = parts[0][0]
            memory.upload(self.stream, self._constants.end - first, first)
        return memory

    def _grown(self, memory: Any, nbytes: int) -> Any:
        if nbytes > memory.nbytes:
            self.stream.synchronize()  # the batch before may still work in what is given back
        return memory.at_least(nbytes)

    def _load(self, cuda: Any) -> None:
        self._module = cuda.module_from_buffer(compiled.compiled(self._device.sm))
        attributes = cuda.function_attribute
        for name, threads in kernel.THREADS.items():
            self._functions[name] = self._module.get_function(name)
            most = int(self._functions[name].get_attribute(attributes.MAX_THREADS_PER_BLOCK))
            self._threads[name] = min(threads, most)
            self._functions[name].set_attribute(attributes.MAX_DYNAMIC_SHARED_SIZE_BYTES, self._device.shared_bytes)

    def _drop_functions(self) -> None:
        self._functions.clear()
        self._module = None

    def _drop_stream(self) -> None:
        self._graphs = self.stream = None  # type: ignore[assignment]
