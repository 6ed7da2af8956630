"""The executor on the GPU: stored pixels go up once, five numbers a slice come back.

Two batches are under way at once. While the GPU prepares and scores one, the host packs the next into page-locked
memory and its copy runs in a stream of its own. On a Jetson that memory is mapped and nothing is copied.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from dtvit_edge.cuda.memory import Buffer, GrowableMemory
from dtvit_edge.dicom.slice import Slice
from dtvit_edge.errors import ConfigError, DeviceFault, OutOfDeviceMemory
from dtvit_edge.preprocess import kernel
from dtvit_edge.preprocess.cpu import CpuPreprocessor
from dtvit_edge.preprocess.cuda import CudaPreprocessor
from dtvit_edge.scoring.executor import BatchResult
from dtvit_edge.spec import PreprocessSpec
from dtvit_edge.trt.backend import EngineBackend
from dtvit_edge.trt.execution import HostLogits

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
        self.fixed = fixed
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
        # After a fault every call fails, freeing included, and would hide the error that is on its way.
        if not self._device.broken:
            self._device.call(self._close)

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

    def _result(self, batch: _Slot | BatchResult) -> BatchResult:
        return batch if isinstance(batch, BatchResult) else self._device.call(self._finish, batch)

    def _open(self) -> None:
        self._preprocess = CudaPreprocessor(self._device, self._spec)
        self._copies = self._device.stream()
        self._free.extend(_Slot(self._device, self._backend.engine.max_batch) for _ in range(SLOTS))

    def _close(self) -> None:
        # Neither memory nor graphs may go while a copy or a launch still uses them.
        self._copies.synchronize()
        self._backend.engine.stream.synchronize()
        self._backend.engine.forget_graphs()
        for slot in (*self._free, *(s for s in self._under_way if isinstance(s, _Slot))):
            slot.free()
        self._preprocess.free()

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

    def __init__(self, device: Any, max_batch: int) -> None:
        self.memory = GrowableMemory(device, Buffer)
        self.head_stats = Buffer(device, max_batch * kernel.HEAD_STATS.itemsize)
        self.logits = HostLogits(device, max_batch)
        self.uploaded, self.done = device.cuda.Event(), device.cuda.Event()
        self.prepared: Sequence[Slice] = ()

    def free(self) -> None:
        self.memory.free()
        self.head_stats.free()
        self.logits.free()
