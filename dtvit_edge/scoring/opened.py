"""A model that is open: what runs go through, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from dtvit_edge import backends
from dtvit_edge.backend import Backend
from dtvit_edge.bundle import Bundle
from dtvit_edge.scoring.api import open_backend, open_executor
from dtvit_edge.scoring.configuration import Resolved
from dtvit_edge.scoring.executor import Executor
from dtvit_edge.scoring.options import Options


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


@contextmanager
def opening(bundle: Bundle, chosen: OpenModel | Resolved) -> Iterator[Callable[[], OpenModel]]:
    """Open a model while something else is done, such as reading headers: libraries load models without Python's lock.

    Args:
        chosen: what is to be opened, or an open model of the bundle, which stays open.

    Returns:
        What waits for the model. It raises what `api.open_backend` and `api.open_executor` do. A GPU's context belongs
        to a thread: there the model is opened in the one that asks for it.
    """
    if isinstance(chosen, OpenModel):
        yield lambda: chosen
        return
    with ExitStack() as stack:

        def model() -> OpenModel:
            options = chosen.options
            backend = stack.enter_context(open_backend(bundle, options.backend, options))
            executor = stack.enter_context(open_executor(bundle, backend, options))
            return OpenModel(options, chosen.why, backend, executor)

        if backends.runs_engines(chosen.options.backend):
            yield model
            return
        with ThreadPoolExecutor(1, thread_name_prefix="opening") as thread:
            yield thread.submit(model).result
