"""A model that is being opened in a thread of its own, while this one loads and reads what needs none.

Of a start on a CPU a third is spent in the libraries that hash and load a model, without Python's lock. This module
imports little, so that the command line can begin it before it loads the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from dtvit_edge import backends
from dtvit_edge.backend import Backend
from dtvit_edge.bundle import REFERENCE_PRECISION, Bundle
from dtvit_edge.progress import Progress
from dtvit_edge.scoring.configuration import Resolved, resolve
from dtvit_edge.scoring.journal import FILE_NAME as JOURNAL
from dtvit_edge.scoring.journal import begun_configuration
from dtvit_edge.scoring.options import AUTO, Options
from dtvit_edge.selftest import tolerance_key


def resolve_for(bundle: Bundle, out: Path, options: Options, *, overwrite: bool = False) -> Resolved:
    """Name what the options leave open, for an output folder that may have begun with something.

    Raises:
        ConfigError: a backend that is not here.
    """
    return resolve(bundle, options, None if overwrite else begun_configuration(out / JOURNAL))


def open_backend(bundle: Bundle, name: str, options: Options) -> Backend:
    """The backend, not yet entered, fed with the bundle's verified bytes.

    A precision of `auto` is fp32 here: only `configuration.resolve`, which says so, takes another for it.
    """
    asked = REFERENCE_PRECISION if options.precision == AUTO else options.precision
    if backends.runs_engines(name):
        from dtvit_edge.trt.store import load_engine

        load: Callable[..., Any] = partial(load_engine, bundle, name, precision=asked, unproven=True)
        precision = tolerance_key(bundle.manifest, asked)
    else:
        load, precision = backends.model_loader(name, bundle, asked, options.hint), asked
    return backends.create(name, load, precision, threads=options.threads, device=options.device, hint=options.hint)


def begin_opening(bundle: Bundle, chosen: Resolved, *, last: bool = False) -> Opening:
    """A model that is to be opened while something else is done; `opened.model_from` waits for it."""
    return Opening(open_backend(bundle, chosen.options.backend, chosen.options), chosen, last=last)


class Opening:
    """A backend that is opened while the block does something else; a context manager, whose end closes it.

    One that runs engines is opened at once, since what a GPU has belongs to the thread that made it.

    Args:
        backend: of `open_backend`, not yet entered.
        chosen: what it was made with.
        last: nothing but the end of the process comes after the block. The system takes a model back in less time than
            its library, so that one on the CPU is left to it; the next one that is left takes its place.
    """

    _left: Backend | None = None

    def __init__(self, backend: Backend, chosen: Resolved, *, last: bool = False) -> None:
        self.chosen = chosen
        self._last = last
        self._backend = backend
        self._opened: Future[Backend] = Future()
        self._thread: ThreadPoolExecutor | None = None

    @property
    def options(self) -> Options:
        """What it is opened with, resolved."""
        return self.chosen.options

    def __enter__(self) -> Opening:
        if backends.runs_engines(self.options.backend):
            self._opened.set_result(self._backend.__enter__())
            return self
        backends.load_library(self.options.backend)  # here: two threads that import can see each other's half
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="opening")
        self._opened = self._thread.submit(self._backend.__enter__)
        self._thread.shutdown(wait=False)  # it ends with what it was made for
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is not None:
            self._thread.shutdown(wait=True)
        if self._opened.exception() is not None:
            return
        left, Opening._left = Opening._left, None
        if left is not None:
            left.__exit__(None, None, None)
        if self._last and self._thread is not None:
            Opening._left = self._backend
        else:
            self._backend.__exit__(kind, error, trace)

    def backend(self) -> Backend:
        """The opened backend, which is waited for.

        Raises:
            DtvitError: what opening it raised.
        """
        backend = self._opened.result()
        if self._thread is not None:
            self._thread.shutdown(wait=True)
        return backend

    def require_not_failed(self) -> None:
        """Say at once that it cannot be opened, where that is known by now.

        Raises:
            DtvitError: as `backend`.
        """
        if self._opened.done():
            self._opened.result()

    def watched(self, progress: Progress) -> Progress:
        """The same, which ends a stage at its next step where the model cannot be opened."""

        @contextmanager
        def watching(stage: str, total: int) -> Iterator[Callable[[int], None]]:
            self.require_not_failed()
            with progress(stage, total) as step:

                def advance(steps: int) -> None:
                    self.require_not_failed()
                    step(steps)

                yield advance

        return watching
