"""From headers to rows: slices are read ahead in workers, the executor is kept busy, rows come in order."""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dtvit_edge import reasons
from dtvit_edge.backend import Logits
from dtvit_edge.bundle import Manifest
from dtvit_edge.dicom.decoder_pool import ParallelReader
from dtvit_edge.dicom.pixels import SliceReader
from dtvit_edge.dicom.slice import Rejection, SliceHeader
from dtvit_edge.errors import SliceRejected
from dtvit_edge.reasons import Reason, Status
from dtvit_edge.results import SliceScore, slice_row
from dtvit_edge.scoring.executor import BatchResult, Executor
from dtvit_edge.scoring.prefetch import Prefetcher
from dtvit_edge.spec import ICH_OUTPUT, LOCATION_HEAD, LOCATION_OUTPUT

Probabilities = tuple[float, tuple[float, float, float]]


@dataclass
class Timings:
    """Seconds spent by stage, summed over threads."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of a `with` block to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            with self._lock:
                self.seconds[name] += spent


@dataclass(frozen=True)
class ScoredBatch:
    """One batch's rows, and the indices of their headers."""

    indices: tuple[int, ...]
    rows: tuple[SliceScore, ...]


class Pipeline:
    """Turns headers into rows: reads ahead in workers, keeps the executor busy, answers in order.

    Args:
        executor: opened.
        threshold: of a slice's haemorrhage probability, at or above which it is positive.
        workers: threads that read.
        rejected: told of every slice that cannot be scored.
    """

    def __init__(
        self,
        manifest: Manifest,
        executor: Executor,
        threshold: float,
        *,
        keep_all: bool = False,
        fast: bool = True,
        workers: int = 1,
        timings: Timings | None = None,
        rejected: Callable[[SliceHeader, SliceRejected], None] = lambda header, error: None,
    ) -> None:
        self._threshold = threshold
        self._has_location = LOCATION_HEAD not in manifest.untrained_heads
        self._least_side = manifest.spec.least_side
        self._min_brain_share = least_brain_share(manifest, keep_all)
        self._fast = fast
        self._executor = executor
        self._batch = executor.batch  # fixed batches stay as they are where an executor goes on with smaller ones
        self._workers = workers
        self._timings = timings or Timings()
        self._rejected = rejected
        self._under_way: deque[tuple[list[int], list[Any]]] = deque()

    def __call__(self, headers: Sequence[SliceHeader], done: Container[int] = ()) -> Iterator[ScoredBatch]:
        """Score all headers but those whose index is done; rows come batch by batch, in order.

        Raises:
            DeviceFault: the device failed; `in_flight` says what it had been given.
        """
        todo = [i for i in range(len(headers)) if i not in done]
        sizes = deque(len(list(group)) for _, group in groupby(todo, lambda i: i // self._batch))
        indices = iter(todo)
        # What the executor works on, and one batch more, so that it never waits for the readers at once.
        ahead = (self._executor.depth + 1) * self._batch
        with (
            self._open_reader() as reader,
            Prefetcher(todo, partial(self._read, reader, headers), self._workers, ahead) as prefetcher,
        ):
            while not prefetcher.finished or self._under_way:
                if count := self._next_size(prefetcher, sizes):
                    batch = prefetcher.take(count)
                    self._submit([next(indices) for _ in batch], batch)
                else:
                    yield self._collect(headers)

    @property
    def in_flight(self) -> list[int]:
        """Indices of the slices that were submitted and not answered."""
        return [i for indices, _ in self._under_way for i in indices]

    def _next_size(self, prefetcher: Prefetcher[int, Any], sizes: deque[int]) -> int:
        """Slices to submit now; 0 where the oldest batch is to be waited for first."""
        if prefetcher.finished or len(self._under_way) >= self._executor.depth:
            return 0
        if self._executor.fixed:
            return sizes.popleft()
        ready = min(prefetcher.ready(), self._batch)
        # While the device is busy a batch may grow; an idle device takes what there is.
        return ready if ready == self._batch else 0 if self._under_way else max(ready, 1)

    def _submit(self, indices: list[int], batch: list[Any]) -> None:
        self._under_way.append((indices, batch))  # first: where the device fails, `in_flight` must name it
        if prepared := [item for item in batch if not isinstance(item, SliceRejected)]:
            with self._timings.stage("infer"):
                self._executor.submit(prepared)

    def _collect(self, headers: Sequence[SliceHeader]) -> ScoredBatch:
        indices, batch = self._under_way[0]
        outcomes: Iterator[SliceRejected | Probabilities] = iter(())
        # A batch of rejections alone was never submitted: to collect would take the answer of another batch.
        if not all(isinstance(item, SliceRejected) for item in batch):
            with self._timings.stage("infer"):
                outcomes = self._outcomes(self._executor.collect())
        rows = []
        for i, item in zip(indices, batch, strict=True):
            outcome = item if isinstance(item, SliceRejected) else next(outcomes)
            if isinstance(outcome, SliceRejected):
                self._rejected(headers[i], outcome)
                rows.append(rejected_row(headers[i], outcome.reason))
            else:
                rows.append(self._scored_row(headers[i], *outcome))
        self._under_way.popleft()  # last: until its rows are there it is in flight
        return ScoredBatch(tuple(indices), tuple(rows))

    def _open_reader(self) -> AbstractContextManager[SliceReader | ParallelReader]:
        if self._workers > 1:
            return ParallelReader(fast=self._fast)
        return nullcontext(SliceReader(fast=self._fast))

    def _read(self, reader: SliceReader | ParallelReader, headers: Sequence[SliceHeader], index: int) -> Any:
        """In a worker: what the executor takes, or why there is nothing to give it."""
        header = headers[index]
        if min(header.rows, header.columns) < self._least_side:
            return SliceRejected(
                reasons.MATRIX_SIZE, f"{header.rows} x {header.columns}, the spec crops without resize"
            )
        try:
            with self._timings.stage("read"):
                slice_ = reader.read(header)
        except SliceRejected as error:
            return error
        with self._timings.stage("preprocess"):
            return self._executor.prepare(slice_)

    def _outcomes(self, result: BatchResult) -> Iterator[SliceRejected | Probabilities]:
        """A slice without a head or a brain in view is not scored, whether a model has seen it or not."""
        scores = probabilities(result.logits)
        for head, share, slice_scores in zip(result.head_pixels, result.brain_share, scores, strict=True):
            if head == 0:
                yield SliceRejected(reasons.NO_HEAD)
            elif share < self._min_brain_share:
                yield SliceRejected(reasons.NO_BRAIN, f"brain share is {share:.3f}")
            else:
                yield slice_scores

    def _scored_row(self, header: SliceHeader, ich: float, location: tuple[float, float, float]) -> SliceScore:
        return slice_row(
            header.identity,
            header.frame,
            header.path,
            Status.SCORED,
            ich_probability=ich,
            location_probabilities=location if self._has_location else None,
            ich=ich >= self._threshold,
        )


def rejected_row(item: SliceHeader | Rejection, reason: Reason) -> SliceScore:
    """The row of a slice that is not scored."""
    return slice_row(item.identity, item.frame, item.path, reason.status, reason.code)


def least_brain_share(manifest: Manifest, keep_all: bool) -> float:
    """Slices with less brain in view are skipped."""
    return 0.0 if keep_all else manifest.spec.min_brain_share


def probabilities(logits: Logits) -> list[Probabilities]:
    """Softmax in float64: for each slice (P(ich), (P(deep), P(lobar), P(subtentorial) given haemorrhage))."""

    def softmax(values: NDArray[np.float32]) -> NDArray[np.float64]:
        shifted = np.exp(values.astype(np.float64) - values.max(axis=1, keepdims=True))
        return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))

    ich, location = softmax(logits[ICH_OUTPUT]), softmax(logits[LOCATION_OUTPUT])
    return [(float(a[1]), (float(b[0]), float(b[1]), float(b[2]))) for a, b in zip(ich, location, strict=True)]
