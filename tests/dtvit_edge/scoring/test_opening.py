"""A model that is opened in a thread while the rest of a run is made ready."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dtvit_edge import backends
from dtvit_edge.bundle import Bundle
from dtvit_edge.dicom import walk
from dtvit_edge.errors import BundleError
from dtvit_edge.scoring import opening
from dtvit_edge.scoring.api import open_backend
from dtvit_edge.scoring.configuration import Resolved
from dtvit_edge.scoring.opening import Opening
from dtvit_edge.scoring.options import Options
from dtvit_edge.scoring.run import run
from tests.support.dicom_files import series
from tests.support.wrapped_backend import WrappedBackend

OPTIONS = Options(backend="onnxruntime", precision="fp32", threads=1)
MOST_SECONDS = 20  # a test that waited so long has failed


def opens(monkeypatch: pytest.MonkeyPatch, before: Callable[[], Any]) -> None:
    """Runs open real backends, and something happens first."""

    class Backend(WrappedBackend):
        def __enter__(self) -> Any:
            before()
            return super().__enter__()

    monkeypatch.setattr(opening, "open_backend", lambda *arguments: Backend(open_backend(*arguments)))


def fails_once_begun(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """A model that cannot be opened: it is said once the first event is set, and the second one is when it was."""
    begun, failed, true_enter = threading.Event(), threading.Event(), Opening.__enter__

    def fail() -> None:
        assert begun.wait(MOST_SECONDS)
        raise BundleError("it cannot be opened")

    def entered(opening: Opening) -> Opening:
        true_enter(opening)
        opening._opened.add_done_callback(lambda _: failed.set())
        return opening

    monkeypatch.setattr(Opening, "__enter__", entered)
    opens(monkeypatch, fail)
    return begun, failed


def steps(on_step: Callable[[], Any]) -> Any:
    @contextmanager
    def progress(stage: str, total: int) -> Iterator[Callable[[int], None]]:
        yield lambda count: on_step() if stage == "headers" else None

    return progress


def test_headers_are_read_while_the_model_is_being_opened(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    series(tmp_path / "in", [0, 5, 10])
    read, waited = threading.Event(), []
    opens(monkeypatch, lambda: waited.append(read.wait(MOST_SECONDS)))
    report = run(tiny_bundle, [tmp_path / "in"], tmp_path / "out", OPTIONS, progress=steps(read.set))
    assert waited == [True] and report.counts == {"scored": 3}


def test_a_model_that_cannot_be_opened_ends_the_reading_of_headers(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    series(tmp_path / "in", [0, 5, 10])
    read: list[bool] = []
    begun, failed = fails_once_begun(monkeypatch)

    def step() -> None:
        begun.set()
        read.append(failed.wait(MOST_SECONDS))

    with pytest.raises(BundleError, match="it cannot be opened"):
        run(tiny_bundle, [tmp_path / "in"], tmp_path / "out", OPTIONS, progress=steps(step))
    assert read == [True]
    assert not (tmp_path / "out").exists(), "nothing is written for a model that cannot be opened"


def test_a_model_that_cannot_be_opened_ends_the_listing_of_folders(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        (tmp_path / "in" / str(number)).mkdir(parents=True)
    listed: list[Path] = []
    entries = walk._Walker._entries

    def slow(walker: Any, place: Any, folder: str, path: str) -> Any:
        listed.append(Path(folder))
        begun.set()
        assert failed.wait(MOST_SECONDS)
        return entries(walker, place, folder, path)

    begun, failed = fails_once_begun(monkeypatch)
    monkeypatch.setattr(walk._Walker, "_entries", slow)
    with pytest.raises(BundleError, match="it cannot be opened"):
        run(tiny_bundle, [tmp_path / "in"], tmp_path / "out", OPTIONS)
    assert listed == [tmp_path / "in"]


@pytest.mark.parametrize("engines", [True, False], ids=["engines", "models"])
def test_what_runs_engines_is_opened_in_the_thread_that_asks(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, engines: bool
) -> None:
    threads: list[int] = []

    class Backend(WrappedBackend):
        def __enter__(self) -> Any:
            threads.append(threading.get_ident())
            return super().__enter__()

    backend = Backend(open_backend(tiny_bundle, "onnxruntime", OPTIONS))
    monkeypatch.setattr(backends, "runs_engines", lambda name: engines)
    with Opening(backend, Resolved(OPTIONS, "asked for")) as opening:  # type: ignore[arg-type]
        opening.backend()
    assert (threads == [threading.get_ident()]) == engines


def test_the_last_model_of_a_process_is_left_to_its_end_and_closed_by_the_next_one(tiny_bundle: Bundle) -> None:
    closed: list[str] = []

    def opened_and_left(name: str, *, last: bool) -> None:
        class Backend(WrappedBackend):
            def __exit__(self, *details: Any) -> None:
                closed.append(name)
                super().__exit__(*details)

        backend = Backend(open_backend(tiny_bundle, "onnxruntime", OPTIONS))
        with Opening(backend, Resolved(OPTIONS, "asked for"), last=last) as opening:  # type: ignore[arg-type]
            opening.backend()

    opened_and_left("left", last=True)
    assert closed == []
    opened_and_left("closed", last=False)
    assert closed == ["left", "closed"]
    opened_and_left("next", last=True)
    opened_and_left("again", last=False)
    assert closed == ["left", "closed", "next", "again"]
