"""A model that is open: what runs go through, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from dtvit_edge.backend import Backend
from dtvit_edge.bundle import Bundle
from dtvit_edge.dicom.slice import SliceHeader, SliceImage
from dtvit_edge.errors import SliceRejected
from dtvit_edge.scoring.api import make_pipeline, open_executor
from dtvit_edge.scoring.configuration import Resolved
from dtvit_edge.scoring.executor import Executor
from dtvit_edge.scoring.identity import run_identity
from dtvit_edge.scoring.opening import Opening, begin_opening
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


@contextmanager
def opened_model(bundle: Bundle, chosen: Resolved) -> Iterator[OpenModel]:
    """A model, open in this process until the block ends.

    Raises:
        as `api.open_backend` and `api.open_executor`.
    """
    with begin_opening(bundle, chosen) as opening, model_from(bundle, opening) as model:
        yield model


@contextmanager
def model_from(bundle: Bundle, opening: Opening) -> Iterator[OpenModel]:
    """A model whose opening has begun, when it is done; with the self-test of one that has had none here.

    Raises:
        as `opened_model`.
    """
    backend = opening.backend()
    with open_executor(bundle, backend, opening.options) as executor:
        yield OpenModel(opening.options, opening.chosen.why, backend, executor)


@contextmanager
def model_of(bundle: Bundle, chosen: RunModel | Resolved) -> Iterator[RunModel]:
    """What is to be opened, open until the block ends; or a model that is open already, and stays open."""
    if isinstance(chosen, Resolved):
        with opened_model(bundle, chosen) as model:
            yield model
    else:
        yield chosen
