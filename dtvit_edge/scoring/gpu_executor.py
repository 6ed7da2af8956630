"""The executor on the GPU: stored pixels go up once, five numbers a slice come back.

Two batches are under way at once. While the GPU prepares and scores one, the host packs the next into page-locked
memory and its copy runs in a stream of its own. On a Jetson that memory is mapped and nothing is copied.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dtvit_edge.backend import Logits
from dtvit_edge.cuda.device import Device
from dtvit_edge.cuda.memory import Buffer, GrowableMemory
from dtvit_edge.cuda.resources import Resources
from dtvit_edge.dicom.slice import Slice
from dtvit_edge.errors import ConfigError, DeviceFault, OutOfDeviceMemory
from dtvit_edge.preprocess import kernel
from dtvit_edge.preprocess.cpu import CpuPreprocessor
from dtvit_edge.preprocess.cuda import CudaPreprocessor
from dtvit_edge.scoring.executor import BatchResult
from dtvit_edge.spec import PreprocessSpec
from dtvit_edge.trt.backend import EngineBackend
from dtvit_edge.trt.host_logits import HostLogits

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
        self._free: deque[_Slot] = deque()
        # In order of submission; a batch that had to go in parts is finished at once and waits as a result.
        self._under_way: deque[_Slot | BatchResult] = deque()

    def __enter__(self) -> GpuExecutor:
        self._device.call(self._open)
        return self

    def __exit__(self, *details: object) -> None:
        self._device.release(self._resources.free)

    def prepare(self, slice_: Slice) -> Slice:
        """Nothing: the GPU takes what is stored."""
        return slice_

    def submit(self, prepared: Sequence[Slice]) -> None:
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
        """The kernel alone, and a copy of what it leaves as the engine's input."""
        slot, engine = self._free[0], self._backend.engine
        batch = kernel.pack([(s.stored, s.header.encoding) for s in slices], self._spec)
        engine.stream.synchronize()
        memory = slot.memory.at_least(batch.layout.end)
        launch = self._preprocess.prepare_launch(batch, memory.address, engine.input, slot.head_stats.address)
        batch.write(memory.host)
        memory.upload(engine.stream, batch.layout.end)
        self._preprocess.launch(launch, engine.stream)
        return engine.read_input(len(slices))

    def _result(self, batch: _Slot | BatchResult) -> BatchResult:
        return batch if isinstance(batch, BatchResult) else self._device.call(self._finish, batch)

    def _open(self) -> None:
        engine = self._backend.engine
        with Resources() as undo:
            self._preprocess = CudaPreprocessor(self._device, self._spec)
            undo.add(self._drop_preprocess)
            self._copies = self._device.stream()
            undo.add(self._drop_copies)
            for _ in range(SLOTS):
                slot = _Slot(self._device, engine.max_batch)
                undo.add(slot.free)
                self._free.append(slot)
            undo.add(engine.forget_graphs)
            undo.add(engine.stream.synchronize)
            undo.add(self._copies.synchronize)
            self._resources = undo

    def _drop_preprocess(self) -> None:
        try:
            self._preprocess.free()
        finally:
            del self._preprocess  # and the kernel's module with it, in this thread

    def _drop_copies(self) -> None:
        del self._copies

    def _submit(self, prepared: Sequence[Slice]) -> None:
        """Two streams: the copy of this batch runs beside the computation of the one before; events keep the order."""
        # The slot stays in `_free` until all is queued: a batch that fails halfway must not take it along.
        slot, engine = self._free[0], self._backend.engine
        batch = kernel.pack([(s.stored, s.header.encoding) for s in prepared], self._spec)
        nbytes = batch.layout.end
        if self._preprocess.grows(batch):
            engine.stream.synchronize()  # the batch before may still work in the scratch that will be given back
        memory = slot.memory.at_least(nbytes)
        launch = self._preprocess.prepare_launch(batch, memory.address, engine.input, slot.head_stats.address)
        batch.write(memory.host)
        # Its memory is free: the slot's batch before was waited for in `_finish`.
        memory.upload(self._copies, nbytes)
        slot.uploaded.record(self._copies)
        # The kernel must not read pixels that are still on their way; the host goes on meanwhile.
        engine.stream.wait_for_event(slot.uploaded)
        engine.run(len(prepared), launch.key, lambda: self._preprocess.launch(launch, engine.stream))
        engine.fetch(len(prepared), slot.logits)
        slot.head_stats.download(engine.stream, slot.head_stats.nbytes)
        # Waited for instead of the stream, in which the next batch may be queued already.
        slot.done.record(engine.stream)
        slot.prepared = prepared
        self._under_way.append(self._free.popleft())

    def _finish(self, slot: _Slot) -> BatchResult:
        slot.done.synchronize()
        count = len(slot.prepared)
        stats = slot.head_stats.host[: count * kernel.HEAD_STATS.itemsize].view(kernel.HEAD_STATS)
        head, brain = stats["head"].astype(np.int64), stats["brain"].astype(np.int64)
        everything = np.ones(count, bool)  # a batch is one launch: slices without a brain go through the model too
        result = BatchResult(head, brain / np.maximum(head, 1), everything, slot.logits.take(count))
        for i in np.flatnonzero(stats["status"] == kernel.TOO_MANY_RUNS).tolist():
            self._on_the_cpu(slot.prepared[i], result, i)
        slot.prepared = ()
        self._free.append(slot)
        return result

    def _on_the_cpu(self, slice_: Slice, result: BatchResult, row: int) -> None:
        """Noise with more runs of pixels than the kernel labels: the CPU path prepares it."""
        prepared = CpuPreprocessor(self._spec)(slice_.stored, slice_.header.encoding)
        result.head_pixels[row], result.brain_share[row] = prepared.head_pixels, prepared.brain_share
        for name, logits in self._backend.engine.infer(prepared.pixels[None]).items():
            result.logits[name][row] = logits[0]

    def _submit_in_parts(self, prepared: Sequence[Slice]) -> None:
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
        self._backend.engine.forget_graphs()  # they hold the addresses of what is freed here
        self._preprocess.free()
        for slot in self._free:
            slot.memory.free()


class _Slot:
    """What one batch under way holds."""

    def __init__(self, device: Device, max_batch: int) -> None:
        self.prepared: Sequence[Slice] = ()
        with Resources() as undo:
            self.memory = GrowableMemory(device, Buffer)
            undo.add(self.memory.free)
            self.head_stats = Buffer(device, max_batch * kernel.HEAD_STATS.itemsize)
            undo.add(self.head_stats.free)
            self.logits = HostLogits(device, max_batch)
            undo.add(self.logits.free)
            undo.add(self._drop_events)
            self.uploaded, self.done = device.event(), device.event()
            self._resources = undo

    def free(self) -> None:
        """Give it back; nothing of it may be under way."""
        self._resources.free()

    def _drop_events(self) -> None:
        self.uploaded = self.done = None
