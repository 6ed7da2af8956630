"""Pictures of heads as a labelled set."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from calibration import deploy_engines
from dtvit_edge.bundle import Bundle
from tests.support.deploy_workshop import Workshop
from tests.support.outliers import outlier_graph
from tests.support.pictures import pictures
from tests.support.quick_statistics import coarse_entropy, few_resamples
from tests.support.threads import one_thread

__all__ = ["coarse_entropy", "few_resamples", "one_thread", "outlier_graph", "pictures"]


PATIENTS, SLICES = 5, 2


@pytest.fixture
def workshop(two_block_bundle: Bundle, few_pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    monkeypatch.setattr(deploy_engines.backend, "unavailable", lambda flavour: f"{flavour} is not installed")
    return Workshop(two_block_bundle, tmp_path, few_pictures, monkeypatch)


@pytest.fixture(scope="module")
def few_pictures(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As many patients as a calibration needs, with two pictures each."""
    folder = tmp_path_factory.mktemp("few")
    header, *rows = pictures.read_text().splitlines()
    kept = [row for row in rows if row.startswith(tuple(f"{p}-{i}." for p in range(PATIENTS) for i in range(SLICES)))]
    for row in kept:
        shutil.copy(pictures.parent / row.split(",")[0], folder)
    (folder / "labels.csv").write_text("\n".join([header, *kept]) + "\n")
    return folder / "labels.csv"
