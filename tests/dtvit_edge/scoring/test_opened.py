"""A model is opened while headers are read, and closed whatever comes of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dtvit_edge.bundle import Bundle
from dtvit_edge.errors import BundleError, ConfigError
from dtvit_edge.scoring import opening
from dtvit_edge.scoring import run as run_module
from dtvit_edge.scoring.api import Options, open_backend
from tests.support.dicom_files import series
from tests.support.scoring_runs import score


def test_the_model_is_closed_where_the_plan_fails(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backends: list[Any] = []

    def noted(*arguments: Any) -> Any:
        backends.append(open_backend(*arguments))
        return backends[-1]

    monkeypatch.setattr(opening, "open_backend", noted)
    with pytest.raises(ConfigError, match="no such folder"):
        score(tiny_bundle, tmp_path / "absent", tmp_path / "out")
    (backend,) = backends
    assert backend._session is None


def test_a_model_that_is_refused_at_once_is_said_before_any_header_is_read_and_leaves_no_output_folder(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a large archive they take minutes, and over a share hours."""
    stages: list[str] = []

    @contextmanager
    def noted(stage: str, total: int) -> Iterator[Any]:
        stages.append(stage)
        yield lambda n: None

    def refuses(*arguments: Any) -> Any:
        raise BundleError("no such model")

    series(tmp_path / "in", [0])
    monkeypatch.setattr(opening, "open_backend", refuses)
    with pytest.raises(BundleError, match="no such model"):
        run_module.run(tiny_bundle, [tmp_path / "in"], tmp_path / "out", Options(), progress=noted)
    assert not stages and not (tmp_path / "out").exists()
