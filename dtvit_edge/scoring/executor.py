"""From slices to logits, whatever does it: on the CPU here, on the GPU in `fused`.

A chain takes batches and gives their answers in the same order. Several batches may be under way, so that a device
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
from dtvit_edge.preprocess.cpu import CpuPreprocessor, Prepared
from dtvit_edge.spec import OUTPUT_NAMES, OUTPUT_SIZES, PreprocessSpec


@dataclass(frozen=True)
class Answers:
    """What a chain says of a batch of N slices.

    Attributes:
        head_pixels: (N,) int64; brain_share: (N,) float64, as in `preprocess.cpu.Prepared`.
        logits: (N, 2) and (N, 3) float32 by output name; NaN for a slice that no model has seen.
    """

    head_pixels: NDArray[np.int64]
    brain_share: NDArray[np.float64]
    logits: Logits


class Chain(Protocol):
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

    def collect(self) -> Answers:
        """Wait for the oldest batch.

        Raises:
            DeviceFault: the device failed.
        """
        ...


class CpuChain:
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
        self._waiting: deque[Sequence[Prepared]] = deque()

    def prepare(self, slice_: Slice) -> Prepared:
        """All of preprocessing."""
        return self._prepare(slice_.stored, slice_.header.encoding)

    def submit(self, prepared: Sequence[Prepared]) -> None:
        """Keep the batch; `collect` computes."""
        self._waiting.append(prepared)

    def collect(self) -> Answers:
        """Run the model on those slices of the oldest batch that show a brain."""
        batch = self._waiting.popleft()
        shown = [i for i, p in enumerate(batch) if p.has_head and p.brain_share >= self._min_brain_share]
        logits = unseen(len(batch))
        if shown:
            found = self._backend.infer(np.stack([batch[i].pixels for i in shown]))
            for name in OUTPUT_NAMES:
                logits[name][shown] = found[name]
        return Answers(
            np.array([p.head_pixels for p in batch], np.int64), np.array([p.brain_share for p in batch]), logits
        )


def unseen(count: int) -> Logits:
    """Logits of slices that no model has seen."""
    return {name: np.full((count, size), np.nan, np.float32) for name, size in OUTPUT_SIZES.items()}


def joined(parts: Sequence[Answers]) -> Answers:
    """The answers of one batch that went in parts."""
    return Answers(
        np.concatenate([part.head_pixels for part in parts]),
        np.concatenate([part.brain_share for part in parts]),
        {name: np.concatenate([part.logits[name] for part in parts]) for name in OUTPUT_NAMES},
    )
