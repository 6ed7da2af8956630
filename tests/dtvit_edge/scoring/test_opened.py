"""A model is opened while headers are read."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dtvit_edge.bundle import Bundle
from dtvit_edge.errors import BundleError, ConfigError
from dtvit_edge.scoring import opened
from dtvit_edge.scoring import run as run_module
from dtvit_edge.scoring.api import Options, open_backend
from tests.support.dicom_files import series
from tests.support.scoring_runs import results, score


def test_headers_are_read_while_the_model_is_being_opened(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    series(tmp_path / "in", [0, 5, 10])
    score(tiny_bundle, tmp_path / "in", tmp_path / "reference")
    planned, waited = threading.Event(), []
    make_plan = run_module.make_plan

    def plan(*arguments: Any) -> Any:
        made = make_plan(*arguments)
        planned.set()
        return made

    def opened_after_the_plan(*arguments: Any) -> Any:
        waited.append(planned.wait(60))
        return open_backend(*arguments)

    monkeypatch.setattr(run_module, "make_plan", plan)
    monkeypatch.setattr(opened, "open_backend", opened_after_the_plan)
    score(tiny_bundle, tmp_path / "in", tmp_path / "out")
    assert waited == [True] and results(tmp_path / "out") == results(tmp_path / "reference")


def test_the_model_is_closed_where_the_plan_fails(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backends: list[Any] = []

    def noted(*arguments: Any) -> Any:
        backends.append(open_backend(*arguments))
        return backends[-1]

    monkeypatch.setattr(opened, "open_backend", noted)
    with pytest.raises(ConfigError, match="no such folder"):
        score(tiny_bundle, tmp_path / "absent", tmp_path / "out")
    (backend,) = backends
    assert backend._session is None


def test_a_model_that_cannot_be_opened_is_said_and_leaves_no_output_folder(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*arguments: Any) -> Any:
        raise BundleError("no such model")

    series(tmp_path / "in", [0])
    monkeypatch.setattr(opened, "open_backend", refuses)
    with pytest.raises(BundleError, match="no such model"):
        score(tiny_bundle, tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_that_cannot_be_opened_ends_the_reading_of_headers(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a large archive they take minutes, and over a share hours."""
    failing, steps = threading.Event(), []

    def refuses(*arguments: Any) -> Any:
        failing.set()
        raise BundleError("no such model")

    @contextmanager
    def counted(stage: str, total: int) -> Iterator[Any]:
        def step(n: int) -> None:
            steps.append(n)
            failing.wait(60)
            time.sleep(0.01)

        yield step

    series(tmp_path / "in", [5.0 * i for i in range(300)])
    monkeypatch.setattr(opened, "open_backend", refuses)
    with pytest.raises(BundleError, match="no such model"):
        run_module.run(tiny_bundle, [tmp_path / "in"], tmp_path / "out", Options(), progress=counted)
    assert 0 < len(steps) < 300 and not (tmp_path / "out").exists()
