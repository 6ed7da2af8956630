"""The open model: a bundle, its backend and its executor, opened once and used by many calls, from any thread."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Collection, Generator, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dtvit_edge.bundle import Bundle, Trust
from dtvit_edge.dicom.discover import discover
from dtvit_edge.dicom.walk import Walk, walk
from dtvit_edge.errors import ConfigError
from dtvit_edge.scoring.api import StudyResult, make_pipeline, thresholds_of
from dtvit_edge.scoring.configuration import resolve
from dtvit_edge.scoring.handed_in import HandedIn, PrivateFolder
from dtvit_edge.scoring.opened import opened_model
from dtvit_edge.scoring.options import AUTO, READERS, Options
from dtvit_edge.scoring.prediction import Prediction, predict
from dtvit_edge.scoring.shared_executor import CLOSED, CallersExecutor, SharedExecutor
from dtvit_edge.scoring.studies import study_results
from dtvit_edge.scoring.volume import SUPINE, Volume, prepared_of
from dtvit_edge.spec import NOTICE

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

PathLike: TypeAlias = str | os.PathLike[str]
Results: TypeAlias = Generator[StudyResult, None, None]


def open_model(
    bundle: Bundle | PathLike,
    *,
    backend: str = AUTO,
    precision: str = AUTO,
    batch: int | None = None,
    threads: int | None = None,
    device: int | None = None,
    hint: str | None = None,
    threshold: float | None = None,
    any_series: bool = False,
    keep_all: bool = False,
    reader: str = READERS[0],
    deterministic: bool = False,
    workers: int | None = None,
    expect_digest: str | None = None,
    accept_engines: Collection[str] = (),
    trust: Trust | None = None,
) -> Model:
    """Open a model, which stays open until it is closed: `with open_model("model.dtvit") as model: ...`.

    Args:
        bundle: the path of a bundle, or one that is open.
        backend, precision, batch, threads, device, hint, threshold, any_series, keep_all, reader, deterministic,
            workers: see `Options`.
        expect_digest, accept_engines, trust: see `Bundle.open`; for a path alone.

    Raises:
        ConfigError, MissingDependency: wrong options, or a backend that is not here.
        BundleError and what comes of it: a bundle, a model or an engine that cannot be used.
        VerdictError: what has had no self-test on this device fails it.
        DeviceFault: the device failed.
    """
    options = Options(
        backend=backend,
        precision=precision,
        batch=batch,
        threads=threads,
        device=device,
        hint=hint,
        threshold=threshold,
        any_series=any_series,
        keep_all=keep_all,
        reader=reader,
        deterministic=deterministic,
        workers=workers,
    )
    if not isinstance(bundle, Bundle):
        bundle = Bundle.open(bundle, expect_digest=expect_digest, accept_engines=accept_engines, trust=trust)
    elif expect_digest is not None or accept_engines or trust is not None:
        raise ConfigError("expect_digest, accept_engines and trust are for a path; this bundle has been opened already")
    return Model(bundle, options).open()


class Model:
    """A bundle that answers; a context manager. `open_model` makes one.

    Any thread may call any method; calls take turns, batch by batch. A file, dataset or image that cannot be scored is
    a row with its reason. What is raised is wrong usage (`ConfigError`) and a device that failed (`DeviceFault`).
    A fork has no model of its parent's, and a model does not travel between processes: each opens its own.

    Attributes:
        bundle: whose answers these are.
    """

    def __init__(self, bundle: Bundle, options: Options) -> None:
        self.bundle = bundle
        self._options = options
        self._description: dict[str, str] = {}
        self._shared: SharedExecutor | None = None
        self._folder: PrivateFolder | None = None
        self._opening = threading.Lock()

    def open(self) -> Model:
        """Open it, where it is closed.

        Raises:
            as `open_model`.
        """
        with self._opening:
            if self._shared is None:
                chosen = resolve(self.bundle, self._options)
                self._options = chosen.options
                with ExitStack() as undo:
                    opened = undo.enter_context(opened_model(self.bundle, chosen))
                    self._description = opened.backend.describe()
                    shared = SharedExecutor(opened.executor, undo.pop_all().close)
                # A model that nobody closed goes with its last reference; at the end of Python the system takes it.
                self._dropped = weakref.finalize(self, shared.close)
                self._dropped.atexit = False
                self._shared = shared
        return self

    def close(self) -> None:
        """Free everything once what is being computed is done; again and again, if you like.

        A call that is under way in another thread ends with a `ConfigError`.
        """
        with self._opening:
            shared, self._shared = self._shared, None
            self._folder = None  # calls that are under way hold it
        if shared is not None:
            self._dropped.detach()
            shared.close()

    def __enter__(self) -> Model:
        return self.open()

    def __exit__(self, *details: object) -> None:
        self.close()

    def __reduce__(self) -> str | tuple[object, ...]:
        raise ConfigError("a model does not travel to another process; open it there, with `open_model`")

    def __repr__(self) -> str:
        state = "closed" if self._shared is None else f"{self.backend}, {self.precision}"
        return f"<Model {self.bundle.manifest.name!r}: {state}; {NOTICE}>"

    @property
    def backend(self) -> str:
        """The backend's name."""
        return self._options.backend

    @property
    def precision(self) -> str:
        """The precision of the model or engine that runs."""
        return self._options.precision

    @property
    def options(self) -> Options:
        """What was asked for, with backend and precision named."""
        return self._options

    @property
    def description(self) -> dict[str, str]:
        """Library, version, device and more of the backend, as `run.json` has them, and the bundle's digest."""
        return {"bundle": self.bundle.digest, "precision": self.precision, **self._description}

    def score(self, sources: PathLike | Iterable[PathLike], *, threshold: float | None = None) -> Results:
        """Score every study in folders and files, one after the other.

        Args:
            sources: a folder or a file, or several. A file that is given twice is scored once.
            threshold: of this call; None takes the model's.

        Returns:
            Studies in the order of their UIDs, those with nothing to score after the others. Files that belong to no
            study (not DICOM, unreadable) are the rows of a last one, whose UID is empty. Close the generator, or drop
            it, to leave off.

        Raises:
            ConfigError: no path, or one that is not there; at the call.
            DeviceFault: the device failed; while the results are taken.
        """
        options, executor = self._asked(threshold), self._executor()
        return self._results(walk(_paths(sources)), executor, options, nullcontext())

    def score_dataset(self, dataset: Dataset | bytes, *, threshold: float | None = None) -> StudyResult:
        """Score one dataset of pydicom, of one frame or many, or the bytes of one DICOM file.

        Returns:
            The rows that a folder with this file alone would have, its path being `000001`.

        Raises:
            ConfigError: it is neither.
            DeviceFault: the device failed.
        """
        (result,) = self.score_datasets([dataset], threshold=threshold)
        return result

    def score_datasets(self, datasets: Iterable[Dataset | bytes], *, threshold: float | None = None) -> Results:
        """Score datasets of pydicom, or the bytes of DICOM files, as if they lay in one folder.

        They are taken at the call. Until the last result they lie in a temporary folder that only this user can open,
        so that memory holds one at a time. Their paths are their numbers, `000001` and so on.

        Raises:
            ConfigError: none, or something else; at the call.
            DiskFault: the temporary folder cannot be written; at the call.
            DeviceFault: the device failed; while the results are taken.
        """
        options, executor = self._asked(threshold), self._executor()
        handed_in = HandedIn(datasets, self._private_folder())
        return self._results(handed_in.walk(), executor, options, handed_in)

    def score_bytes(self, data: bytes, *, threshold: float | None = None) -> StudyResult:
        """Score the bytes of one DICOM file; see `score_dataset`."""
        return self.score_dataset(data, threshold=threshold)

    def score_volume(
        self,
        hu: NDArray[np.number],
        spacing_mm: Sequence[float],
        orientation: str | Sequence[float] = SUPINE,
        *,
        positions_mm: Sequence[float] | None = None,
        name: str = "volume",
        threshold: float | None = None,
    ) -> StudyResult:
        """Score a scan of the head that is an array.

        What DICOM tags would say (contrast agent, kernel, tube voltage, part of the body) is not asked; geometry and
        values are judged as those of files are. Slices are read one by one, and never copied as a whole.

        Args:
            hu: (D, H, W) whole or real numbers in Hounsfield units, of any order in memory; see `Volume`.
            spacing_mm: between slices, rows and columns (z, y, x).
            orientation: where the axes go, as three letters or as DICOM's six direction cosines; see `Volume`. The
                default is `SPL`: slices go to the head (Superior), rows to the back (Posterior), columns to the
                patient's left, as in arrays that SimpleITK reads from DICOM.
            positions_mm: (D,) of slices that are not evenly spaced; see `Volume`.
            name: stands for the UIDs of study and series. `sop_uid` and `frame` of a row are the slice's number in the
                array, from 1; rows come in its order.

        Raises:
            ConfigError: it is no such array, or holds NaN or infinity; spacing or orientation that say nothing.
            DeviceFault: the device failed.
        """
        options, executor = self._asked(threshold), self._executor()
        volume = Volume(hu, spacing_mm, orientation, positions_mm=positions_mm, name=name)
        spec = self.bundle.manifest.spec
        pipeline = make_pipeline(self.bundle, executor, options, reader=lambda: nullcontext(volume))
        plan = volume.plan(any_series=options.any_series)
        (result,) = study_results(plan, pipeline, spec, thresholds_of(self.bundle, options).study.value)
        return replace(result, slices=tuple(sorted(result.slices, key=lambda row: row.frame)))

    def preprocess(self, hu: NDArray[np.number]) -> NDArray[np.uint8]:
        """What the model is shown of slices in Hounsfield units.

        Args:
            hu: (H, W) or (D, H, W), rows to the back, columns to the patient's left. Thin slices are not averaged.

        Returns:
            (N, C, side, side), N = 1 for one slice, C-contiguous; what shows no head is all 0.

        Raises:
            ConfigError: it is no such array, or holds NaN or infinity.
            DeviceFault: the device failed.
        """
        return prepared_of(hu, self._executor(), self.bundle.manifest.spec)

    def predict(self, pixels: NDArray[np.uint8]) -> Prediction:
        """What the model says of prepared bytes, whatever they show: no mask, no rule of a study is asked.

        Args:
            pixels: (N, C, side, side) uint8 as from `preprocess`, of any N and order in memory.

        Raises:
            ConfigError: they are of another type or shape.
            DeviceFault: the device failed, or the model answers with numbers that are not finite.
        """
        return predict(pixels, self._executor(), self.bundle.manifest)

    def _private_folder(self) -> PrivateFolder:
        with self._opening:
            if self._folder is None:
                self._folder = PrivateFolder()
            return self._folder

    def _executor(self) -> CallersExecutor:
        shared = self._shared
        if shared is None:
            raise ConfigError(CLOSED)
        return shared.for_caller()

    def _asked(self, threshold: float | None) -> Options:
        return self._options if threshold is None else replace(self._options, threshold=threshold)

    def _results(
        self, walked: Walk, executor: CallersExecutor, options: Options, holding: AbstractContextManager[object]
    ) -> Results:
        with holding:
            plan = discover(walked, any_series=options.any_series, fast=options.fast)
            pipeline = make_pipeline(self.bundle, executor, options)
            threshold = thresholds_of(self.bundle, options).study.value
            yield from study_results(plan, pipeline, self.bundle.manifest.spec, threshold)


def _paths(sources: PathLike | Iterable[PathLike]) -> list[Path]:
    """The paths that were given.

    Raises:
        ConfigError: there is none, or something else among them.
    """
    if isinstance(sources, (str, os.PathLike)):
        sources = [sources]
    if isinstance(sources, bytes) or not isinstance(sources, Iterable):
        raise ConfigError(f"sources are a path or several, not {type(sources).__name__}; `score_bytes` takes bytes")
    paths: list[Path] = []
    for source in sources:
        path = os.fspath(source) if isinstance(source, (str, os.PathLike)) else None
        if not isinstance(path, str) or not path or "\0" in path:
            raise ConfigError(f"source {len(paths) + 1} is no path: {type(source).__name__}, empty or not text")
        paths.append(Path(path))
    if not paths:
        raise ConfigError("no folder or file was given")
    return paths
