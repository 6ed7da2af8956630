"""Scores one delivery in a temporary folder, as the command line would, and reads what it wrote."""

from __future__ import annotations

import csv
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.measure.faults.permissions import bound_by_permissions
from benchmarks.measure.faults.studies import Delivery
from dtvit_edge.bundle import Bundle
from dtvit_edge.errors import DtvitError
from dtvit_edge.scoring import api, opening
from dtvit_edge.scoring import run as scoring_run
from dtvit_edge.scoring.api import Options
from dtvit_edge.spec import ICH_OUTPUT

LIMIT_S = 30
"""A run over one small study takes a third of a second; one that takes this long waits for something."""

_IN_MEMORY = Path("/dev/shm")  # a disk's fsync is most of a small run's time


@dataclass(frozen=True)
class Outcome:
    """What became of a delivery.

    Attributes:
        studies, slices: rows of the two tables; empty where the run ended without them.
        exit_status: of the run; None where it ended with an error.
        error: the class and message of the error, else empty. ours: it is an error that the program foresees.
    """

    studies: tuple[dict[str, str], ...] = ()
    slices: tuple[dict[str, str], ...] = ()
    exit_status: int | None = None
    error: str = ""
    ours: bool = True


class Stalled(BaseException):
    """A run took longer than `LIMIT_S`. No Exception: a reader would take it for a broken file's."""


def run_delivery(bundle: Bundle, delivery: Delivery, options: Options | None = None) -> Outcome:
    """Write the delivery, score it and remove it; whatever goes wrong in the run is part of the outcome."""
    with tempfile.TemporaryDirectory(dir=_IN_MEMORY if _IN_MEMORY.is_dir() else None) as root:
        folder, outside, out = Path(root) / "given", Path(root) / "outside", Path(root) / "out"
        delivery.write(folder, outside)
        locked = [folder / name for name in delivery.locked if (folder / name).exists()]
        for path in locked:
            path.chmod(0o000)
        try:
            with bound_by_permissions() if locked else nullcontext(), _interfering(delivery, folder):
                return run_folder(bundle, folder, out, options)
        finally:
            for path in locked:
                path.chmod(0o700)


def run_folder(bundle: Bundle, folder: Path, out: Path, options: Options | None = None) -> Outcome:
    """Score a folder on one thread; whatever goes wrong is part of the outcome."""
    options = options or Options(backend="onnxruntime", precision="fp32", batch=8, threads=1, workers=1)
    try:
        with _limited():
            report = scoring_run.run(bundle, [folder], out, options)
    except (Exception, Stalled) as error:  # judged, whatever it is
        return Outcome(error=f"{type(error).__name__}: {error}", ours=isinstance(error, DtvitError))
    return Outcome(_table(out / "studies.csv"), _table(out / "slices.csv"), report.exit_status)


@contextmanager
def _interfering(delivery: Delivery, folder: Path) -> Iterator[None]:
    """What happens between planning and reading, and a model whose answers are changed."""
    if not delivery.meanwhile and delivery.answer is None:
        yield
        return
    original, original_plan = api.open_backend, scoring_run.make_plan

    def make_plan(*arguments: Any, **more: Any) -> Any:
        made = original_plan(*arguments, **more)
        for change in delivery.meanwhile:
            change(folder)
        return made

    def open_backend(*arguments: Any, **more: Any) -> Any:
        backend = original(*arguments, **more)
        return backend if delivery.answer is None else _Changed(backend, delivery.answer)

    with patch.object(scoring_run, "make_plan", make_plan), patch.object(opening, "open_backend", open_backend):
        yield


class _Changed:
    """A backend whose haemorrhage logits are changed; the rest is the backend's own."""

    def __init__(self, backend: Any, change: Callable[[Any], Any]) -> None:
        self._backend, self._change = backend, change

    def __enter__(self) -> _Changed:
        self._backend.__enter__()
        return self

    def __exit__(self, *details: object) -> None:
        self._backend.__exit__(*details)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def infer(self, pixels: Any) -> Any:
        logits = dict(self._backend.infer(pixels))
        return logits | {ICH_OUTPUT: self._change(logits[ICH_OUTPUT])}


@contextmanager
def _limited() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise Stalled(f"no end after {LIMIT_S} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _table(path: Path) -> tuple[dict[str, str], ...]:
    with path.open(newline="", encoding="utf-8") as file:
        return tuple(csv.DictReader(file))
