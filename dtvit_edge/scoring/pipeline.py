"""From images to rows: slices are read ahead in workers, the executor is kept busy, rows come in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import numpy as np

from dtvit_edge import reasons
from dtvit_edge.backend import Logits, softmax
from dtvit_edge.bundle import Manifest
from dtvit_edge.dicom.decoder_pool import ParallelReader
from dtvit_edge.dicom.slice import Rejection, SliceHeader, SliceImage
from dtvit_edge.errors import DeviceFault, SliceRejected
from dtvit_edge.reasons import Reason, Status
from dtvit_edge.results import SliceScore, slice_row
from dtvit_edge.scoring.executor import BatchResult, Executor
from dtvit_edge.scoring.image_reading import ImageReader, Reader, ReadImage
from dtvit_edge.scoring.prefetch import Prefetcher
from dtvit_edge.scoring.timings import Timings
from dtvit_edge.spec import ICH_OUTPUT, LOCATION_HEAD, LOCATION_OUTPUT, OUTPUT_NAMES

Probabilities = tuple[float, tuple[float, float, float]]

# So many images in a row whose answer is not finite are no chance: the model, its engine or the device is at fault.
MOST_FAULTS_IN_A_ROW = 3


@dataclass(frozen=True)
class ScoredBatch:
    """One batch's answers.

    Attributes:
        of: its images; indices: their numbers among those given, from 0.
        images: of each its slices' rows, in the order of its headers.
    """

    of: tuple[SliceImage, ...]
    indices: tuple[int, ...]
    images: tuple[tuple[SliceScore, ...], ...]

    @property
    def rows(self) -> tuple[SliceScore, ...]:
        """The rows of all images."""
        return tuple(chain.from_iterable(self.images))


@dataclass(frozen=True)
class _Answer:
    """What an executor's result means for one image: its scores, or why it has none."""

    head_pixels: int
    brain_share: float
    scores: Probabilities | SliceRejected


