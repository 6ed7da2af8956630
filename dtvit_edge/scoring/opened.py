"""A model that is open: what runs go through, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from dtvit_edge import backends
from dtvit_edge.backend import Backend
from dtvit_edge.bundle import Bundle
from dtvit_edge.dicom.slice import SliceHeader, SliceImage
from dtvit_edge.errors import SliceRejected
from dtvit_edge.scoring.api import make_pipeline, open_backend, open_executor
from dtvit_edge.scoring.configuration import Resolved
from dtvit_edge.scoring.executor import Executor
from dtvit_edge.scoring.identity import run_identity
from dtvit_edge.scoring.options import Options
from dtvit_edge.scoring.pipeline import ScoredBatch
from dtvit_edge.scoring.timings import Timings


class ImagePipeline(Protocol):
    """What turns images into rows: `pipeline.Pipeline` on this machine."""

    @property
    def in_flight(self) -> list[SliceImage]:
        """The images that were taken and not answered."""
        ...

    def __call__(self, images: Iterable[SliceImage]) -> Iterator[ScoredBatch]:
        """Answer each image once, in any order.

        Raises:
            DeviceFault: what answers failed.
        """
        ...


class RunModel(Protocol):
    """What a run asks of a model, wherever it is open."""

    @property
    def options(self) -> Options:
        """What it was opened with, resolved: backend and precision are named."""
        ...

    @property
    def why(self) -> str:
        """Where these come from, in words."""
        ...

    @property
    def batch(self) -> int:
        """Slices a batch at most."""
        ...

    def identity(self, bundle: Bundle) -> dict[str, Any]:
        """What results depend on, as `identity.run_identity`."""
        ...

    def pipeline(
        self, bundle: Bundle, *, timings: Timings, rejected: Callable[[SliceHeader, SliceRejected], None]
    ) -> ImagePipeline:
        """What answers images; see `pipeline.Pipeline`."""
        ...

    def report_fields(self) -> dict[str, Any]:
        """What `run.json` says more of it, as plain JSON types."""
        ...


@dataclass(frozen=True)
class OpenModel:
    """A backend and its executor, opened by `api.open_backend` and `api.open_executor`; who opened them closes them.

    Attributes:
        options: that they were opened with, resolved: backend and precision are named.
        why: where these come from, in words.
    """

    options: Options
    why: str
    backend: Backend
    executor: Executor

    @property
    def batch(self) -> int:
        """Slices a batch at most."""
        return self.executor.batch

    def identity(self, bundle: Bundle) -> dict[str, Any]:
        """See `RunModel.identity`."""
        return run_identity(bundle, self.backend, self.executor.batch, self.options)

    def pipeline(self, bundle: Bundle, **more: Any) -> ImagePipeline:
        """See `RunModel.pipeline`."""
        return make_pipeline(bundle, self.executor, self.options, **more)

    def report_fields(self) -> dict[str, Any]:
        """See `RunModel.report_fields`."""
        return {}


Model = TypeVar("Model", bound=RunModel)


class Opening(Generic[Model]):
    """A model that is being opened; called, it waits for it, and raises what opening it raised."""

    def __init__(self, wait: Callable[[], Model], future: Future[Any] | None = None) -> None:
        self._wait = wait
        self._future = future

    def __call__(self) -> Model:
        """The model."""
        return self._wait()

    def has_not_failed(self) -> None:
        """Raise what opening the model raised, if it has: what is done meanwhile is of no use then."""
        if self._future is not None and self._future.done():
            self._future.result()


@contextmanager
def opening(bundle: Bundle, chosen: RunModel | Resolved) -> Iterator[Opening[Any]]:
    """Open a model while something else is done, such as reading headers: libraries load models without Python's lock.

    Args:
        chosen: what is to be opened, or an open model of the bundle, which stays open.

    Returns:
        What waits for the model. It raises what `api.open_backend` and `api.open_executor` do. A GPU's context belongs
        to a thread: there the model is opened in the one that asks for it.
    """
    if isinstance(chosen, Resolved):
        with opening_here(bundle, chosen) as opened:
            yield opened
    else:
        yield Opening(lambda: chosen)


@contextmanager
def opening_here(bundle: Bundle, chosen: Resolved) -> Iterator[Opening[OpenModel]]:
    """See `opening`, of a model that is opened in this process."""
    with ExitStack() as stack:

        def model() -> OpenModel:
            options = chosen.options
            backend = stack.enter_context(open_backend(bundle, options.backend, options))
            executor = stack.enter_context(open_executor(bundle, backend, options))
            return OpenModel(options, chosen.why, backend, executor)

        if backends.runs_engines(chosen.options.backend):
            yield Opening(model)
            return
        with ThreadPoolExecutor(1, thread_name_prefix="opening") as thread:
            future = thread.submit(model)
            yield Opening(future.result, future)
