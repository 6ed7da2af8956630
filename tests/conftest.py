"""Fixtures that several folders use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dtvit_edge.bundle import Bundle
from dtvit_edge.phantom import write_phantoms
from tests.support.tiny_bundle import write_tiny_bundle


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
    folder = tmp_path_factory.mktemp("phantoms")
    write_phantoms(folder, studies=2, seed=11)
    return folder
