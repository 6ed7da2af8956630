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
        fixed: batches are waited for until they are full; else they are formed from what is ready.
        padded: a slice's bytes depend on how many are computed with it, so that each batch is filled up to `batch`:
            neither its neighbours nor its place in the batch change them then.
    """

    batch: int
    depth: int
    fixed: bool
    padded: bool

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

    def prepared_bytes(self, slices: Sequence[Slice]) -> NDArray[np.uint8]:
        """What the model is shown of these slices: (N, C, side, side) uint8; for reports and proofs."""
        ...

    def logits(self, pixels: NDArray[np.uint8]) -> Logits:
        """What the model says of prepared bytes, as `Backend.infer`; for reports and gates."""
        ...


class CpuExecutor:
    """The CPU path and any backend. Slices that will not be scored never reach the model.

    Args:
        backend: opened.
        min_brain_share: a slice with less is not shown to the model.
        batch: slices a batch at most.
        padded: the model is always given `batch` slices. In fp32 and int8 both backends give the same bytes whatever
            the batch; OpenVINO's bf16 may not (1e-2 in the logits of timm's `test_vit`).
    """

    depth = 1
    fixed = True

    def __init__(
        self, spec: PreprocessSpec, backend: Backend, min_brain_share: float, batch: int, *, padded: bool = False
    ) -> None:
        self.batch = batch
        self.padded = padded
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
            pixels = [p.pixels for p, asked in zip(batch, inferred, strict=True) if asked]
            count = len(pixels)
            if self.padded:
                pixels += pixels[-1:] * (self.batch - count)
            answer = self._backend.infer(np.stack(pixels))
            for name in OUTPUT_NAMES:
                logits[name][inferred] = answer[name][:count]
        head_pixels = np.array([p.head_pixels for p in batch], np.int64)
        return BatchResult(head_pixels, np.array([p.brain_share for p in batch]), inferred, logits)

    def prepared_bytes(self, slices: Sequence[Slice]) -> NDArray[np.uint8]:
        """See `Executor.prepared_bytes`."""
        return np.stack([self.prepare(slice_).pixels for slice_ in slices])

    def logits(self, pixels: NDArray[np.uint8]) -> Logits:
        """See `Executor.logits`."""
        return self._backend.infer(pixels)
