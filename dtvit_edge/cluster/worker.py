"""What works on another machine, or in another process of this one: a bundle, opened once, and images to rows.

It knows nothing of Ray. What it says is plain data: an exception that crossed machines would stand in the logs of
whatever carries it, with all that its words may hold.
"""

from __future__ import annotations

import platform
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dtvit_edge.bundle import Bundle, Thresholds
from dtvit_edge.cluster.bundle_copy import write_copy
from dtvit_edge.dicom.decoder_pool import ParallelReader
from dtvit_edge.dicom.planned_file import FileState, present_state
from dtvit_edge.dicom.slice import Slice, SliceHeader, SliceImage
from dtvit_edge.environment import machine
from dtvit_edge.errors import BundleError, DeviceFault, DtvitError
from dtvit_edge.results import SliceScore
from dtvit_edge.scoring.api import make_pipeline
from dtvit_edge.scoring.configuration import resolve
from dtvit_edge.scoring.image_reading import Reader
from dtvit_edge.scoring.opened import opened_model
from dtvit_edge.scoring.options import Options
from dtvit_edge.scoring.shared_executor import SharedExecutor


@dataclass(frozen=True)
class Order:
    """What a worker is to open.

    Attributes:
        path, digest: of the bundle on the machine that asks; accepted: engines that somebody accepted, by digest.
        thresholds: in use there, whatever lies beside the bundle elsewhere.
        begun: what the output folder began with (`journal.begun_configuration`).
    """

    path: str
    digest: str
    accepted: tuple[str, ...]
    thresholds: Thresholds
    options: Options
    begun: dict[str, Any] | None


@dataclass(frozen=True)
class Opened:
    """A worker that is open: with what, and where.

    Attributes:
        options, why: resolved; identity: what results depend on.
    """

    options: Options
    why: str
    batch: int
    identity: dict[str, Any]
    machine: dict[str, str]
    host: str


@dataclass(frozen=True)
class Refused:
    """A worker that cannot open the bundle, in words; `absent` where it has not the bundle, which may be sent."""

    host: str
    message: str
    absent: bool = False


@dataclass(frozen=True)
class Failed:
    """The worker's device failed, in words; it is of no use any more."""

    message: str


class Worker:
    """Opens a bundle, and turns images into rows; several threads may ask at once."""

    def __init__(self) -> None:
        self._undo = ExitStack()
        self._shared: SharedExecutor | None = None
        self._counting = threading.Lock()
        self._done = 0

    def open(self, order: Order, sent: dict[str, bytes] | None = None) -> Opened | Refused:
        """Open the bundle: this machine's, where it has the very one at that path, else the one that was sent."""
        try:
            bundle = self._bundle(order, sent)
            if bundle is None:
                return Refused(platform.node(), f"it has no bundle of digest {order.digest[:12]}… at that path", True)
            bundle = replace(bundle, thresholds=order.thresholds)
            model = self._undo.enter_context(opened_model(bundle, resolve(bundle, order.options, order.begun)))
        except DtvitError as error:
            self.close()
            return Refused(platform.node(), str(error))
        self._bundle_open, self._options = bundle, model.options
        self._shared = SharedExecutor(model.executor, lambda: None)
        return Opened(model.options, model.why, model.batch, model.identity(bundle), machine(), platform.node())

    def sees(self, files: Sequence[tuple[str, FileState | None]]) -> int:
        """How many of some files are here as they were planned."""
        return sum(state is None or present_state(Path(file)) == state for file, state in files)

    def score(self, images: Sequence[SliceImage]) -> list[tuple[SliceScore, ...]] | Failed:
        """Of each image its slices' rows."""
        assert self._shared is not None, "the worker is not open"
        rows: dict[int, tuple[SliceScore, ...]] = {}
        try:
            pipeline = make_pipeline(
                self._bundle_open, self._shared.for_caller(), self._options, reader=self._counted_reader
            )
            for scored in pipeline(images):
                rows.update(zip(scored.indices, scored.images, strict=True))
                self._count()
        except DeviceFault as error:
            return Failed(str(error))
        except Exception as error:  # its words may hold a path, and Ray writes them down
            raise RuntimeError(type(error).__name__) from None
        return [rows[i] for i in range(len(images))]

    def done(self) -> int:
        """Slices read and batches answered so far: what a worker that stands still does not raise."""
        return self._done

    def close(self) -> None:
        """Free everything."""
        if self._shared is not None:
            self._shared.close()
        self._undo.close()

    def _bundle(self, order: Order, sent: dict[str, bytes] | None) -> Bundle | None:
        path = Path(order.path)
        if sent is not None:
            folder = self._undo.enter_context(tempfile.TemporaryDirectory(prefix="dtvit-bundle-"))
            path = Path(folder) / path.name
            write_copy(path, sent)
        try:
            return Bundle.open(path, expect_digest=order.digest, accept_engines=order.accepted, ignore_thresholds=True)
        except BundleError:
            if sent is None:  # none there, or another one: the very one can be sent
                return None
            raise

    def _counted_reader(self) -> AbstractContextManager[Reader]:
        return _counted(ParallelReader(fast=self._options.fast), self._count)

    def _count(self) -> None:
        with self._counting:
            self._done += 1


@contextmanager
def _counted(parallel: ParallelReader, count: Any) -> Iterator[Reader]:
    with parallel as reader:
        yield _CountedReader(reader, count)


class _CountedReader:
    def __init__(self, reader: Reader, count: Any) -> None:
        self._reader = reader
        self._count = count

    def read(self, header: SliceHeader) -> Slice:
        """See `Reader.read`."""
        try:
            return self._reader.read(header)
        finally:
            self._count()
