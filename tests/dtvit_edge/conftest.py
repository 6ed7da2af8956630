"""Bundles that engines are built from."""

from __future__ import annotations

import pytest

from dtvit_edge.bundle import Bundle
from tests.support.cuda.fixtures import kernel_library, make_gpu
from tests.support.typed_graphs import write_typed_bundle

__all__ = ["kernel_library", "make_gpu"]  # fixtures


@pytest.fixture(scope="session")
def typed_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """All five graphs of a one-block transformer, written by hand; read-only."""
    return write_typed_bundle(tmp_path_factory.mktemp("typed") / "typed.dtvit")
