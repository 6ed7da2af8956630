"""The executor on the GPU: stored pixels go up once, five numbers a slice come back.

Reader threads lay pixels into page-locked memory. Two batches are under way at once: while the engine scores one in its
stream, the other's pixels are copied and prepared in the kernel's stream. On a Jetson the GPU reads the pixels where
they lie.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dtvit_edge.backend import Logits
from dtvit_edge.cuda.resources import Resources
from dtvit_edge.dicom.slice import Slice
from dtvit_edge.errors import ConfigError, DeviceFault, OutOfDeviceMemory
from dtvit_edge.preprocess import kernel
from dtvit_edge.preprocess.cpu import CpuPreprocessor, PreparedSlice
from dtvit_edge.preprocess.cuda import CudaPreprocessor
from dtvit_edge.scoring.executor import BatchResult
from dtvit_edge.scoring.gpu_slot import Prepared, Slot
from dtvit_edge.scoring.pinned_slices import PinnedSlice, PinnedSlices
from dtvit_edge.spec import PreprocessSpec
from dtvit_edge.trt.backend import EngineBackend

SLOTS = 2

log = logging.getLogger(__name__)


class GpuExecutor:
    """An executor whose preprocessing and model are one sequence of launches on the GPU; a context manager.

    Args:
        backend: opened.
        batch: slices a batch at most.
        fixed: batches are to be the same in every run.

    Raises:
        ConfigError: the engine takes no such batch.
    """

    depth = SLOTS

    def __init__(self, spec: PreprocessSpec, backend: EngineBackend, batch: int, *, fixed: bool = False) -> None:
        if batch > backend.batch:
            raise ConfigError(f"the engine takes batches up to {backend.batch}, not {batch}")
        self.batch = batch
        self.fixed = self.padded = fixed
        self._spec = spec
        self._backend = backend
        self._device = backend.device
        self._free: deque[Slot] = deque()
        # In order of submission; a batch that had to go in parts is finished at once and waits as a result.
        self._under_way: deque[Slot | BatchResult] = deque()

    def __enter__(self) -> GpuExecutor:
        self._device.call(self._open)
        return self

    def __exit__(self, *details: object) -> None:
        # In this thread: a reader amid `prepare` may wait for the owner thread, which must not wait for the reader.
        self._pinned.close()
        self._device.release(self._resources.free)

    def prepare(self, slice_: Slice) -> Prepared:
        """Lay its pixels into page-locked memory, where there is room; `submit` takes slices as they are, too."""
        return self._pinned.put(slice_)

    def submit(self, prepared: Sequence[Prepared]) -> None:
        """Queue a batch. Where the device's memory does not suffice, smaller ones from then on."""
        if len(prepared) > self.batch:
            self._submit_in_parts(prepared)
            return
        try:
            self._device.call(self._submit, prepared)
        except OutOfDeviceMemory as error:
            if len(prepared) == 1:
                raise DeviceFault(f"{error}, at batch 1") from error
            self.batch = (len(prepared) + 1) // 2
            log.warning("%s; batches of %d from here on", error, self.batch)
            self._submit_in_parts(prepared)

    def collect(self) -> BatchResult:
        """Wait for the oldest batch."""
        # Taken off the queue once it has answered: until then its memory is in use, and `_close` frees what is listed.
        result = self._result(self._under_way[0])
        self._under_way.popleft()
        return result

    def prepared_bytes(self, slices: Sequence[Slice]) -> NDArray[np.uint8]:
        """See `Executor.prepared_bytes`; nothing may be under way."""
        parts = [slices[i : i + self.batch] for i in range(0, len(slices), self.batch)]
        return np.concatenate([self._device.call(self._prepared_bytes, part) for part in parts])

    def logits(self, pixels: NDArray[np.uint8]) -> Logits:
        """See `Executor.logits`."""
        return self._backend.infer(pixels)

    def _prepared_bytes(self, slices: Sequence[Slice]) -> NDArray[np.uint8]:
        """The kernel alone, into the engine's own input, and a copy of that."""
        slot, engine = self._free[0], self._backend.engine
        engine.stream.synchronize()
        self._queue_preprocessing(slot, slices, engine.input)
        self._preprocess.stream.synchronize()
        pixels = engine.read_input(len(slices))
        for i in _left_to_the_cpu(_head_stats(slot, len(slices))):
            pixels[i] = self._with_the_cpu(slices[i]).pixels
        return pixels

    def _result(self, batch: Slot | BatchResult) -> BatchResult:
        return batch if isinstance(batch, BatchResult) else self._device.call(self._finish, batch)

    def _open(self) -> None:
        engine = self._backend.engine
        with Resources() as undo:
            self._preprocess = CudaPreprocessor(self._device, self._spec)
            undo.add(self._drop_preprocess)
            # The pipeline holds so many: batches under way, and those that readers are ahead of them.
            self._pinned = PinnedSlices(self._device, (2 * SLOTS + 1) * self.batch)
            undo.add(self._pinned.free)
            for _ in range(SLOTS):
                slot = Slot(self._device, engine.max_batch, engine.input_bytes)
                undo.add(slot.free)
                self._free.append(slot)
            undo.add(engine.forget_graphs)
            undo.add(engine.stream.synchronize)
            undo.add(self._preprocess.stream.synchronize)
            self._resources = undo

    def _drop_preprocess(self) -> None:
        try:
            self._preprocess.free()
        finally:
            del self._preprocess  # and the kernel's module with it, in this thread

    def _submit(self, prepared: Sequence[Prepared]) -> None:
        """Two streams: this batch is copied and prepared beside the engine's run of the one before."""
        # The slot stays in `_free` until all is queued: a batch that fails halfway must not take it along.
        slot, engine = self._free[0], self._backend.engine
        # Its memory is free: the slot's batch before was waited for in `_finish`.
        self._queue_preprocessing(slot, prepared, slot.input.address)
        slot.ready.record(self._preprocess.stream)
        # The engine must not read bytes that are still being made; the host goes on meanwhile.
        engine.stream.wait_for_event(slot.ready)
        engine.run_on(len(prepared), slot.input)
        engine.fetch(len(prepared), slot.logits)
        # Waited for instead of the stream, in which the next batch may be queued already.
        slot.done.record(engine.stream)
        slot.prepared = prepared
        self._under_way.append(self._free.popleft())

    def _queue_preprocessing(self, slot: Slot, prepared: Sequence[Prepared], out: int) -> None:
        placed = slot.upload(prepared, self._preprocess.stream)
        self._preprocess.launch(self._preprocess.prepare(placed, slot.inputs, out, slot.head_stats.address))
        slot.head_stats.download(self._preprocess.stream, slot.head_stats.nbytes)

    def _finish(self, slot: Slot) -> BatchResult:
        slot.done.synchronize()
        count = len(slot.prepared)
        stats = _head_stats(slot, count)
        head, brain = stats["head"].astype(np.int64), stats["brain"].astype(np.int64)
        everything = np.ones(count, bool)  # a batch is one launch: slices without a brain go through the model too
        result = BatchResult(head, brain / np.maximum(head, 1), everything, slot.logits.take(count))
        for i in _left_to_the_cpu(stats):
            self._on_the_cpu(slot.prepared[i], result, i)
        slot.prepared = ()
        self._free.append(slot)
        return result

    def _on_the_cpu(self, slice_: Prepared, result: BatchResult, row: int) -> None:
        prepared = self._with_the_cpu(slice_)
        result.head_pixels[row], result.brain_share[row] = prepared.head_pixels, prepared.brain_share
        for name, logits in self._backend.engine.infer(prepared.pixels[None]).items():
            result.logits[name][row] = logits[0]

    def _with_the_cpu(self, slice_: Prepared) -> PreparedSlice:
        encoding = slice_.encoding if isinstance(slice_, PinnedSlice) else slice_.header.encoding
        return CpuPreprocessor(self._spec)(np.ascontiguousarray(slice_.stored), encoding)

    def _submit_in_parts(self, prepared: Sequence[Prepared]) -> None:
        """Finish what is under way, give its memory back, and score smaller batches one after the other."""
        self._under_way = deque([self._result(s) for s in list(self._under_way)])
        self._device.call(self._shrink)
        parts = []
        left = prepared
        while left:
            part, left = left[: self.batch], left[self.batch :]  # `submit` may make `batch` smaller still
            self.submit(part)
            parts.append(self._result(self._under_way.pop()))
        self._under_way.append(BatchResult.concatenate(parts))

    def _shrink(self) -> None:
        self._preprocess.shrink()  # waits: of a batch that failed halfway copies may still run
        for slot in self._free:
            slot.shrink()


def _head_stats(slot: Slot, count: int) -> NDArray[np.void]:
    """What the kernel has counted, by slice; the copy must be through."""
    return slot.head_stats.host[: count * kernel.HEAD_STATS.itemsize].view(kernel.HEAD_STATS)


def _left_to_the_cpu(stats: NDArray[np.void]) -> list[int]:
    """Noise with more runs of pixels than the kernel labels: it has written no bytes for them."""
    return [int(i) for i in np.flatnonzero(stats["status"] == kernel.TOO_MANY_RUNS)]
