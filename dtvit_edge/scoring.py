"""The loop: discover, read, preprocess, infer, aggregate.

`score` is the Python API, study by study. `run.run` adds the output folder: journal, resume and result files.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dtvit_edge import backends, reasons
from dtvit_edge.aggregate import series_score, study_score
from dtvit_edge.backends.base import Backend, Logits
from dtvit_edge.bundle import REFERENCE_PRECISION, Bundle, Manifest
from dtvit_edge.dicom.discover import Plan, discover, rejected_row, slice_row, walk
from dtvit_edge.dicom.geometry import has_gap
from dtvit_edge.dicom.pixels import SliceReader
from dtvit_edge.dicom.slice import SliceHeader
from dtvit_edge.errors import ConfigError, SliceRejected
from dtvit_edge.preprocess.cpu import CpuPreprocessor
from dtvit_edge.reasons import Status
from dtvit_edge.results import SeriesScore, SliceScore, StudyScore
from dtvit_edge.spec import ICH_OUTPUT, LOCATION_HEAD, LOCATION_OUTPUT

READERS = ("auto", "pydicom")

Chunk = tuple[SliceHeader, ...]


@dataclass(frozen=True)
class Options:
    """What changes results or batches; part of a run's identity.

    Attributes:
        backend: a name of `dtvit_edge.backends.NAMES`, or `auto`.
        batch: slices a chunk; None takes what suits the backend.
        threads: for the backend; None leaves it to the backend.
        hint: OpenVINO's inference precision, `bf16` where it is asked for by name; None is fp32.
        any_series: score unsuitable series all the same.
        keep_all: score slices with no brain in view as well.
        reader: `pydicom` reads every file with it, `auto` the plain case without.
    """

    backend: str = backends.AUTO
    precision: str = REFERENCE_PRECISION
    batch: int | None = None
    threads: int | None = None
    hint: str | None = None
    any_series: bool = False
    keep_all: bool = False
    reader: str = READERS[0]

    @property
    def plain(self) -> bool:
        """True where the plain case is read without pydicom."""
        return self.reader == "auto"

    def __post_init__(self) -> None:
        if self.reader not in READERS:
            raise ConfigError(f"reader is {self.reader!r}, expected one of {', '.join(READERS)}")
        for name, value in (("batch", self.batch), ("threads", self.threads)):
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}, expected 1 or more")


@dataclass(frozen=True)
class StudyResult:
    """One study: its score, its suitable series' and every row."""

    study: StudyScore
    series: tuple[SeriesScore, ...]
    slices: tuple[SliceScore, ...]


@dataclass
class Timings:
    """Seconds spent by stage."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of a `with` block to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - start


def score(bundle: Bundle, folders: Sequence[Path | str], options: Options | None = None) -> Iterator[StudyResult]:
    """Score every study below the folders, one after the other; those with nothing to score come last.

    Files that belong to no study (not DICOM, unreadable) are not part of any result; `run.run` lists them.

    Raises:
        ConfigError: a folder or a backend that is not there; before the first file.
        DeviceFault: the device failed.
    """
    options = options or Options()
    choice = backends.choose(options.backend)
    plan = discover(walk([Path(f) for f in folders]), any_series=options.any_series, plain=options.plain)
    with open_backend(bundle, choice.name, options) as backend:
        scorer = ChunkScorer(bundle.manifest, backend, keep_all=options.keep_all, plain=options.plain)
        rows: dict[str, list[SliceScore]] = defaultdict(list)
        todo = chunks(plan, options.batch or backend.batch)
        last_chunk = {header.identity.study_uid: i for i, chunk in enumerate(todo) for header in chunk}
        for i, chunk in enumerate(todo):
            for row in scorer(chunk):
                rows[row.study_uid].append(row)
            finished = [uid for uid in rows if last_chunk[uid] == i]
            for uid in finished:
                yield study_result(plan.study(uid), rows.pop(uid), bundle.manifest.ich_threshold)
    for uid in plan.study_uids:
        if uid not in last_chunk:
            yield study_result(plan.study(uid), (), bundle.manifest.ich_threshold)


def open_backend(bundle: Bundle, name: str, options: Options) -> Backend:
    """The backend, not yet entered, fed with the bundle's verified bytes."""
    load = partial(bundle.model_bytes, options.precision)
    return backends.create(name, load, options.precision, threads=options.threads, hint=options.hint)


