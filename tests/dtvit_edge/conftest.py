"""Bundles that engines are built from, and one that a test may change."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dtvit_edge.bundle import Bundle
from tests.support.cuda.fixtures import kernel_library, make_gpu
from tests.support.typed_graphs import write_typed_bundle

__all__ = ["kernel_library", "make_gpu"]  # fixtures


@pytest.fixture(scope="session")
def typed_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """All five graphs of a one-block transformer, written by hand; read-only."""
    return write_typed_bundle(tmp_path_factory.mktemp("typed") / "typed.dtvit")


@pytest.fixture
def bundle(tiny_bundle: Bundle, tmp_path: Path) -> Bundle:
    """A copy of the tiny bundle, of this test alone."""
    return Bundle.open(shutil.copytree(tiny_bundle.path, tmp_path / "b.dtvit"))
