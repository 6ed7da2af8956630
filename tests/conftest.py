"""Fixtures that several folders use, and what every run does before its first test."""

from __future__ import annotations

import csv
import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from dtvit_edge.bundle import Bundle
from dtvit_edge.phantom import write_phantoms
from tests.support.made_once import made_once
from tests.support.small_bundle import small_bundle, small_checkpoint, trimmed_bundle, two_block_bundle
from tests.support.tiny_bundle import write_tiny_bundle

__all__ = ["small_bundle", "small_checkpoint", "trimmed_bundle", "two_block_bundle"]  # fixtures


def pytest_collection_finish() -> None:
    """Leave what was imported out of every later collection of garbage: an export alone asks for eleven."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def state_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Engines of the tests are signed by a key of their own, in child processes as well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A real bundle whose graph is one mean and two linear layers; read-only."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny.dtvit")


@pytest.fixture(scope="session")
def tiny_bundle_without_location(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The same, with its location head marked untrained; read-only."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny.dtvit", untrained_heads=("location",))


@pytest.fixture(scope="session")
def phantom_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two phantom studies as DICOM, with truth.csv; read-only."""
    return made_once(tmp_path_factory, "phantoms", lambda folder: write_phantoms(folder, studies=2, seed=11))


@pytest.fixture
def few_phantoms(phantom_folder: Path, tmp_path: Path) -> Path:
    """A labelled set of thirty phantom slices by the names of ten patients, so that they can be split."""
    with (phantom_folder / "truth.csv").open(newline="") as stream:
        rows = sorted(csv.DictReader(stream), key=lambda row: row["ich"], reverse=True)[:30]
    with (tmp_path / "few.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "patient", "ich", "location"])
        for i, row in enumerate(rows):
            writer.writerow([phantom_folder / row["path"], f"P{i % 10}", row["ich"], row["location"]])
    return tmp_path / "few.csv"