def chunks(plan: Plan, size: int) -> list[Chunk]:
    """The slices of suitable series, in the plan's order, cut into batches that no later choice changes."""
    headers = [h for series in plan.series if series.refusal is None for h in series.headers]
    return [tuple(headers[i : i + size]) for i in range(0, len(headers), size)]


class ChunkScorer:
    """Turns a chunk of headers into rows, one a header, in order."""

    def __init__(
        self,
        manifest: Manifest,
        backend: Backend,
        *,
        keep_all: bool = False,
        plain: bool = True,
        timings: Timings | None = None,
        rejected: Callable[[SliceHeader, SliceRejected], None] = lambda header, error: None,
    ) -> None:
        self._threshold = manifest.ich_threshold
        self._has_location = LOCATION_HEAD not in manifest.untrained_heads
        self._least_side = manifest.spec.least_side
        self._min_brain_share = 0.0 if keep_all else manifest.spec.min_brain_share
        self._reader = SliceReader(plain=plain)
        self._prepare = CpuPreprocessor(manifest.spec)
        self._backend = backend
        self._timings = timings or Timings()
        self._rejected = rejected

    def __call__(self, chunk: Chunk) -> tuple[SliceScore, ...]:
        """Read, preprocess and infer; a slice that cannot be scored becomes a row with its reason."""
        rows: list[SliceScore | None] = []
        batch: list[NDArray[np.uint8]] = []
        for header in chunk:
            try:
                batch.append(self._bytes(header))
                rows.append(None)
            except SliceRejected as error:
                self._rejected(header, error)
                rows.append(rejected_row(header, error.reason))
        scores: Iterator[tuple[float, tuple[float, float, float]]] = iter(())
        if batch:
            with self._timings.stage("infer"):
                scores = iter(probabilities(self._backend.infer(np.stack(batch))))
        return tuple(
            row if row is not None else self._scored(header, *next(scores))
            for header, row in zip(chunk, rows, strict=True)
        )

    def _bytes(self, header: SliceHeader) -> NDArray[np.uint8]:
        if min(header.rows, header.columns) < self._least_side:
            raise SliceRejected(reasons.MATRIX_SIZE, f"{header.rows} x {header.columns}, the spec crops without resize")
        with self._timings.stage("read"):
            slice_ = self._reader.read(header)
        with self._timings.stage("preprocess"):
            prepared = self._prepare(slice_.stored, header.encoding)
        if not prepared.has_head:
            raise SliceRejected(reasons.NO_HEAD)
        if prepared.brain_share < self._min_brain_share:
            raise SliceRejected(reasons.NO_BRAIN, f"brain share is {prepared.brain_share:.3f}")
        return prepared.pixels

    def _scored(self, header: SliceHeader, ich: float, location: tuple[float, float, float]) -> SliceScore:
        return slice_row(
            header.identity,
            header.frame,
            header.path,
            Status.SCORED,
            ich_probability=ich,
            location_probabilities=location if self._has_location else None,
            ich=ich >= self._threshold,
        )


def probabilities(logits: Logits) -> list[tuple[float, tuple[float, float, float]]]:
    """Softmax in float64: for each slice (P(ich), (P(deep), P(lobar), P(subtentorial) given haemorrhage))."""

    def softmax(values: NDArray[np.float32]) -> NDArray[np.float64]:
        shifted = np.exp(values.astype(np.float64) - values.max(axis=1, keepdims=True))
        return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))

    ich, location = softmax(logits[ICH_OUTPUT]), softmax(logits[LOCATION_OUTPUT])
    return [(float(a[1]), (float(b[0]), float(b[1]), float(b[2]))) for a, b in zip(ich, location, strict=True)]


def study_result(plan: Plan, scored: Sequence[SliceScore], threshold: float) -> StudyResult:
    """Put one study together.

    Args:
        plan: the study's part of the plan.
        scored: the rows of its chunks, in any order.
    """
    by_slice = {(r.path, r.sop_uid, r.frame): r for r in scored}
    rows: list[SliceScore] = []
    series: list[SeriesScore] = []
    for part in plan.series:
        if part.refusal is not None:
            rows.extend(rejected_row(h, part.refusal) for h in part.headers)
            continue
        own = [by_slice[h.path, h.identity.sop_uid, h.frame] for h in part.headers]
        rows.extend(own)
        series.append(series_score(own, gap=has_gap(part.headers)))
    rows.extend(plan.rejected)
    study_uid = (plan.series or plan.rejected)[0].study_uid
    return StudyResult(study_score(study_uid, series, rows, threshold=threshold), tuple(series), tuple(rows))
