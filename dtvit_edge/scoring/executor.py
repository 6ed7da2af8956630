"""From slices to logits, whatever does it: on the CPU here, on the GPU in `gpu_executor`.

An executor takes batches and gives their answers in the same order. Several batches may be under way, so that a device
works on one while the host fills the next.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dtvit_edge.backend import Backend, Logits
from dtvit_edge.dicom.slice import Slice
from dtvit_edge.preprocess.cpu import CpuPreprocessor, PreparedSlice
from dtvit_edge.spec import OUTPUT_NAMES, OUTPUT_SIZES, PreprocessSpec


@dataclass(frozen=True)
class BatchResult:
    """What an executor says of a batch of N slices.

    Attributes:
        head_pixels: (N,) int64; brain_share: (N,) float64, as in `preprocess.cpu.PreparedSlice`.
        inferred: (N,) bool; False where no model has seen the slice, and its logits are zeros that mean nothing.
        logits: (N, 2) and (N, 3) float32 by output name.
    """

    head_pixels: NDArray[np.int64]
    brain_share: NDArray[np.float64]
    inferred: NDArray[np.bool_]
    logits: Logits

    @classmethod
    def concatenate(cls, parts: Sequence[BatchResult]) -> BatchResult:
        """The result of one batch that went in parts."""
        return cls(
            np.concatenate([part.head_pixels for part in parts]),
            np.concatenate([part.brain_share for part in parts]),
            np.concatenate([part.inferred for part in parts]),
            {name: np.concatenate([part.logits[name] for part in parts]) for name in OUTPUT_NAMES},
        )


class Executor(Protocol):
    """Preprocessing and a backend, together.

    Attributes:
        batch: slices a batch at most.
        depth: batches that may be under way at once.
        fixed: batches must be the same in every run for the same bytes; else they are formed from what is ready.
    """

    batch: int
    depth: int
    fixed: bool

    def prepare(self, slice_: Slice) -> Any:
        """The part that any thread may do ahead; its result goes to `submit`."""
        ...

    def submit(self, prepared: Sequence[Any]) -> None:
        """Begin a batch of 1 to `batch` slices.

        Raises:
            DeviceFault: the device failed.
        """
        ...

    def collect(self) -> BatchResult:
        """Wait for the oldest batch.

        Raises:
            DeviceFault: the device failed.
        """
        ...


class CpuExecutor:
    """The CPU path and any backend. Slices that will not be scored never reach the model.

    Args:
        backend: opened.
        min_brain_share: a slice with less is not shown to the model.
        batch: slices a batch at most.
    """

    depth = 1
    fixed = True

    def __init__(self, spec: PreprocessSpec, backend: Backend, min_brain_share: float, batch: int) -> None:
        self.batch = batch
        self._backend = backend
        self._min_brain_share = min_brain_share
        self._prepare = CpuPreprocessor(spec)
        self._waiting: deque[Sequence[PreparedSlice]] = deque()

    def prepare(self, slice_: Slice) -> PreparedSlice:
        """All of preprocessing."""
        return self._prepare(slice_.stored, slice_.header.encoding)

    def submit(self, prepared: Sequence[PreparedSlice]) -> None:
        """Keep the batch; `collect` computes."""
        self._waiting.append(prepared)

    def collect(self) -> BatchResult:
        """Run the model on those slices of the oldest batch that show a brain."""
        batch = self._waiting.popleft()
        inferred = np.array([p.has_head and p.brain_share >= self._min_brain_share for p in batch])
        logits = {name: np.zeros((len(batch), size), np.float32) for name, size in OUTPUT_SIZES.items()}
        if inferred.any():
            answer = self._backend.infer(
                np.stack([p.pixels for p, asked in zip(batch, inferred, strict=True) if asked])
            )
            for name in OUTPUT_NAMES:
                logits[name][inferred] = answer[name]
        head_pixels = np.array([p.head_pixels for p in batch], np.int64)
        return BatchResult(head_pixels, np.array([p.brain_share for p in batch]), inferred, logits)
