"""The CUDA path: `preprocess.cu` launched through pycuda. For the device's owner thread alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dtvit_edge.cuda.device import Device
from dtvit_edge.cuda.memory import DeviceMemory, GrowableMemory
from dtvit_edge.preprocess import compiled, kernel
from dtvit_edge.spec import PreprocessSpec

MOST_THREADS = 1024
BLOCKS_A_PROCESSOR = 2  # a block of 1,024 threads fills half of one; more blocks would only cost scratch


@dataclass(frozen=True)
class Launch:
    """One launch, whole: equal launches can be recorded once and replayed.

    Attributes:
        arguments: by value, in the kernel's order.
    """

    blocks: int
    shared: int
    arguments: tuple[Any, ...]

    @property
    def key(self) -> bytes:
        """Equal for equal launches."""
        return b"".join([np.array([self.blocks, self.shared]).tobytes(), *(a.tobytes() for a in self.arguments)])


@dataclass(frozen=True)
class _Needs:
    """Blocks, whether masks lie in shared memory, its bytes a block, bytes of scratch for all blocks."""

    blocks: int
    masks: bool
    shared: int
    scratch: int


class CudaPreprocessor:
    """Packed slices, already on the device -> the model's bytes, on the device.

    Raises:
        MissingDependency, BuildError: no kernel for this GPU.
        ConfigError: a spec that the kernel does not take.
    """

    def __init__(self, device: Device, spec: PreprocessSpec) -> None:
        cuda = device.cuda
        self._device = device
        self._spec = spec
        self._kernel_spec = kernel.spec_of(spec)[()]
        self._module = cuda.module_from_buffer(compiled.compiled(device.sm))
        self._function = self._module.get_function(kernel.ENTRY)
        attributes = cuda.function_attribute
        self._threads = min(MOST_THREADS, int(self._function.get_attribute(attributes.MAX_THREADS_PER_BLOCK)))
        self._function.set_attribute(attributes.MAX_DYNAMIC_SHARED_SIZE_BYTES, device.shared_bytes)
        self._scratch = GrowableMemory(device, DeviceMemory)

    def grows(self, batch: kernel.Batch) -> bool:
        """`prepare_launch` would give the scratch back for a larger one: nothing may be under way then."""
        return self._needs(batch).scratch > self._scratch.nbytes

    def prepare_launch(self, batch: kernel.Batch, memory: int, out: int, stats: int) -> Launch:
        """What will be launched; see `grows`.

        Args:
            memory: address of the batch's bytes, as `Batch.write` laid them out.
            out: address for (N, C, crop, crop) uint8; stats: address for (N,) of `kernel.HEAD_STATS`.
        """
        count, layout, needs = len(batch.inputs), batch.layout, self._needs(batch)
        scratch = np.zeros((), kernel.SCRATCH)
        scratch["memory"] = self._scratch.at_least(needs.scratch).address
        scratch["bytes"] = needs.scratch // needs.blocks
        scratch["run_capacity"], scratch["masks_in_shared"] = kernel.RUN_CAPACITY, needs.masks
        inputs, stored, tables, axes = (
            np.uint64(memory + start) for start in (layout.inputs, layout.stored, layout.tables, layout.axes)
        )
        arguments = (
            inputs, np.int32(count), stored, tables, axes,
            self._kernel_spec, scratch[()], np.uint64(out), np.uint64(stats),
        )  # fmt: skip
        return Launch(needs.blocks, needs.shared, arguments)

    def launch(self, launch: Launch, stream: Any) -> None:
        """Launch it in a stream's order."""
        self._function(
            *launch.arguments,
            grid=(launch.blocks, 1),
            block=(self._threads, 1, 1),
            shared=launch.shared,
            stream=stream,
        )

    def _needs(self, batch: kernel.Batch) -> _Needs:
        rows, columns = batch.largest
        masks = kernel.shared_bytes(rows, columns, masks=True) <= self._device.shared_bytes
        blocks = min(len(batch.inputs), BLOCKS_A_PROCESSOR * self._device.processors)
        each = kernel.scratch_bytes(rows, columns, self._spec.crop, kernel.RUN_CAPACITY, masks=masks)
        return _Needs(blocks, masks, kernel.shared_bytes(rows, columns, masks=masks), blocks * each)

    def free(self) -> None:
        """Give the scratch back; nothing may be under way."""
        self._scratch.free()