class Pipeline:
    """Turns images into rows: reads ahead in workers, keeps the executor busy, answers in order.

    Args:
        executor: opened.
        threshold: of a slice's haemorrhage probability, at or above which it is positive.
        workers: threads that read.
        reader: opens what reads slices; None reads files.
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
        reader: Callable[[], AbstractContextManager[Reader]] | None = None,
        timings: Timings | None = None,
        rejected: Callable[[SliceHeader, SliceRejected], None] = lambda header, error: None,
    ) -> None:
        self._threshold = threshold
        self._has_location = LOCATION_HEAD not in manifest.untrained_heads
        self._least_side = manifest.spec.least_side
        self._min_brain_share = least_brain_share(manifest, keep_all)
        self._reader = reader or partial(ParallelReader, fast=fast)
        self._executor = executor
        self._batch = executor.batch  # fixed batches stay as they are where an executor goes on with smaller ones
        self._workers = workers
        self._timings = timings or Timings()
        self._rejected = rejected
        self._under_way: deque[tuple[list[SliceImage], list[ReadImage]]] = deque()
        self._faults_in_a_row = 0

    def __call__(self, images: Iterable[SliceImage]) -> Iterator[ScoredBatch]:
        """Score images; rows come batch by batch, in order.

        Args:
            images: taken one by one, by the caller's thread, as room becomes free.

        Raises:
            DeviceFault: the device failed, or answers without a finite number again and again; `in_flight` says what
                it had been given.
        """
        taken: deque[SliceImage] = deque()

        def remembered() -> Iterator[SliceImage]:
            for image in images:
                taken.append(image)
                yield image

        # What the executor works on, and one batch more, so that it never waits for the readers at once.
        ahead = (self._executor.depth + 1) * self._batch
        self._faults_in_a_row = 0
        answered = 0
        with self._reader() as reader:
            read = ImageReader(reader, self._executor, self._least_side, self._timings)
            workers = 0 if isinstance(images, Sized) and len(images) < 2 else self._workers
            with Prefetcher(remembered(), read, workers, ahead) as prefetcher:
                while not prefetcher.finished or self._under_way:
                    if count := self._next_size(prefetcher):
                        batch = prefetcher.take(count)
                        self._submit([taken.popleft() for _ in batch], batch)
                    else:
                        of, rows = self._collect()
                        yield ScoredBatch(of, tuple(range(answered, answered + len(of))), rows)
                        answered += len(of)

    @property
    def in_flight(self) -> list[SliceImage]:
        """The images that were submitted and not answered."""
        return [image for images, _ in self._under_way for image in images]

    def _next_size(self, prefetcher: Prefetcher[SliceImage, ReadImage]) -> int:
        """Images to submit now; 0 where the oldest batch is to be waited for first."""
        if prefetcher.finished or len(self._under_way) >= self._executor.depth:
            return 0
        if self._executor.fixed:
            return self._batch
        ready = min(prefetcher.ready(), self._batch)
        # While the device is busy a batch may grow; an idle device takes what there is.
        return ready if ready == self._batch else 0 if self._under_way else max(ready, 1)

    def _submit(self, images: list[SliceImage], batch: list[ReadImage]) -> None:
        self._under_way.append((images, batch))  # first: where the device fails, `in_flight` must name it
        if prepared := [image.prepared for image in batch if image.prepared is not None]:
            if self._executor.padded:
                prepared += prepared[-1:] * (self._batch - len(prepared))
            with self._timings.stage("infer"):
                self._executor.submit(prepared)

    def _collect(self) -> tuple[tuple[SliceImage, ...], tuple[tuple[SliceScore, ...], ...]]:
        images, batch = self._under_way[0]
        answers: Iterator[_Answer] = iter(())
        # A batch of rejections alone was never submitted: to collect would take the answer of another batch.
        if any(read.prepared is not None for read in batch):
            with self._timings.stage("infer"):
                answers = self._answers(self._executor.collect())  # asked for as many as there are, padding has none
        rows = tuple(
            self._rows(image, read, None if read.prepared is None else next(answers))
            for image, read in zip(images, batch, strict=True)
        )
        self._under_way.popleft()  # last: until its rows are there it is in flight
        return tuple(images), rows

    def _answers(self, result: BatchResult) -> Iterator[_Answer]:
        """An image without a head or a brain in view is not scored, whether a model has seen it or not.

        Raises:
            DeviceFault: one image after the other has an answer that is not finite; those without one do not count.
        """
        finite = np.logical_and.reduce([np.isfinite(result.logits[name]).all(axis=1) for name in OUTPUT_NAMES])
        scores = probabilities({n: np.where(finite[:, None], v, np.float32(0)) for n, v in result.logits.items()})
        seen = result.inferred & (result.brain_share >= self._min_brain_share)
        for i, (head, share) in enumerate(zip(result.head_pixels.tolist(), result.brain_share.tolist(), strict=True)):
            if head == 0:
                yield _Answer(head, share, SliceRejected(reasons.NO_HEAD))
            elif not seen[i]:
                yield _Answer(head, share, SliceRejected(reasons.NO_BRAIN, f"brain share is {share:.3f}"))
            elif finite[i]:
                self._faults_in_a_row = 0
                yield _Answer(head, share, scores[i])
            else:
                self._faults_in_a_row += 1
                if self._faults_in_a_row == MOST_FAULTS_IN_A_ROW:
                    raise DeviceFault(
                        f"the model or its engine answers {MOST_FAULTS_IN_A_ROW} images in a row with numbers that are "
                        "not finite; look at it with `dtvit-edge verify`"
                    )
                yield _Answer(head, share, SliceRejected(reasons.MODEL_FAULT))

    def _rows(self, image: SliceImage, read: ReadImage, answer: _Answer | None) -> tuple[SliceScore, ...]:
        """Of each slice a row: why it could not be read, else what became of the image that it went into."""
        rows = []
        for header, measures in zip(image.headers, read.slices, strict=True):
            known: dict[str, Any] = {"place": image.place}
            outcome: SliceRejected | Probabilities
            if isinstance(measures, SliceRejected):
                outcome = measures
            else:
                assert answer is not None, "an image with a readable slice was not answered"
                outcome = answer.scores
                known |= {"measures": measures, "head_pixels": answer.head_pixels, "brain_share": answer.brain_share}
            if isinstance(outcome, SliceRejected):
                self._rejected(header, outcome)
                rows.append(rejected_row(header, outcome.reason, **known))
            else:
                rows.append(self._scored_row(header, *outcome, **known))
        return tuple(rows)

    def _scored_row(
        self, header: SliceHeader, ich: float, location: tuple[float, float, float], **known: Any
    ) -> SliceScore:
        return slice_row(
            header.identity,
            header.frame,
            header.path,
            Status.SCORED,
            ich_probability=ich,
            location_probabilities=location if self._has_location else None,
            ich=ich >= self._threshold,
            **known,
        )


def rejected_row(item: SliceHeader | Rejection, reason: Reason, **known: Any) -> SliceScore:
    """The row of a slice that is not scored; `known` are fields that it has all the same."""
    return slice_row(item.identity, item.frame, item.path, reason.status, reason.code, **known)


def least_brain_share(manifest: Manifest, keep_all: bool) -> float:
    """Slices with less brain in view are skipped."""
    return 0.0 if keep_all else manifest.spec.min_brain_share


def probabilities(logits: Logits) -> list[Probabilities]:
    """Softmax in float64: for each slice (P(ich), (P(deep), P(lobar), P(subtentorial) given haemorrhage))."""
    ich, location = softmax(logits[ICH_OUTPUT]), softmax(logits[LOCATION_OUTPUT])
    return [(float(a[1]), (float(b[0]), float(b[1]), float(b[2]))) for a, b in zip(ich, location, strict=True)]
